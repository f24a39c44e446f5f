//! Chance, for names and for spreading what would else happen in step.

use std::time::Duration;

/// Bytes that nobody can foresee; zeros if the system has none to give.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only where the system's generator can't be opened; no secret is made of these.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

/// A time that is shorter than this one by a fifth at the most, never longer.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let fraction = f64::from(u16::from_ne_bytes(bytes())) / f64::from(u16::MAX);
    duration.mul_f64(0.8 + 0.2 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_and_none_is_longer() {
        let whole = Duration::from_secs(1000);
        let times: Vec<Duration> = (0..1000).map(|_| jittered(whole)).collect();
        assert!(times.iter().all(|time| (whole * 4 / 5..=whole).contains(time)));
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*most - *least > whole / 10, "from {least:?} to {most:?}");
    }
}

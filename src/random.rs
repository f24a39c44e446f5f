//! Chance, for names and for spreading what would else happen in step.

use std::time::Duration;

/// Bytes that nobody can foresee; zeros if the system has none to give.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only where the system's generator can't be opened; no secret is made of these.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

/// A time that differs from this one by a tenth at the most.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let fraction = f64::from(u16::from_ne_bytes(bytes())) / f64::from(u16::MAX);
    duration.mul_f64(0.9 + 0.2 * fraction)
}

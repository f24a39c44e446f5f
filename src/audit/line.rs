//! How a record's line begins: what the journal and the readers need of it without decoding it.
//!
//! `{"time":"…","sequence":1,"kind":"intent","request_id":"…",`, letter by letter, for every record.

use std::fmt::{self, Display};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::record::Kind;

/// A record's time in UTC with microseconds, as its text; the texts order as the times do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time([u8; Time::LENGTH]);

/// The beginning of a record's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// When it was written.
    pub time: Time,
    /// Its number, from 1.
    pub sequence: u64,
    /// What it tells of.
    pub kind: Kind,
    /// The request that it belongs to.
    pub request_id: Option<Uuid>,
}

impl Time {
    const LENGTH: usize = 27;

    /// The time that it is.
    #[must_use]
    pub fn now() -> Self {
        let text = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        Self::parse(text.as_bytes()).unwrap_or(Self([b'9'; Self::LENGTH]))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let form = b"0000-00-00T00:00:00.000000Z";
        let fits = |(byte, form): (&u8, &u8)| match form {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        };
        text.iter().zip(form).all(fits).then_some(())?;
        text.try_into().ok().map(Self)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How much later it is than another; nothing when it is not later.
    #[must_use]
    pub fn since(&self, other: Self) -> Duration {
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        let (Some(this), Some(other)) = (time(self.as_str()), time(other.as_str())) else {
            return Duration::ZERO;
        };
        this.duration_since(other).unwrap_or_default()
    }

    /// The day, as `2026-01-31`.
    #[must_use]
    pub fn day(&self) -> &str {
        self.as_str().get(..10).unwrap_or_default()
    }
}

impl Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("not a record's time"))
    }
}

impl Head {
    /// Reads the beginning of a line; nothing when it is no record's.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (time, rest) = line.strip_prefix(b"{\"time\":\"")?.split_at_checked(Time::LENGTH)?;
        let rest = rest.strip_prefix(b"\",\"sequence\":")?;
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        let (sequence, rest) = rest.split_at_checked(digits)?;
        let rest = rest.strip_prefix(b",\"kind\":\"")?;
        let end = rest.iter().position(|byte| *byte == b'"')?;
        let (kind, rest) = rest.split_at_checked(end)?;
        let rest = rest.strip_prefix(b"\",\"request_id\":")?;
        let request_id = match rest.strip_prefix(b"\"") {
            None => rest.starts_with(b"null,").then_some(None)?,
            Some(rest) => Some(Uuid::try_parse_ascii(rest.get(..36)?).ok()?),
        };
        Some(Self {
            time: Time::parse(time)?,
            sequence: str::from_utf8(sequence).ok()?.parse().ok()?,
            kind: Kind::named(kind)?,
            request_id,
        })
    }
}

/// The beginning of a line, before the members that its record was encoded to.
pub(super) fn begin(line: &mut Vec<u8>, time: Time, sequence: u64) {
    use std::io::Write;
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(&time.0);
    // Writing to a vector does not fail.
    let _ = write!(line, "\",\"sequence\":{sequence},");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_as_it_is_written_and_not_otherwise() {
        let time = Time::now();
        let mut line = Vec::new();
        begin(&mut line, time, 17);
        line.extend_from_slice(b"\"kind\":\"outcome\",\"request_id\":null,");
        let head = Head { time, sequence: 17, kind: Kind::Outcome, request_id: None };
        assert_eq!(Head::parse(&line), Some(head));
        for end in 0..line.len() {
            assert_eq!(Head::parse(&line[..end]), None);
        }
        let with = |from: &str, to: &str| {
            String::from_utf8(line.clone()).unwrap().replace(from, to).into_bytes()
        };
        for wrong in
            [with("17", "-1"), with("outcome", "income"), with("null", "nul"), with("Z", "z")]
        {
            assert_eq!(Head::parse(&wrong), None);
        }
    }
}

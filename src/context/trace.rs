//! W3C Trace Context (the recommendation of 23 November 2021): which trace a request belongs to.
//!
//! What is malformed is not there: a `traceparent` that can't be read begins no trace and lends
//! nothing to one, and a `tracestate` that can't be read is not passed on.

use std::num::NonZeroU64;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::single;
use crate::random;

/// The trace and the span that a request comes from.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems keep with a trace, each in its own words.
pub static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest `tracestate` that is passed on, in bytes, and its most members (section 3.3.1).
const LONGEST_STATE: usize = 512;
const MOST_MEMBERS: usize = 32;
/// The longest key and the longest value of a member.
const LONGEST_WORD: usize = 256;

const SAMPLED: u8 = 1;

/// A trace: the caller's, or one that begins here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    /// The caller's span.
    parent_id: Option<NonZeroU64>,
    flags: u8,
    state: Option<HeaderValue>,
}

/// A place in a trace, for what else tells of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: u128,
    /// The gateway's span, where there is one that is recorded.
    pub span_id: Option<NonZeroU64>,
    /// The flags that the CMS is told.
    pub flags: u8,
}

impl TraceContext {
    /// The caller's.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let trace = Self::parse(single(headers, &TRACEPARENT)?)?;
        Some(Self { state: state(headers), ..trace })
    }

    /// A new one, which this share of all is sampled of.
    #[must_use]
    pub fn begin(sample_ratio: f64) -> Self {
        let trace_id = u128::from_ne_bytes(random::bytes()).max(1);
        // The low half is as random as the whole, and others that decide by it decide alike.
        let place = (trace_id as u64 >> 1) as f64;
        let is_sampled = place < sample_ratio * 2_f64.powi(63);
        Self { trace_id, parent_id: None, flags: u8::from(is_sampled), state: None }
    }

    /// Section 3.2.2 of the recommendation, letter by letter; of a version that is not known, what
    /// it has in common with this one (section 3.2.4).
    fn parse(text: &str) -> Option<Self> {
        let hexadecimal = |part: &str, length| {
            let is_hexadecimal = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (part.len() == length && is_hexadecimal)
                .then(|| u128::from_str_radix(part, 16).ok())
                .flatten()
        };
        let mut parts = text.splitn(5, '-');
        let version = hexadecimal(parts.next()?, 2)?;
        let trace_id = hexadecimal(parts.next()?, 32).filter(|id| *id != 0)?;
        let parent_id = hexadecimal(parts.next()?, 16)?;
        let flags = hexadecimal(parts.next()?, 2)?;
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        Some(Self {
            trace_id,
            parent_id: Some(NonZeroU64::new(u64::try_from(parent_id).ok()?)?),
            flags: u8::try_from(flags).ok()? & SAMPLED,
            state: None,
        })
    }

    /// The trace's id in hexadecimal.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The caller's span.
    #[must_use]
    pub fn parent_id(&self) -> Option<NonZeroU64> {
        self.parent_id
    }

    /// Whether whoever began it has it recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What tracing systems keep with it.
    #[must_use]
    pub fn state(&self) -> Option<&HeaderValue> {
        self.state.as_ref()
    }

    /// The place of a span of this gateway's in it.
    #[must_use]
    pub fn at(&self, span_id: Option<NonZeroU64>) -> SpanContext {
        SpanContext { trace_id: self.trace_id, span_id, flags: self.flags }
    }

    /// The header for the CMS: the same trace, with a span of this gateway's as its parent.
    #[must_use]
    pub fn for_upstream(&self, span_id: NonZeroU64) -> String {
        format!("00-{:032x}-{span_id:016x}-{:02x}", self.trace_id, self.flags)
    }
}

/// The id of a new span.
pub(crate) fn new_span_id() -> NonZeroU64 {
    NonZeroU64::new(u64::from_ne_bytes(random::bytes())).unwrap_or(NonZeroU64::MIN)
}

/// Its lines as one (RFC 9110, section 5.3), if all of them are good.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(&TRACESTATE).iter();
    let first = lines.next()?;
    let mut state = first.to_str().ok()?.to_owned();
    for line in lines {
        state.push(',');
        state.push_str(line.to_str().ok()?);
        if state.len() > LONGEST_STATE {
            return None;
        }
    }
    is_state(&state).then(|| HeaderValue::try_from(state).ok()).flatten()
}

/// Section 3.3.1 of the recommendation; a key may begin with a digit and hold an `@` anywhere, as
/// the draft of its next level has it.
fn is_state(state: &str) -> bool {
    let members: Vec<&str> = state
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    let keys = members.iter().map_while(|member| {
        let (key, value) = member.split_once('=')?;
        (is_key(key) && is_value(value)).then_some(key)
    });
    let mut keys: Vec<&str> = keys.collect();
    let (found, wanted) = (keys.len(), members.len());
    keys.sort_unstable();
    keys.dedup();
    let are_distinct = keys.len() == wanted;
    state.len() <= LONGEST_STATE && (1..=MOST_MEMBERS).contains(&found) && are_distinct
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = |byte: u8| is_first(byte) || b"_-*/@".contains(&byte);
    key.bytes().next().is_some_and(is_first) && key.bytes().all(fits) && key.len() <= LONGEST_WORD
}

fn is_value(value: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=LONGEST_WORD).contains(&value.len()) && value.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_kept_only_when_it_is_well_formed() {
        let trace = TraceContext::parse(GOOD).unwrap();
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent_id().unwrap().get(), 0x00f0_67aa_0ba9_02b7);
        assert!(trace.is_sampled());
        let sent = trace.for_upstream(NonZeroU64::MIN);
        assert_eq!(sent, "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_what_is_known_is_taken() {
        for more in ["", "-", "-what-ever"] {
            let later = GOOD.replacen("00", "01", 1) + more;
            assert_eq!(TraceContext::parse(&later), TraceContext::parse(GOOD), "{later}");
        }
        // Of the flags, one is known.
        let flags = GOOD.replace("-01", "-fe");
        assert!(!TraceContext::parse(&flags).unwrap().is_sampled());
        assert!(TraceContext::parse(&flags).unwrap().for_upstream(NonZeroU64::MIN).ends_with("00"));
    }

    #[test]
    fn new_traces_are_sampled_as_often_as_asked() {
        let sampled = |ratio| (0..1000).filter(|_| TraceContext::begin(ratio).is_sampled()).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 1000));
        assert!((300..700).contains(&sampled(0.5)));
        assert_ne!(TraceContext::begin(1.0).id(), TraceContext::begin(1.0).id());
    }

    fn passed_on(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(&TRACEPARENT, HeaderValue::from_static(GOOD));
        for line in lines {
            headers.append(&TRACESTATE, HeaderValue::from_str(line).unwrap());
        }
        let trace = TraceContext::of(&headers).unwrap();
        trace.state().map(|state| state.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_state_is_passed_on_only_when_it_is_well_formed() {
        let members = |many: usize| {
            (0..many).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",")
        };
        let of_length =
            |length: usize| format!("k={},l={}", "v".repeat(250), "v".repeat(length - 255));
        for good in [
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "rojo=1 , congo=2,",
            "tenant@system=a b !~",
            "0a_-*/=v",
            &members(32),
            &of_length(511),
            &format!("{}=v", "k".repeat(256)),
        ] {
            assert_eq!(passed_on(&[good]).as_deref(), Some(good));
        }
        assert_eq!(passed_on(&["a=1", "b=2"]).unwrap(), "a=1,b=2");
        let bad = [
            "",
            " ",
            ",",
            "a",
            "=v",
            "a=",
            "A=1",
            "a =1",
            "-a=1",
            "a=1=2",
            "a=1,a=2",
            "a=1,b",
            "a=\t1\t2",
            &members(33),
            &of_length(513),
            &format!("{}=v", "k".repeat(257)),
            &format!("k={}", "v".repeat(257)),
        ];
        for bad in bad {
            assert_eq!(passed_on(&[bad]), None, "{bad}");
        }
        assert_eq!(passed_on(&["a=1", "a=2"]), None);
        assert_eq!(passed_on(&["a=1", "b=\u{e9}"]), None);
        assert_eq!(passed_on(&[]), None);
    }

    #[test]
    fn a_state_without_its_trace_is_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(&TRACESTATE, HeaderValue::from_static("a=1"));
        assert_eq!(TraceContext::of(&headers), None);
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(TraceContext::of(&headers).is_some());
        headers.append(&TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::of(&headers), None, "two of them");
    }
}

//! Where something is in the store, as a part of a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is written as it is in a segment of a path: the unreserved characters of RFC 3986, section
/// 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a text is no place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLocation {
    /// Two slashes, or one at an end.
    #[error("has an empty part; write it without a slash at its ends and no two in a row")]
    Empty,
    /// `.` or `..`.
    #[error("has a part that is . or .., which a URL can't name")]
    Dots,
    /// What begins another part of a URL.
    #[error("holds ? or #; write a path alone")]
    Delimiter,
    /// A line break, a zero byte or their like.
    #[error("holds a control character")]
    Control,
}

/// A mount or path, encoded segment by segment.
pub(crate) fn encoded(text: &str) -> Result<String, NoLocation> {
    let encode = |segment: &str| match segment {
        "" => Err(NoLocation::Empty),
        "." | ".." => Err(NoLocation::Dots),
        _ if segment.contains(['?', '#']) => Err(NoLocation::Delimiter),
        _ if segment.contains(char::is_control) => Err(NoLocation::Control),
        _ => Ok(utf8_percent_encode(segment, ENCODED).to_string()),
    };
    let segments: Result<Vec<String>, NoLocation> = text.split('/').map(encode).collect();
    segments.map(|segments| segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_and_nothing_climbs() {
        for (text, expected) in [
            ("secret", Ok("secret")),
            ("team a/cms", Ok("team%20a/cms")),
            ("a/b-c_d.e~f", Ok("a/b-c_d.e~f")),
            ("a/100%", Ok("a/100%25")),
            ("a/%2e%2e/b", Ok("a/%252e%252e/b")),
            ("a/ü", Ok("a/%C3%BC")),
            ("a/b;c", Ok("a/b%3Bc")),
            ("", Err(NoLocation::Empty)),
            ("/a", Err(NoLocation::Empty)),
            ("a/", Err(NoLocation::Empty)),
            ("a//b", Err(NoLocation::Empty)),
            ("../sys", Err(NoLocation::Dots)),
            ("a/./b", Err(NoLocation::Dots)),
            ("a?version=1", Err(NoLocation::Delimiter)),
            ("a#b", Err(NoLocation::Delimiter)),
            ("a\r\nb", Err(NoLocation::Control)),
        ] {
            assert_eq!(encoded(text).as_deref(), expected.as_ref().copied(), "{text}");
        }
    }
}

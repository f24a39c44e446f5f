//! A user name and password as HTTP's Basic authentication sends them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use memchr::memmem;
use zeroize::Zeroizing;

use super::Secret;

/// The shortest password that is looked for in the CMS's words; a shorter one would be found in all.
const TELLING: usize = 8;
/// How often at the most a letter is seen where it is seldom.
const SELDOM: usize = 32;

/// A user name and password, as the `Authorization` header that they make (RFC 7617).
///
/// Its memory is zeroed when the last copy is dropped, and it can't be printed.
pub struct Credential {
    authorization: Bytes,
    password: Zeroizing<String>,
    source: &'static str,
    version: Option<String>,
}

impl Credential {
    pub(super) fn new(secret: Secret, source: &'static str) -> Self {
        let Secret { username, password, version } = secret;
        let pair = Zeroizing::new(format!("{}:{}", *username, *password));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let authorization = Zeroizing::new(format!("Basic {}", *encoded).into_bytes());
        Self { authorization: Bytes::from_owner(authorization), password, source, version }
    }

    /// The header's value, marked as sensitive.
    ///
    /// # Errors
    ///
    /// Never, since what a source gives holds no control character.
    pub(crate) fn authorization(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let mut value = HeaderValue::from_maybe_shared(self.authorization.clone())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Whether these words give it away, as those of a CMS that repeats what it was sent.
    pub(crate) fn is_in(&self, words: &[u8]) -> bool {
        let encoded = self.authorization.strip_prefix(b"Basic ").unwrap_or_default();
        let encoded = encoded.split(|byte| *byte == b'=').next().unwrap_or_default();
        let password = self.password.as_bytes();
        let has = |words: &[u8]| {
            are_in(words, encoded) || password.len() >= TELLING && are_in(words, password)
        };
        let may_be_escaped = memchr::memchr(b'\\', words).is_some();
        has(words) || may_be_escaped && has(&unescaped(words))
    }

    /// The kind of source that it came from.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// The source's own name for this version of it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.authorization == other.authorization
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authorization: _, password: _, source, version } = self;
        formatter
            .debug_struct("Credential")
            .field("source", source)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

/// Whether these words are in others.
fn are_in(mut words: &[u8], wanted: &[u8]) -> bool {
    // Where the first letter is seldom, there is nothing to prepare.
    for _ in 0..SELDOM {
        let place = wanted.first().and_then(|first| memchr::memchr(*first, words));
        let Some(from_there) = place.and_then(|place| words.get(place..)) else {
            return wanted.is_empty();
        };
        if from_there.starts_with(wanted) {
            return true;
        }
        words = from_there.get(1..).unwrap_or_default();
    }
    memmem::find(words, wanted).is_some()
}

/// Words without the escapes of JSON, which may hide a part of any text in them: some writers escape
/// the slash, others all that could be a tag or an attribute in HTML.
fn unescaped(words: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        let mut units = Vec::new();
        while let Some(unit) = utf16_unit(rest) {
            units.push(unit);
            rest = rest.get(6..).unwrap_or_default();
        }
        if units.is_empty() {
            plain.extend(rest.get(1));
            rest = rest.get(2..).unwrap_or_default();
        } else {
            plain.extend_from_slice(String::from_utf16_lossy(&units).as_bytes());
        }
    }
    plain.extend_from_slice(rest);
    plain
}

/// Of an escape like `\u003d` at the beginning of these words.
fn utf16_unit(words: &[u8]) -> Option<u16> {
    let digits = words.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

//! The form of the revocation list, read strictly: all of it or nothing.
//!
//! ```json
//! {"revoked": [
//!   {"token_id": "0190…", "issuer": "https://idp.example.com/"},
//!   {"subject": "alice", "issued_before": "2026-11-25T10:00:00Z"},
//!   {"subject": "bob", "client_id": "dialer"}
//! ]}
//! ```
//!
//! An entry is about the tokens that have everything it names. With `issued_before` (RFC 3339, or
//! whole seconds since 1970) it is about those that were issued earlier or don't say when; without,
//! about all of them.

use std::fmt::{self, Write};
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_path_to_error::Segment;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::list::RevocationList;

/// Why a text is no revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
pub struct RevocationFault {
    /// Where, as a JSON pointer (RFC 6901); nothing when the text as a whole is at fault.
    pub place: Option<String>,
    /// What is wrong.
    pub message: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<RevocationList, RevocationFault> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let Object(document): Object<Document> = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| RevocationFault {
            place: pointer(error.path()),
            message: error.inner().to_string(),
        })?;
    deserializer
        .end()
        .map_err(|error| RevocationFault { place: None, message: error.to_string() })?;
    Ok(document.revoked)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    revoked: RevocationList,
}

/// Entry by entry, so that what is too long is refused before it fills the memory.
impl<'de> Deserialize<'de> for RevocationList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = RevocationList;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut list = RevocationList::default();
                while let Some(entry) = access.next_element::<Entry>()? {
                    if list.entries() == RevocationList::MOST {
                        let most = RevocationList::MOST;
                        return Err(A::Error::custom(format_args!("more than {most} entries")));
                    }
                    list.insert(entry);
                }
                Ok(list)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// What an entry is about.
#[derive(serde::Deserialize)]
#[serde(try_from = "Object<Written>")]
pub(super) struct Entry {
    pub(super) issuer: Option<Box<str>>,
    pub(super) subject: Option<Box<str>>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) token_id: Option<Box<str>>,
    pub(super) issued_before: Option<u64>,
}

/// An entry as it is written, which may be about nothing.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "present")]
    token_id: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    subject: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    client_id: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    issuer: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    issued_before: Option<Instant>,
}

impl TryFrom<Object<Written>> for Entry {
    type Error = &'static str;

    fn try_from(Object(written): Object<Written>) -> Result<Self, Self::Error> {
        let Written { token_id, subject, client_id, issuer, issued_before } = written;
        if token_id.is_none() && subject.is_none() && client_id.is_none() {
            return Err("names neither token_id nor subject nor client_id");
        }
        let text = |name: Option<Name>| name.map(|name| name.0);
        Ok(Self {
            issuer: text(issuer),
            subject: text(subject),
            client_id: text(client_id),
            token_id: text(token_id),
            issued_before: issued_before.map(|instant| instant.0),
        })
    }
}

/// An object and nothing else: what serde derives would take a list of the members' values too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(access))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// What is there must hold something: null is no way to leave it out.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

struct Name(Box<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        if text.is_empty() { Err(D::Error::custom("must not be empty")) } else { Ok(Self(text)) }
    }
}

/// The first whole second that is not before it, since `iat` counts whole ones.
struct Instant(u64);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Moment;

        impl Visitor<'_> for Moment {
            type Value = Instant;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(
                    "an instant since 1970, as \"2026-11-25T10:00:00Z\" or whole seconds",
                )
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Instant, E> {
                Ok(Instant(seconds))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Instant, E> {
                let wrong = || E::invalid_value(Unexpected::Str(text), &self);
                let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
                let seconds = u64::try_from(instant.unix_timestamp()).map_err(|_| wrong())?;
                Ok(Instant(seconds + u64::from(instant.nanosecond() > 0)))
            }
        }

        deserializer.deserialize_any(Moment)
    }
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> Option<String> {
    let mut text = String::new();
    for segment in path {
        let _ = match segment {
            Segment::Seq { index } => write!(text, "/{index}"),
            Segment::Map { key } => write!(text, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => Ok(()),
        };
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_with_its_place() {
        let cases = [
            ("", None, "EOF"),
            ("[]", None, "expected an object"),
            ("[[]]", None, "expected an object"),
            ("{}", None, "revoked"),
            (r#"{"revoked":[]} {}"#, None, "trailing"),
            ("\u{feff}{\"revoked\":[]}", None, "expected value"),
            (r#"{"revoked":{}}"#, Some("/revoked"), "a list of entries"),
            (r#"{"revoked":[],"revoked":[]}"#, None, "duplicate"),
            (r#"{"revoked":[],"note":1}"#, Some("/note"), "unknown field"),
            (r#"{"revoked":[{"subject":"a"},{}]}"#, Some("/revoked/1"), "names neither"),
            (r#"{"revoked":[{"issuer":"a"}]}"#, Some("/revoked/0"), "names neither"),
            (r#"{"revoked":[{"issued_before":1}]}"#, Some("/revoked/0"), "names neither"),
            (r#"{"revoked":["alice"]}"#, Some("/revoked/0"), "expected an object"),
            (r#"{"revoked":[["a","b","c","d",1]]}"#, Some("/revoked/0"), "expected an object"),
            (r#"{"revoked":[{"subject":""}]}"#, Some("/revoked/0/subject"), "empty"),
            (r#"{"revoked":[{"subject":null}]}"#, Some("/revoked/0/subject"), "null"),
            (r#"{"revoked":[{"subject":3}]}"#, Some("/revoked/0/subject"), "invalid type"),
            (r#"{"revoked":[{"sub":"a"}]}"#, Some("/revoked/0/sub"), "unknown field"),
            (
                r#"{"revoked":[{"subject":"a","subject":"b"}]}"#,
                Some("/revoked/0"),
                "duplicate field `subject`",
            ),
            (
                r#"{"revoked":[{"subject":"a","issued_before":"yesterday"}]}"#,
                Some("/revoked/0/issued_before"),
                "an instant",
            ),
            (
                r#"{"revoked":[{"subject":"a","issued_before":-1}]}"#,
                Some("/revoked/0/issued_before"),
                "an instant",
            ),
            (
                r#"{"revoked":[{"subject":"a","issued_before":1.5}]}"#,
                Some("/revoked/0/issued_before"),
                "an instant",
            ),
            (
                r#"{"revoked":[{"subject":"a","issued_before":"1969-12-31T23:59:59Z"}]}"#,
                Some("/revoked/0/issued_before"),
                "an instant",
            ),
        ];
        for (text, place, words) in cases {
            let fault = RevocationList::parse(text.as_bytes()).unwrap_err();
            assert_eq!(fault.place.as_deref(), place, "{text}: {fault}");
            assert!(fault.message.contains(words), "{text}: {fault}");
        }
    }

    #[test]
    fn a_list_of_too_many_entries_is_refused() {
        let entries = vec![r#"{"subject":"a"}"#; RevocationList::MOST];
        let text = format!(r#"{{"revoked":[{}]}}"#, entries.join(","));
        assert!(text.len() <= RevocationList::LARGEST);
        assert_eq!(RevocationList::parse(text.as_bytes()).unwrap().entries(), entries.len());
        let text = text.replacen('[', r#"[{"subject":"a"},"#, 1);
        let fault = RevocationList::parse(text.as_bytes()).unwrap_err();
        assert!(fault.message.contains("more than 1000000"), "{fault}");
    }
}

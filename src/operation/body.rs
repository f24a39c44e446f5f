//! The strict reading of a body, and its faults, each named by its place as an RFC 6901 pointer.
//!
//! An operation's [`Reader`]s note in a [`Cursor`] where they are, so that whatever goes wrong,
//! in their own rules or in the JSON itself, is told with that place. They see the text as
//! `serde_json` reads it: no tree is built, and no value of the body gets into a message.

use std::cell::RefCell;
use std::fmt::{self, Display};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The longest name of a client's that a message repeats, in characters.
const SHOWN: usize = 64;

/// A body that can't be taken: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is refused at {}: {message}", Shown(pointer))]
pub struct BodyFault {
    /// An RFC 6901 pointer; empty for the body as a whole.
    pub pointer: String,
    /// What is wrong there, and what would be right. No value of the body is repeated.
    pub message: String,
}

struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            formatter.write_str("\"\" (the whole)")
        } else {
            formatter.write_str(self.0)
        }
    }
}

/// Where in the body the reading is, as the steps from its root.
#[derive(Debug, Default)]
pub(super) struct Cursor(RefCell<Vec<Step>>);

/// One level down: into a member or an element.
#[derive(Debug)]
pub(super) enum Step {
    Field(&'static str),
    /// A name of the client's.
    Name(String),
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(field: &'static str) -> Self {
        Self::Field(field)
    }
}

impl From<String> for Step {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Cursor {
    /// Goes one level down, does `read` there, and comes back if that went well: after a fault it
    /// stays at the place of the fault.
    pub(super) fn at<T, E>(
        &self,
        step: impl Into<Step>,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let depth = self.0.borrow().len();
        self.descend(step);
        let value = read()?;
        self.0.borrow_mut().truncate(depth);
        Ok(value)
    }

    fn descend(&self, step: impl Into<Step>) {
        self.0.borrow_mut().push(step.into());
    }

    /// A fault one level down.
    pub(super) fn fault<E: Error>(&self, step: impl Into<Step>, message: impl Display) -> E {
        self.descend(step);
        E::custom(message)
    }

    /// The place as an RFC 6901 pointer that can be shown.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &*self.0.borrow() {
            pointer.push('/');
            match step {
                Step::Field(name) => pointer.push_str(&shown(name)),
                Step::Name(name) => pointer.push_str(&shown(name)),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

fn shown(name: &str) -> String {
    let mut text = name.to_owned();
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    let escaped = text.replace('~', "~0").replace('/', "~1");
    escaped.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Reads all of `bytes` by the reader that `root` makes.
///
/// # Errors
///
/// The first fault: not UTF-8, a byte-order mark, not JSON, more than white space after it, or
/// what the reader refuses.
pub(super) fn read<'de, R: Reader<'de>>(
    bytes: &'de [u8],
    cursor: &Cursor,
    root: R,
) -> Result<R::Value, BodyFault> {
    let whole = |message: String| BodyFault { pointer: String::new(), message };
    if bytes.starts_with("\u{feff}".as_bytes()) {
        return Err(whole("begins with a byte-order mark (RFC 8259, section 8.1)".to_owned()));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| whole(format!("byte {} is not UTF-8", error.valid_up_to())))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strictly(root)
        .deserialize(&mut deserializer)
        .map_err(|error| BodyFault { pointer: cursor.pointer(), message: error.to_string() })?;
    deserializer.end().map_err(|error| whole(error.to_string()))?;
    Ok(value)
}

/// What a place of the body takes. It refuses every kind of value for which it has no method.
pub(super) trait Reader<'de>: Sized {
    type Value;
    /// For the message, as in "must be a list, not null".
    const EXPECTED: &'static str;

    fn integer<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(refused::<Self, E>("a number"))
    }

    fn text<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(refused::<Self, E>("a string"))
    }

    fn list<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(refused::<Self, A::Error>("an array"))
    }

    fn object<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(refused::<Self, A::Error>("an object"))
    }
}

/// The fault of a value that `R` does not take.
pub(super) fn refused<'de, R: Reader<'de>, E: Error>(found: &str) -> E {
    E::custom(format_args!("must be {}, not {found}", R::EXPECTED))
}

/// A [`Reader`] as serde wants it.
pub(super) struct Strictly<R>(pub(super) R);

impl<'de, R: Reader<'de>> DeserializeSeed<'de> for Strictly<R> {
    type Value = R::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<R::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Reader<'de>> Visitor<'de> for Strictly<R> {
    type Value = R::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(R::EXPECTED)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<R::Value, E> {
        self.0.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<R::Value, E> {
        // What doesn't fit is out of every range that an operation has.
        self.0.integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<R::Value, E> {
        // serde_json reads -0, 1.0, 1e0 and what is longer than 64 bits as fractions.
        Err(refused::<R, E>("a number with a fraction, an exponent, a minus or too many digits"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<R::Value, E> {
        Err(refused::<R, E>("a boolean"))
    }

    fn visit_unit<E: Error>(self) -> Result<R::Value, E> {
        Err(refused::<R, E>("null"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<R::Value, E> {
        self.0.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<R::Value, A::Error> {
        self.0.list(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<R::Value, A::Error> {
        self.0.object(access)
    }
}

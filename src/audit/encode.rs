//! Records as JSON, written straight into their line.
//!
//! `serde_json` writes the same text, letter by letter, the names of the members too: that was the
//! largest part of what a record cost. Here a name is a constant, and of a text it is asked at once
//! whether there is anything to escape in it.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

/// What has a form in JSON.
pub(super) trait Encode {
    /// Adds it to a line.
    fn encode(&self, line: &mut Vec<u8>);
}

/// Adds members to an object that has some and is open.
macro_rules! members {
    ($line:expr, { $($name:literal: $value:expr),+ $(,)? }) => {
        $(
            $line.extend_from_slice(concat!(",\"", $name, "\":").as_bytes());
            $crate::audit::encode::Encode::encode(&$value, $line);
        )+
    };
}

/// Adds an object.
macro_rules! object {
    ($line:expr, { $first:literal: $value:expr $(, $($rest:tt)+)? }) => {
        $line.extend_from_slice(concat!("{\"", $first, "\":").as_bytes());
        $crate::audit::encode::Encode::encode(&$value, $line);
        $($crate::audit::encode::members!($line, { $($rest)+ });)?
        $line.push(b'}');
    };
}

pub(super) use {members, object};

impl Encode for str {
    fn encode(&self, line: &mut Vec<u8>) {
        let is_plain = |byte: u8| (byte >= b' ') & (byte != b'"') & (byte != b'\\');
        // All of them, without a way out at the first: so many are looked at together.
        if self.bytes().fold(true, |so_far, byte| so_far & is_plain(byte)) {
            line.push(b'"');
            line.extend_from_slice(self.as_bytes());
            line.push(b'"');
        } else {
            // A text has a form in JSON, and writing to a vector does not fail.
            let _ = serde_json::to_writer(line, self);
        }
    }
}

impl Encode for bool {
    fn encode(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Encode for Uuid {
    fn encode(&self, line: &mut Vec<u8>) {
        line.push(b'"');
        let mut buffer = Self::encode_buffer();
        line.extend_from_slice(self.hyphenated().encode_lower(&mut buffer).as_bytes());
        line.push(b'"');
    }
}

impl Encode for IpAddr {
    fn encode(&self, line: &mut Vec<u8>) {
        use std::io::Write;
        // As above.
        let _ = write!(line, "\"{self}\"");
    }
}

macro_rules! integers {
    ($($integer:ty)+) => {
        $(impl Encode for $integer {
            fn encode(&self, line: &mut Vec<u8>) {
                line.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        })+
    };
}

integers!(u16 u32 u64 i32);

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, line: &mut Vec<u8>) {
        match self {
            None => line.extend_from_slice(b"null"),
            Some(it) => it.encode(line),
        }
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, line: &mut Vec<u8>) {
        let mut before = b'[';
        for it in self {
            line.push(before);
            it.encode(line);
            before = b',';
        }
        if self.is_empty() {
            line.push(before);
        }
        line.push(b']');
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, line: &mut Vec<u8>) {
        (**self).encode(line);
    }
}

impl<T: Encode + ?Sized> Encode for Arc<T> {
    fn encode(&self, line: &mut Vec<u8>) {
        (**self).encode(line);
    }
}

impl Encode for String {
    fn encode(&self, line: &mut Vec<u8>) {
        self.as_str().encode(line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_serde_json_writes(
            text in ".*", tricky in "[ -~\"\\\\\u{0}-\u{1f}\u{7f}é\u{2028}]*",
            texts: Vec<String>, number: i32, large: u64, is_so: bool, address: IpAddr, id: u128,
        ) {
            let id = Uuid::from_u128(id);
            let mut line = Vec::new();
            object!(&mut line, {
                "text": text, "tricky": tricky, "texts": texts[..], "number": number,
                "large": large, "none": None::<u16>, "some": Some(number), "is_so": is_so,
                "address": address, "id": id,
            });
            let expected = json!({
                "text": text, "tricky": tricky, "texts": texts, "number": number,
                "large": large, "none": null, "some": number, "is_so": is_so,
                "address": address, "id": id,
            });
            prop_assert_eq!(String::from_utf8(line).unwrap(), expected.to_string());
        }
    }
}

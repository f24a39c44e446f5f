//! JSON, written straight into a buffer: records, and what is sent to the CMS.
//!
//! `serde_json` writes the same text, letter by letter, the names of the members too: that was the
//! largest part of what a record cost. Here a name is a constant, and of a text it is asked at once
//! whether there is anything to escape in it.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

/// What has a form in JSON.
pub(crate) trait Encode {
    /// Adds it to a text.
    fn encode(&self, text: &mut Vec<u8>);
}

/// Adds members to an object that has some and is open.
macro_rules! members {
    ($text:expr, { $($name:literal: $value:expr),+ $(,)? }) => {
        $(
            $text.extend_from_slice(concat!(",\"", $name, "\":").as_bytes());
            $crate::encode::Encode::encode(&$value, $text);
        )+
    };
}

/// Adds an object.
macro_rules! object {
    ($text:expr, { $first:literal: $value:expr $(, $($rest:tt)+)? }) => {
        $text.extend_from_slice(concat!("{\"", $first, "\":").as_bytes());
        $crate::encode::Encode::encode(&$value, $text);
        $($crate::encode::members!($text, { $($rest)+ });)?
        $text.push(b'}');
    };
}

pub(crate) use {members, object};

impl Encode for str {
    fn encode(&self, text: &mut Vec<u8>) {
        let is_plain = |byte: u8| (byte >= b' ') & (byte != b'"') & (byte != b'\\');
        // All of them, without a way out at the first: so many are looked at together.
        if self.bytes().fold(true, |so_far, byte| so_far & is_plain(byte)) {
            text.push(b'"');
            text.extend_from_slice(self.as_bytes());
            text.push(b'"');
        } else {
            // A text has a form in JSON, and writing to a vector does not fail.
            let _ = serde_json::to_writer(text, self);
        }
    }
}

impl Encode for bool {
    fn encode(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Encode for Uuid {
    fn encode(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        let mut buffer = Self::encode_buffer();
        text.extend_from_slice(self.hyphenated().encode_lower(&mut buffer).as_bytes());
        text.push(b'"');
    }
}

impl Encode for IpAddr {
    fn encode(&self, text: &mut Vec<u8>) {
        use std::io::Write;
        if let Self::V4(address) = self {
            let mut before = b'"';
            for part in address.octets() {
                text.push(before);
                part.encode(text);
                before = b'.';
            }
            return text.push(b'"');
        }
        // As above.
        let _ = write!(text, "\"{self}\"");
    }
}

macro_rules! integers {
    ($($integer:ty)+) => {
        $(impl Encode for $integer {
            fn encode(&self, text: &mut Vec<u8>) {
                text.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        })+
    };
}

integers!(u8 u16 u32 u64 i32);

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, text: &mut Vec<u8>) {
        match self {
            None => text.extend_from_slice(b"null"),
            Some(it) => it.encode(text),
        }
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, text: &mut Vec<u8>) {
        let mut before = b'[';
        for it in self {
            text.push(before);
            it.encode(text);
            before = b',';
        }
        if self.is_empty() {
            text.push(before);
        }
        text.push(b']');
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, text: &mut Vec<u8>) {
        (**self).encode(text);
    }
}

impl<T: Encode + ?Sized> Encode for Arc<T> {
    fn encode(&self, text: &mut Vec<u8>) {
        (**self).encode(text);
    }
}

impl Encode for String {
    fn encode(&self, text: &mut Vec<u8>) {
        self.as_str().encode(text);
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
            let mut encoded = Vec::new();
            object!(&mut encoded, {
                "text": text, "tricky": tricky, "texts": texts[..], "number": number,
                "large": large, "none": None::<u16>, "some": Some(number), "is_so": is_so,
                "address": address, "id": id,
            });
            let expected = json!({
                "text": text, "tricky": tricky, "texts": texts, "number": number,
                "large": large, "none": null, "some": number, "is_so": is_so,
                "address": address, "id": id,
            });
            prop_assert_eq!(String::from_utf8(encoded).unwrap(), expected.to_string());
        }
    }
}

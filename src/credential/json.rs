//! JSON that may hold secrets: its texts are zeroed when it is dropped, and no fault quotes it.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::secret::wipe;

/// A JSON value without doubled members; `serde_json` bounds its depth to 128.
pub(super) enum Json {
    Text(Zeroizing<String>),
    Integer(i64),
    Boolean(bool),
    Object(Vec<(String, Json)>),
    Null,
    /// A list, or another number.
    Other,
}

/// Where a text is not JSON, or has a member twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no JSON without doubled members (line {line}, column {column})")]
pub(super) struct NotJson {
    line: usize,
    column: usize,
}

impl Json {
    /// Reads one value and nothing after it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotJson> {
        // What serde_json says could quote a secret.
        serde_json::from_slice(bytes)
            .map_err(|error| NotJson { line: error.line(), column: error.column() })
    }

    /// As [`Self::parse`]; the bytes are zeroed if nobody else has them.
    pub(super) fn parse_and_wipe(bytes: Bytes) -> Result<Self, NotJson> {
        let parsed = Self::parse(&bytes);
        wipe(bytes);
        parsed
    }

    /// A member of an object; nothing where this is none, or has none of that name.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The members of an object; none where this is none.
    pub(super) fn members(&self) -> &[(String, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    pub(super) fn text(&self) -> Option<&Zeroizing<String>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Boolean(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Other, Json::Integer))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        while access.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            if members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("a member stands twice"));
            }
            members.push((name, access.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name() {
        let json = Json::parse(br#"{"a":{"b":"x\u0041"},"c":[1],"d":7,"e":1.5,"f":null}"#).unwrap();
        let text = json.member("a").and_then(|a| a.member("b")).and_then(Json::text).unwrap();
        assert_eq!(**text, "xA");
        assert!(matches!(json.member("d"), Some(Json::Integer(7))));
        assert!(json.member("g").is_none() && json.member("d").unwrap().member("a").is_none());
    }

    #[test]
    fn a_fault_quotes_nothing() {
        for text in [
            "",
            "hunter2",
            "\"hunter2",
            "{\"hunter2\":1,\"hunter2\":1}",
            "{} hunter2",
            "<html>hunter2</html>",
            &"[".repeat(200),
            "\"\u{7}hunter2\"",
        ] {
            let told = Json::parse(text.as_bytes()).err().unwrap().to_string();
            assert!(told.starts_with("no JSON") && !told.contains("hunter2"), "{told}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn bytes_of_its_own_are_zeroed() {
        let mut owned = bytes::BytesMut::with_capacity(64);
        owned.extend_from_slice(b"{\"a\":\"hunter2\"}");
        let parsed = Json::parse_and_wipe(owned.freeze()).unwrap();
        assert_eq!(parsed.member("a").and_then(Json::text).unwrap().as_str(), "hunter2");
        // Others keep what they have.
        let shared = Bytes::from_static(b"{}");
        assert!(Json::parse_and_wipe(shared.clone()).is_ok() && shared == "{}"[..]);
    }
}

//! The text of a secret: a JSON object, two of whose members are the user name and the password.
//!
//! Others are passed over, as the host and the port that AWS's rotation keeps beside them. They are
//! not put together in memory, and the two wanted ones are zeroed with their last owner.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

/// The names of the two members.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

/// The two members. What is wrong else names the members and repeats nothing of the text.
pub(super) fn read(
    text: &str,
    keys: Keys<'_>,
) -> Result<(Zeroizing<String>, Zeroizing<String>), String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let read = keys.deserialize(&mut parser).and_then(|read| parser.end().map(|()| read));
    let (username, password) = read.map_err(|error| {
        // What else the parser says may quote the text.
        let place = format!("line {}, column {}", error.line(), error.column());
        let Keys { username, password } = keys;
        format!(
            "it is no JSON object in which {username:?} and {password:?} are texts, each once \
             ({place})"
        )
    })?;
    let lacking = |key: &str| format!("it has no member {key:?}");
    let username = username.ok_or_else(|| lacking(keys.username))?;
    Ok((username, password.ok_or_else(|| lacking(keys.password))?))
}

type Found = Option<Zeroizing<String>>;

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = (Found, Found);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = (Found, Found);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut username, mut password) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let place = if key == self.username {
                &mut username
            } else if key == self.password {
                &mut password
            } else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if place.replace(Zeroizing::new(map.next_value::<String>()?)).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok((username, password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys<'_> = Keys { username: "username", password: "password" };

    #[test]
    fn two_members_are_wanted_and_others_passed_over() {
        let text = r#"{"engine": "mysql", "password": "p\"q", "port": 1, "x": {"username": "no"},
            "username": "cms"}"#;
        let (username, password) = read(text, KEYS).unwrap();
        assert_eq!((username.as_str(), password.as_str()), ("cms", "p\"q"));
        let keys = Keys { username: "user", password: "pass" };
        let (username, password) = read(r#"{"user": "a", "pass": "b"}"#, keys).unwrap();
        assert_eq!((username.as_str(), password.as_str()), ("a", "b"));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        for (text, words) in [
            ("hidden", "no JSON object"),
            (r#""hidden""#, "no JSON object"),
            (r#"["hidden"]"#, "no JSON object"),
            (r#"{"username": "hidden", "password": 7}"#, "no JSON object"),
            (r#"{"username": "hidden", "username": "hidden", "password": "p"}"#, "each once"),
            (r#"{"username": "hidden", "password": "hidden"} hidden"#, "no JSON object"),
            (r#"{"username": "hidden"}"#, "no member \"password\""),
            (r#"{"hidden": "hidden", "password": "hidden"}"#, "no member \"username\""),
        ] {
            let error = read(text, KEYS).unwrap_err();
            assert!(error.contains(words) && !error.contains("hidden"), "{text}: {error}");
        }
    }
}

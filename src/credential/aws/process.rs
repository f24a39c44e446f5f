//! Keys that a program prints: `credential_process` of a profile.
//!
//! The program is run as the `exec` source's is, without a shell. Its words may hold secrets, so
//! that faults name the program alone.

use std::path::Path;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use super::super::json::Json;
use super::super::source::SourceError;
use super::call::Call;
use super::{document, keys};

/// The keys that this command prints.
pub(super) async fn keys(command: &str, call: &Call<'_>) -> Result<Credentials, SourceError> {
    let malformed = |wrong: &str| SourceError::Malformed(format!("credential_process {wrong}"));
    let words = words(command).map_err(malformed)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(malformed("is empty"));
    };
    let printed = call.run(Path::new(program.as_str()), arguments).await?;
    read(&printed)
        .map_err(|wrong| SourceError::Malformed(format!("what {} prints {wrong}", **program)))
}

/// The words of a command as a shell has them: those with spaces stand in quotes, or have a
/// backslash before each. Nothing else means anything.
fn words(command: &str) -> Result<Vec<Zeroizing<String>>, &'static str> {
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let empty = || Zeroizing::new(String::with_capacity(command.len()));
    let mut words = Vec::new();
    let mut word = None;
    let mut quote = None;
    let mut rest = command.chars().peekable();
    while let Some(next) = rest.next() {
        if quote.is_none() && next.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(empty);
        match (next, quote) {
            ('\0', _) => return Err("holds a zero character, which no program can be given"),
            ('"' | '\'', None) => quote = Some(next),
            (mark, Some(open)) if mark == open => quote = None,
            ('\\', None) => word.push(rest.next().ok_or("ends with a backslash")?),
            ('\\', Some('"')) => word.push(rest.next_if(|it| "\"\\".contains(*it)).unwrap_or(next)),
            _ => word.push(next),
        }
    }
    if quote.is_some() {
        return Err("has a quote that is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// The keys in what was printed, of which no fault repeats anything.
fn read(printed: &[u8]) -> Result<Credentials, String> {
    let json = Json::parse(printed).map_err(|wrong| format!("is {wrong}"))?;
    if !matches!(json.member("Version"), Some(Json::Integer(1))) {
        return Err("is no JSON object with \"Version\": 1".to_owned());
    }
    let text = |name| match json.member(name) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => {
            value.text().map(Some).ok_or_else(|| format!("has a {name} that is no text"))
        }
    };
    let (id, secret) = (text("AccessKeyId")?, text("SecretAccessKey")?);
    let (token, expiry) = (text("SessionToken")?, text("Expiration")?);
    let expiry = expiry
        .map(|text| document::expiry(text).ok_or("has an Expiration that is no time"))
        .transpose()?;
    let owned = |text: Option<&Zeroizing<String>>| text.map(|text| text.to_string());
    let (id, secret) = (owned(id).unwrap_or_default(), owned(secret).unwrap_or_default());
    keys::checked(id, secret, owned(token), expiry, "process")
        .map_err(|wrong| format!("has no keys: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Result<Vec<String>, &'static str> {
        Ok(words(command)?.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn words_with_spaces_stand_in_quotes() {
        for (command, expected) in [
            ("", &[][..]),
            ("/bin/a  --user\thelen ", &["/bin/a", "--user", "helen"]),
            (r#""/bin/a b" x "y  z""#, &["/bin/a b", "x", "y  z"]),
            (r#"a '' "" b'c d'"e""#, &["a", "", "", "bc de"]),
            (r#"a\ b 'c\d' "e\"f\g\\""#, &["a b", r"c\d", r#"e"f\g\"#]),
            ("a $HOME ~ | `b` > c", &["a", "$HOME", "~", "|", "`b`", ">", "c"]),
        ] {
            assert_eq!(split(command).unwrap(), expected, "{command}");
        }
        for command in ["a \"b", "a 'b", "a\\", "a\0b"] {
            assert!(split(command).is_err(), "{command}");
        }
    }

    #[test]
    fn the_documented_answer_gives_keys() {
        let keys = read(
            br#"{"Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "sec/ret+",
                 "SessionToken": "to/ken==", "Expiration": "2026-01-31T16:00:00+00:00",
                 "AccountId": "123456789012"}"#,
        )
        .unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("ASIA1", "sec/ret+"));
        assert_eq!(keys.session_token(), Some("to/ken=="));
        assert_eq!(keys.expiry(), humantime::parse_rfc3339("2026-01-31T16:00:00Z").ok());
        let bare =
            br#"{"Version":1,"AccessKeyId":"AKID","SecretAccessKey":"s","SessionToken":null}"#;
        let keys = read(bare).unwrap();
        assert_eq!((keys.session_token(), keys.expiry()), (None, None));
    }

    #[test]
    fn nothing_else_does_and_no_fault_quotes_it() {
        const KEYS: &str = r#""AccessKeyId": "AKID", "SecretAccessKey": "hidden""#;
        for (text, words) in [
            ("hidden".to_owned(), "no JSON"),
            ("[\"hidden\"]".to_owned(), "\"Version\": 1"),
            (format!("{{{KEYS}}}"), "\"Version\": 1"),
            (format!("{{\"Version\": \"1\", {KEYS}}}"), "\"Version\": 1"),
            (format!("{{\"Version\": 2, {KEYS}}}"), "\"Version\": 1"),
            (format!("{{\"Version\": 1, {KEYS}, {KEYS}}}"), "doubled"),
            (format!("{{\"Version\": 1, {KEYS}}} hidden"), "no JSON"),
            (format!("{{\"Version\": 1, {KEYS}, \"SessionToken\": [\"hidden\"]}}"), "SessionToken"),
            (format!("{{\"Version\": 1, {KEYS}, \"SessionToken\": \"hidden\\n\"}}"), "token"),
            (format!("{{\"Version\": 1, {KEYS}, \"Expiration\": \"hidden\"}}"), "no time"),
            (format!("{{\"Version\": 1, {KEYS}, \"Expiration\": 12345}}"), "Expiration"),
            ("{\"Version\": 1, \"AccessKeyId\": \"AKID\"}".to_owned(), "secret access key"),
            ("{\"Version\": 1, \"SecretAccessKey\": \"hidden\"}".to_owned(), "access key id"),
        ] {
            let told = read(text.as_bytes()).unwrap_err();
            assert!(told.contains(words) && !told.contains("hidden"), "{text}: {told}");
        }
    }
}

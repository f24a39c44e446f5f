//! `[issuers.introspection]`: an issuer that is asked about its tokens (RFC 7662).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::RootCertStore;

use super::section::Section;
use super::sections::{MILLISECOND, SECOND, base, trusted};
use crate::secret;

/// An issuer that is asked about its tokens.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The introspection endpoint.
    pub url: Uri,
    /// Whom to trust for it; the system's roots without.
    pub ca: Option<Arc<RootCertStore>>,
    /// The gateway's own name there.
    pub client_id: String,
    /// The file of the gateway's own secret there, read anew for each question.
    pub client_secret: PathBuf,
    /// How long an answer counts; never beyond the token's own end.
    pub max_age: Duration,
    /// How long an answer may take, and how long a question may wait for a place.
    pub timeout: Duration,
    /// How many questions are asked at the same time.
    pub concurrency: usize,
    /// How many more wait for a place.
    pub waiting: usize,
}

/// Where the answer may come from, and how much of it.
pub(super) fn introspection(mut section: Section) -> Option<Introspection> {
    let url = section.parsed::<Uri>("url", "a URL, as \"https://idp.example.com/introspect\"");
    let url = section.require("url", url, "\"https://idp.example.com/introspect\"");
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let ca = trusted(&mut section);
    let client_id = section.text("client_id");
    let client_id = section.require("client_id", client_id, "\"cms-gateway\"");
    let client_secret = section.path("client_secret");
    let client_secret =
        section.require("client_secret", client_secret, "\"/run/secrets/idp/client-secret\"");
    if let Some(file) = &client_secret {
        match secret::read(&file.value) {
            Err(error) => section.fault_of(file, error),
            Ok((text, _)) if text.is_empty() => section.fault_of(file, "is an empty file"),
            Ok((text, _)) if text.len() > secret::LARGEST => {
                section.fault_of(file, "holds more than 4 KiB");
            }
            Ok(_) => {}
        }
    }
    let max_age = section.duration("max_age", 10 * SECOND, Duration::ZERO..=60 * SECOND);
    let timeout = section.duration("timeout", 2 * SECOND, 10 * MILLISECOND..=30 * SECOND);
    let concurrency = section.integer("concurrency", 16, 1..=1024) as usize;
    let waiting = section.integer("waiting", 256, 0..=10_000) as usize;
    let url = url?;
    base(&section, &url, allow_plaintext)?;
    Some(Introspection {
        url: url.value,
        ca: ca?,
        client_id: client_id?.value,
        client_secret: client_secret?.value,
        max_age,
        timeout,
        concurrency,
        waiting,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::section::faults_of;
    use super::*;

    const SOUND: &str = r#"url = "https://idp.example.com/introspect"
client_id = "cms-gateway"
client_secret = "secret"
"#;

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "of the gateway").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let folder = folder(0o600);
        let (taken, faults) = faults_of(SOUND, folder.path(), introspection);
        assert_eq!(faults, Vec::<String>::new());
        let taken = taken.unwrap();
        assert_eq!(taken.client_secret, folder.path().join("secret"));
        assert_eq!((taken.max_age, taken.timeout), (10 * SECOND, 2 * SECOND));
        assert_eq!((taken.concurrency, taken.waiting), (16, 256));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let folder = folder(0o600);
        let told = |text: String, folder: &Path, words: &str| {
            let (_, faults) = faults_of(&text, folder, introspection);
            assert!(faults.len() == 1 && faults[0].contains(words), "{words}: {faults:?}");
            assert!(!faults[0].contains("of the gateway"), "{faults:?}");
        };
        for (added, words) in [
            ("max_age = \"61s\"", "max_age"),
            ("timeout = \"1ms\"", "timeout"),
            ("concurrency = 0", "concurrency"),
            ("waiting = 10001", "waiting"),
            ("clientid = \"a\"", "did you mean client_id?"),
        ] {
            told(format!("{SOUND}{added}\n"), folder.path(), words);
        }
        let with = |url: &str| SOUND.replace("https://idp.example.com/introspect", url);
        told(with("http://idp.example.com/"), folder.path(), "plain text");
        told(with("https://a:b@idp.example.com/"), folder.path(), "user name");
        told(with("/introspect"), folder.path(), "no whole URL");
        for good in ["http://127.0.0.1:1/", "http://idp.example.com/\"\nallow_plaintext = true #"] {
            let (taken, faults) = faults_of(&with(good), folder.path(), introspection);
            assert!(taken.is_some() && faults.is_empty(), "{good}: {faults:?}");
        }
        told(SOUND.replace("\"secret\"", "\"gone\""), folder.path(), "can't be read");
        told(SOUND.to_owned(), self::folder(0o644).path(), "mode 0644");
        fs::write(folder.path().join("secret"), "\n").unwrap();
        told(SOUND.to_owned(), folder.path(), "empty");
    }
}

//! An issuer's `dpop`: what a proof of possession must hold here (RFC 9449).

use std::time::Duration;

use aws_lc_rs::hmac;

use super::section::Section;
use super::sections::SECOND;
use super::{Listen, Origin};
use crate::secret;

/// The fewest bytes of a nonces' key: those of the hash (RFC 2104, section 3).
const SHORTEST_KEY: usize = 32;

/// What a DPoP proof must hold here.
#[derive(Debug, Clone)]
pub struct Dpop {
    /// The scheme and authority that it must name (`htu`): those that clients know.
    pub origin: Origin,
    /// How long after it was made (`iat`) it is accepted.
    pub lifetime: Duration,
    /// What nonces are made with; without, none are asked for. Gateways that share it accept each
    /// other's.
    pub nonce_key: Option<hmac::Key>,
    /// How many proofs are remembered, so that none is accepted twice.
    pub replay_capacity: usize,
}

/// Reads it; nothing where a part is at fault, which is noted.
pub(super) fn dpop(mut section: Section, listen: Option<&Listen>) -> Option<Dpop> {
    let lifetime = section.duration("lifetime", 60 * SECOND, 5 * SECOND..=300 * SECOND);
    let nonce_key = nonce_key(&mut section);
    let replay_capacity = section.integer("replays", 1_000_000, 1000..=100_000_000) as usize;
    // What is wrong with `listen` itself has been noted there.
    let origin = listen?.public_url.clone();
    if origin.is_none() {
        let wanted = "needs listen.public_url: a proof names the URL that the client has called; \
                      write, for example, public_url = \"https://gateway.example.com\" in [listen]";
        section.fault("", wanted);
    }
    Some(Dpop { origin: origin?, lifetime, nonce_key: nonce_key?, replay_capacity })
}

/// The key of a file; `Some(None)` where there is none.
#[expect(clippy::option_option, reason = "the outer one says that a fault was noted")]
fn nonce_key(section: &mut Section) -> Option<Option<hmac::Key>> {
    let Some(file) = section.path("nonce_key") else { return Some(None) };
    let text = secret::read(&file.value).map_err(|error| section.fault_of(&file, error)).ok()?.0;
    section.has_read(&file, text.as_bytes());
    if text.len() < SHORTEST_KEY || text.len() > secret::LARGEST {
        section.fault_of(
            &file,
            format_args!(
                "{} must hold {SHORTEST_KEY} to {} bytes of text, as `openssl rand -base64 32` \
                 writes",
                file.value.display(),
                secret::LARGEST
            ),
        );
        return None;
    }
    Some(Some(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::rc::Rc;

    use super::*;
    use crate::config::document;

    /// What `[issuer.dpop]` with these lines gives, and the faults.
    fn read(text: &str, folder: &Path, public_url: Option<&str>) -> (Option<Dpop>, Vec<String>) {
        let listen = Listen {
            api: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            tls: None,
            public_url: public_url.and_then(|url| Origin::of(&url.parse().ok()?)),
        };
        let root = document::read(&format!("[issuer.dpop]\n{text}"), &BTreeMap::new()).unwrap();
        let faults = Rc::new(RefCell::default());
        let mut root = Section::root(root, folder, &faults);
        let dpop = dpop(root.section("issuer").section("dpop"), Some(&listen));
        let faults = faults.take().faults.into_iter();
        (dpop, faults.map(|fault| format!("{}: {}", fault.key, fault.message)).collect())
    }

    const URL: Option<&str> = Some("https://gateway.example.com");

    #[test]
    fn what_is_not_said_has_a_default() {
        let (dpop, faults) = read("", Path::new(""), URL);
        let dpop = dpop.unwrap();
        assert_eq!((dpop.lifetime, dpop.replay_capacity), (60 * SECOND, 1_000_000));
        assert!(dpop.nonce_key.is_none() && faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn each_fault_is_told_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        file("good", &format!("{}\n", "k".repeat(32)), 0o600);
        file("open", &"k".repeat(32), 0o640);
        file("short", &"k".repeat(31), 0o600);
        let (dpop, faults) = read("nonce_key = \"good\"", folder.path(), URL);
        assert!(dpop.unwrap().nonce_key.is_some(), "{faults:?}");
        for (text, url, expected) in [
            ("", None, "issuer.dpop: needs listen.public_url"),
            ("lifetime = \"4s\"", URL, "issuer.dpop.lifetime: "),
            ("lifetime = \"301s\"", URL, "issuer.dpop.lifetime: "),
            ("replays = 0", URL, "issuer.dpop.replays: "),
            ("nonce_key = \"missing\"", URL, "issuer.dpop.nonce_key: "),
            ("nonce_key = \"open\"", URL, "issuer.dpop.nonce_key: "),
            ("nonce_key = \"short\"", URL, "issuer.dpop.nonce_key: "),
            ("nonces = true", URL, "issuer.dpop.nonces: is not a known key"),
        ] {
            let (_, faults) = read(text, folder.path(), url);
            assert!(faults.len() == 1 && faults[0].starts_with(expected), "{text}: {faults:?}");
        }
    }
}

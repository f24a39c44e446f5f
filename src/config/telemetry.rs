//! `[telemetry.otlp]`: where spans and audit records are sent, beside the trail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::RootCertStore;

use super::section::{Located, Section};
use super::sections::{MILLISECOND, SECOND, base, trusted};
use crate::secret;

/// Headers that are not the configuration's to set.
const RESERVED: &[HeaderName] = &[
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    HOST,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A collector of OpenTelemetry's, and what it is sent.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Where spans are sent.
    pub traces_url: Uri,
    /// Where log records are sent.
    pub logs_url: Uri,
    /// Whom to trust for it; the system's roots without.
    pub ca: Option<Arc<RootCertStore>>,
    /// Headers of each request.
    pub headers: HeaderMap,
    /// Those whose values nobody else may read.
    pub secret_headers: Vec<Secret>,
    /// Whether spans are sent.
    pub traces: bool,
    /// Whether audit records are sent.
    pub logs: bool,
    /// The share of the traces that begin here which is recorded.
    pub sample_ratio: f64,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long something waits at the most before it is sent.
    pub schedule_delay: Duration,
    /// The most bytes of each signal that wait.
    pub queue: usize,
}

/// A header whose value is in a file, which is read for each request.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name.
    pub header: HeaderName,
    /// The file.
    pub file: PathBuf,
}

/// The only table that there may be in `[telemetry]`.
pub(super) fn telemetry(mut section: Section) -> Option<Arc<Otlp>> {
    section.has("otlp").then(|| otlp(section.section("otlp"))).flatten().map(Arc::new)
}

fn otlp(mut section: Section) -> Option<Otlp> {
    let example = "\"http://127.0.0.1:4318\"";
    let endpoint = section.parsed::<Uri>("endpoint", "a URL, as \"http://127.0.0.1:4318\"");
    let endpoint = section.require("endpoint", endpoint, example);
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let ca = trusted(&mut section);
    let (headers, secret_headers) = headers(section.section("headers"));
    let traces = section.boolean("traces", true);
    let logs = section.boolean("logs", true);
    let sample_ratio = section.fraction("sample_ratio", 1.0);
    let timeout = section.duration("timeout", 10 * SECOND, 10 * MILLISECOND..=60 * SECOND);
    let schedule_delay = section.duration("schedule_delay", SECOND, MILLISECOND..=60 * SECOND);
    let queue = section.size("queue", 16 << 20, 4 << 10..=1 << 30) as usize;
    let endpoint = endpoint?;
    base(&section, &endpoint, allow_plaintext)?;
    if endpoint.value.query().is_some() {
        section.fault_of(&endpoint, "holds a query; write scheme, host, port and path alone");
        return None;
    }
    Some(Otlp {
        traces_url: below(&endpoint, "v1/traces")?,
        logs_url: below(&endpoint, "v1/logs")?,
        ca: ca?,
        headers,
        secret_headers,
        traces,
        logs,
        sample_ratio,
        timeout,
        schedule_delay,
        queue,
    })
}

/// As OpenTelemetry's own exporters make it of an endpoint that is every signal's.
fn below(endpoint: &Located<Uri>, path: &str) -> Option<Uri> {
    format!("{}/{path}", endpoint.value.to_string().trim_end_matches('/')).parse().ok()
}

/// `name = "value"`, or `name = { file = "..." }`.
fn headers(mut section: Section) -> (HeaderMap, Vec<Secret>) {
    let (mut headers, mut secret_headers) = (HeaderMap::new(), Vec::new());
    for key in section.names() {
        let name = key.parse::<HeaderName>().ok().filter(|name| !RESERVED.contains(name));
        let Some(name) = name else {
            section.fault(&key, "is not a header that can be set here");
            section.ignore(&key);
            continue;
        };
        if section.holds_table(&key) {
            let mut table = section.section(&key);
            let file = table.path("file");
            let file = table.require("file", file, "\"/run/secrets/otlp/authorization\"");
            if let Some(file) = file {
                check(&table, &file);
                secret_headers.push(Secret { header: name, file: file.value });
            }
        } else if let Some(value) = section.text(&key) {
            if name == AUTHORIZATION {
                let wanted = "holds a secret, which has no place in this file; write { file = \
                              \"/run/secrets/otlp/authorization\" }";
                section.fault_of(&value, wanted);
            }
            match HeaderValue::from_str(&value.value) {
                Ok(value) => drop(headers.insert(name, value)),
                Err(_) => section.fault_of(&value, "can't be a header's value"),
            }
        }
    }
    (headers, secret_headers)
}

fn check(section: &Section, file: &Located<PathBuf>) {
    match secret::read(&file.value) {
        Err(error) => section.fault_of(file, error),
        Ok((text, _)) if text.is_empty() => section.fault_of(file, "is an empty file"),
        Ok((text, _)) if text.len() > secret::LARGEST => {
            section.fault_of(file, "holds more than 4 KiB");
        }
        Ok((text, _)) if HeaderValue::from_str(&text).is_err() => {
            section.fault_of(file, "holds what can't be a header's value");
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::section::faults_of;
    use super::*;

    const SOUND: &str = "[otlp]\nendpoint = \"https://collector.example.com/otlp/\"\n";

    fn folder(mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorization");
        fs::write(&file, "Bearer of-the-gateway").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn what_is_left_out_has_its_default_and_all_is_off_without_the_section() {
        let folder = folder(0o600);
        for nothing in ["", "\n# endpoint = \"http://127.0.0.1:4318\"\n"] {
            let (taken, faults) = faults_of(nothing, folder.path(), telemetry);
            assert!(taken.is_none() && faults.is_empty());
        }
        let (taken, faults) = faults_of(SOUND, folder.path(), telemetry);
        assert_eq!(faults, Vec::<String>::new());
        let taken = taken.unwrap();
        assert_eq!(taken.traces_url, "https://collector.example.com/otlp/v1/traces");
        assert_eq!(taken.logs_url, "https://collector.example.com/otlp/v1/logs");
        assert!(taken.traces && taken.logs);
        assert_eq!((taken.sample_ratio, taken.queue), (1.0, 16 << 20));
        assert_eq!((taken.timeout, taken.schedule_delay), (10 * SECOND, SECOND));
        let bare = "[otlp]\nendpoint = \"http://127.0.0.1:4318\"\nsample_ratio = 0.25\n";
        let (taken, faults) = faults_of(bare, folder.path(), telemetry);
        assert_eq!(faults, Vec::<String>::new());
        let taken = taken.unwrap();
        assert_eq!(taken.traces_url, "http://127.0.0.1:4318/v1/traces");
        assert_eq!(taken.sample_ratio, 0.25);
    }

    #[test]
    fn headers_are_words_or_files() {
        let folder = folder(0o600);
        let text = format!(
            "{SOUND}headers = {{ X-Scope-OrgID = \"team-a\", authorization = {{ file = \
             \"authorization\" }} }}\n"
        );
        let (taken, faults) = faults_of(&text, folder.path(), telemetry);
        assert_eq!(faults, Vec::<String>::new());
        let taken = taken.unwrap();
        assert_eq!(taken.headers["x-scope-orgid"], "team-a");
        let [Secret { header, file }] = taken.secret_headers.as_slice() else { panic!() };
        assert_eq!((header, file), (&AUTHORIZATION, &folder.path().join("authorization")));
        assert!(!format!("{taken:?}").contains("of-the-gateway"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |text: &str, folder: &Path, words: &str| {
            let (_, faults) = faults_of(text, folder, telemetry);
            assert!(faults.len() == 1 && faults[0].contains(words), "{words}: {faults:?}");
            assert!(!faults[0].contains("of-the-gateway"), "{faults:?}");
        };
        let sound = folder(0o600);
        for (added, words) in [
            ("sample_ratio = 1.1", "otlp.sample_ratio: "),
            ("sample_ratio = -0.1", "from 0.0 to 1.0"),
            ("sample_ratio = \"all\"", "from 0.0 to 1.0"),
            ("sample_ratio = nan", "from 0.0 to 1.0"),
            ("timeout = \"61s\"", "timeout"),
            ("schedule_delay = \"0s\"", "schedule_delay"),
            ("queue = \"1KiB\"", "queue"),
            ("trace = true", "did you mean traces?"),
            ("headers = { Host = \"a\" }", "can be set here"),
            ("headers = { \"a b\" = \"a\" }", "can be set here"),
            ("headers = { a = \"\\n\" }", "header's value"),
            ("headers = { a = { } }", "otlp.headers.a.file: is missing"),
            ("headers = { a = { file = \"gone\" } }", "can't be read"),
            ("headers = { authorization = \"of-the-gateway\" }", "holds a secret"),
        ] {
            told(&format!("{SOUND}{added}\n"), sound.path(), words);
        }
        let file = format!("{SOUND}headers = {{ a = {{ file = \"authorization\" }} }}\n");
        told(&file, folder(0o644).path(), "mode 0644");
        fs::write(sound.path().join("authorization"), "of-the-gateway\u{1}").unwrap();
        told(&file, sound.path(), "header's value");
        told("[otlp]\n", sound.path(), "otlp.endpoint: is missing");
        told("[oltp]\n", sound.path(), "oltp: is not a known key");
        let with = |url: &str| SOUND.replace("https://collector.example.com/otlp/", url);
        told(&with("http://collector.example.com/"), sound.path(), "plain text");
        told(&with("https://a:b@collector.example.com/"), sound.path(), "user name");
        told(&with("https://collector.example.com/?key=1"), sound.path(), "query");
        told(&with("collector.example.com"), sound.path(), "no whole URL");
        let allowed = with("http://collector.example.com/") + "allow_plaintext = true\n";
        let (taken, faults) = faults_of(&allowed, sound.path(), telemetry);
        assert!(taken.is_some() && faults.is_empty(), "{faults:?}");
    }
}

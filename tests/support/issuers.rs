//! For the tests of gateways with other issuers than the usual one: what they are asked, and what
//! they say of what they refuse.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{BINARY, Gateway, PATH, Reply, SAMPLE, World, records_in};

/// Puts these issuers in the place of the one that a configuration has.
pub fn replace_issuers(config: &mut String, issuers: &str) {
    let (before, after) = config.split_once("[[issuers]]").unwrap();
    let (_, after) = after.split_once("[roles.").unwrap();
    *config = format!("{before}{issuers}\n[roles.{after}");
}

/// The issuer that a configuration has.
pub fn issuer_of(config: &str) -> String {
    let (_, after) = config.split_once("\nissuer = \"").unwrap();
    after.split_once('"').unwrap().0.to_owned()
}

/// The gateway, with all in its log that it can say.
pub fn serve_with_a_full_log(config: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(config).env("CMS_GATEWAY_LOG", "trace");
    command
}

/// A good request but for these headers, after which the connection is closed.
pub fn request_with(head: &str) -> String {
    format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gateway.example.com\r\n{head}Connection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{SAMPLE}",
        SAMPLE.len()
    )
}

/// How many requests were refused for this reason.
pub fn refusals(gateway: &Gateway, reason: &str) -> f64 {
    let line = format!("cms_gateway_token_refusals_total{{reason=\"{reason}\"}}");
    gateway.metric(&line).unwrap_or_default()
}

/// The challenge of this scheme (RFC 9110, section 11.6.1).
pub fn challenge<'a>(reply: &'a Reply, scheme: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(name, _)| name == "www-authenticate");
    values.find_map(|(_, value)| value.strip_prefix(scheme)?.strip_prefix(' '))
}

impl World {
    /// The last record of an answered request, if it is on record.
    pub fn record_of(&self, reply: &Reply) -> Option<Value> {
        let id = reply.header("x-request-id").unwrap();
        self.records().into_iter().rev().find(|record| record["request_id"] == id)
    }

    /// Log, metrics and trail, as text.
    pub fn told(&self) -> String {
        let mut told = self.gateway.log() + &self.gateway.admin("/metrics").body;
        for record in records_in(&self.folder.path().join("audit")) {
            told += &record.to_string();
        }
        told
    }
}

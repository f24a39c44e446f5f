//! A row of the table: what is sent, and what comes of it.

use super::support::{PATH, SAMPLE, request};

pub struct Row {
    pub name: String,
    pub request: Vec<u8>,
    pub status: u16,
    /// The error's code; empty where the CMS is asked.
    pub code: &'static str,
    /// The label of the refusal; none where the token was not looked at, or is good.
    pub reason: Option<&'static str>,
}

impl Row {
    pub fn sends(name: impl Into<String>, request: impl Into<Vec<u8>>) -> Self {
        let (name, request) = (name.into(), request.into());
        Self { name, request, status: 200, code: "", reason: None }
    }

    /// Refused for this reason, of which the caller is told what it may know.
    pub fn refused_as(mut self, reason: &'static str) -> Self {
        self.status = 401;
        self.code = match reason {
            "no_token" => "GW-2001",
            "expired" => "GW-2003",
            _ => "GW-2002",
        };
        self.reason = Some(reason);
        self
    }

    /// Turned away before anybody looks for a token.
    pub fn turned_away(self, status: u16, code: &'static str) -> Self {
        Self { status, code, ..self }
    }
}

/// A token that is refused.
pub fn refused(name: impl Into<String>, token: impl AsRef<str>, reason: &'static str) -> Row {
    Row::sends(name, request(token.as_ref(), SAMPLE)).refused_as(reason)
}

/// A token that is good.
pub fn served(name: impl Into<String>, token: impl AsRef<str>) -> Row {
    Row::sends(name, request(token.as_ref(), SAMPLE))
}

/// A good request but for these lines of its head, each with its end, and its body.
pub fn with_head(lines: impl AsRef<[u8]>) -> Vec<u8> {
    let start = format!("PUT {PATH} HTTP/1.1\r\nHost: gateway\r\n");
    let length = SAMPLE.len();
    let end = format!(
        "Content-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{SAMPLE}"
    );
    [start.as_bytes(), lines.as_ref(), end.as_bytes()].concat()
}

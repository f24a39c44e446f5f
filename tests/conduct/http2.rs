//! The same over HTTP/2 (RFC 9113, section 8), in frames of our own making.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::row::Stage;
use super::support::{PATH, SAMPLE, SAMPLE_ANSWER};

/// A stream that is sent, and what comes of it: the answer, or with which error it or the connection
/// ends.
pub struct Row {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
    body: &'static str,
    trailers: Vec<(&'static str, String)>,
    answer: &'static str,
}

/// A good request in these fields.
fn good() -> Vec<(&'static str, String)> {
    let fields = [
        (":method", "PUT"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", PATH),
        ("authorization", "Bearer $TOKEN"),
        ("content-type", "application/json"),
    ];
    fields.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// Requests that are refused for what is not in the head, for what is, and for their size.
pub fn refused() -> [Vec<(&'static str, String)>; 3] {
    let of = |row: Row| row.fields;
    [
        of(without("no token", "authorization", "")),
        of(row("another Host", "host", "other", "")),
        of(row("a length", "content-length", "70000", "")),
    ]
}

/// With this field in the stead of the one of its name, or after the others.
fn row(name: &'static str, field: &'static str, value: &str, answer: &'static str) -> Row {
    let mut fields = good();
    match fields.iter_mut().find(|(own, _)| *own == field) {
        Some((_, own)) => value.clone_into(own),
        None => fields.push((field, value.to_owned())),
    }
    Row { name, fields, body: SAMPLE, trailers: Vec::new(), answer }
}

/// With this field after the others, whatever they are.
fn also(name: &'static str, field: &'static str, value: &str, answer: &'static str) -> Row {
    let mut row = row(name, "x", "y", answer);
    row.fields.push((field, value.to_owned()));
    row
}

fn without(name: &'static str, field: &str, answer: &'static str) -> Row {
    let mut row = row(name, "x", "y", answer);
    row.fields.retain(|(own, _)| *own != field);
    row
}

const MALFORMED: &str = "reset with 1";
/// All that the connection carries ends: what a name or a value can't be is no field at all.
const LOST: &str = "goaway with 1";
const NONE: &str = "404 GW-1002";
const REFUSED: &str = "400 GW-1001";

pub fn rows() -> Vec<Row> {
    let mut rows = targets();
    rows.extend(fields());
    rows.extend(bodies());
    rows
}

fn targets() -> Vec<Row> {
    let path = |name, path: &str, answer| row(name, ":path", path, answer);
    let after = |more: &str| format!("{PATH}{more}");
    let mut only_host = without("only Host", ":authority", "200");
    only_host.fields.push(("host", "gateway".to_owned()));
    vec![
        path("the path", PATH, "200"),
        path("two slashes", &format!("/{PATH}"), NONE),
        path("a slash behind", &after("/"), NONE),
        path("a dot segment", &format!("/.{PATH}"), NONE),
        path("two dots", &format!("/x/..{PATH}"), NONE),
        path("encoded dots", &format!("/%2e{PATH}"), NONE),
        path("an encoded slash", &PATH.replacen("/voice", "%2fvoice", 1), NONE),
        path("a parameter", &after(";x=y"), NONE),
        path("capitals", &PATH.to_uppercase(), NONE),
        path("a query", &after("?x=y"), REFUSED),
        // As in HTTP/1.1.
        path("a fragment", &after("#x"), "200"),
        path("a space behind", &after(" "), MALFORMED),
        path("another line", &after(" HTTP/1.1\r\nX: y"), MALFORMED),
        path("a NUL", &after("\0"), MALFORMED),
        path("an empty path", "", MALFORMED),
        path("no slash", PATH.trim_start_matches('/'), MALFORMED),
        path("a whole URL", &format!("http://gateway{PATH}"), MALFORMED),
        path("the asterisk", "*", NONE),
        without("no path", ":path", MALFORMED),
        also("two paths", ":path", PATH, MALFORMED),
        row("another method", ":method", "POST", "405 GW-1003"),
        row("a method in lower case", ":method", "put", "405 GW-1003"),
        // An answer to it with content is malformed (RFC 9113, section 8.1.1).
        row("HEAD", ":method", "HEAD", "no content"),
        row("a method with a line's end", ":method", "PUT / HTTP/1.1\r\nX:", LOST),
        row("CONNECT", ":method", "CONNECT", MALFORMED),
        without("no method", ":method", MALFORMED),
        without("no scheme", ":scheme", MALFORMED),
        row("another scheme", ":scheme", "https", "200"),
        row("the same Host", "host", "gateway", "200"),
        row("another Host", "host", "other", REFUSED),
        row("another port", "host", "gateway:80", REFUSED),
        row("an empty Host", "host", "", REFUSED),
        only_host,
        without("neither", ":authority", REFUSED),
        row("an empty authority", ":authority", "", MALFORMED),
        row("a user", ":authority", "user@gateway", REFUSED),
        row("a list", ":authority", "gateway,other", REFUSED),
        row("a path in the authority", ":authority", "gateway/x", MALFORMED),
        also("two authorities", ":authority", "gateway", MALFORMED),
    ]
}

fn fields() -> Vec<Row> {
    let line = |name, field, value, answer| also(name, field, value, answer);
    vec![
        line("two Hosts", "host", "gateway", "200"),
        // What concerns one connection has no place here (section 8.2.2).
        line("Connection", "connection", "close", MALFORMED),
        line("Connection with the token", "connection", "authorization", MALFORMED),
        line("Keep-Alive", "keep-alive", "5", MALFORMED),
        line("Proxy-Connection", "proxy-connection", "close", MALFORMED),
        line("Transfer-Encoding", "transfer-encoding", "chunked", MALFORMED),
        line("Transfer-Encoding that is none", "transfer-encoding", "identity", MALFORMED),
        line("Upgrade", "upgrade", "websocket", MALFORMED),
        line("TE with trailers", "te", "trailers", "200"),
        line("TE with more", "te", "trailers, gzip", MALFORMED),
        line("a name with a capital", "X-Capital", "y", LOST),
        line("a name with a space", "x y", "z", LOST),
        line("a name with a colon", "x:y", "z", LOST),
        line("a name with a line's end", "x\r\ny", "z", LOST),
        line("no name", "", "z", LOST),
        line("a value with a line's end", "x", "y\r\ntransfer-encoding: chunked", LOST),
        line("a value with bare LF", "x", "y\nz", LOST),
        line("a value with a NUL", "x", "y\0z", LOST),
        line("a pseudo-header that is none", ":x", "y", LOST),
        line("an answer's pseudo-header", ":status", "200", MALFORMED),
        line("a protocol", ":protocol", "websocket", MALFORMED),
        line("expecting to be asked", "expect", "100-continue", "200"),
        line("HTTP2-Settings", "http2-settings", "", "200"),
    ]
}

fn bodies() -> Vec<Row> {
    let length = |name, value, answer| row(name, "content-length", value, answer);
    let with = |name, body, answer| Row { body, ..row(name, "x", "y", answer) };
    let trailer = |name, field, value: &str, answer| {
        let trailers = vec![(field, value.to_owned())];
        Row { trailers, ..row(name, "x", "y", answer) }
    };
    let mut two = length("two lengths", "101", MALFORMED);
    two.fields.push(("content-length", "0".to_owned()));
    let mut reversed = length("two lengths, the other way", "0", MALFORMED);
    reversed.fields.push(("content-length", "101".to_owned()));
    let mut same = length("twice the length", "101", "200");
    same.fields.push(("content-length", "101".to_owned()));
    vec![
        length("its length", "101", "200"),
        length("too many", "102", MALFORMED),
        length("too few", "100", MALFORMED),
        length("none", "0", MALFORMED),
        length("plus", "+101", MALFORMED),
        length("a list", "101, 101", MALFORMED),
        length("2^64 and 101", "18446744073709551717", MALFORMED),
        two,
        reversed,
        same,
        with("no body", "", REFUSED),
        Row { body: "", ..length("a length and no body", "101", MALFORMED) },
        with("chunks", "65\r\n{}\r\n0\r\n\r\n", REFUSED),
        trailer("a trailer", "x", "y", "200"),
        trailer("a trailer with a token", "authorization", "Bearer x", "200"),
        // It should be malformed (section 8.1); h2 lets it fall, as the gateway does with all trailers.
        trailer("a trailer with a path", ":path", "/", "200"),
        trailer("a trailer with a length", "content-length", "5", "200"),
        trailer("a trailer for a connection", "connection", "close", MALFORMED),
    ]
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
/// How much of a body may be sent before more is asked for, at the least (section 6.9.2).
const WINDOW: usize = 65_535;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Stage {
    /// What is wrong with what comes of a stream. Another one on the same connection is served after
    /// it, unless the connection ends.
    pub fn fault_over_http2(&self, row: &Row) -> Option<String> {
        let mut stream = self.connect();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        self.request(&mut bytes, 1, &row.fields, row.body, &row.trailers);
        stream.write_all(&bytes).unwrap();
        let came = answer(&mut stream, 1);
        let mut served = usize::from(came == "200");
        let mut fault = (came != row.answer).then(|| format!("{came}, not {}", row.answer));
        if !came.starts_with("goaway") {
            bytes.clear();
            self.request(&mut bytes, 3, &good(), SAMPLE, &[]);
            stream.write_all(&bytes).unwrap();
            let next = answer(&mut stream, 3);
            served += usize::from(next == "200");
            if next != "200" {
                fault = fault.or(Some(format!("{next} to the next one")));
            }
        }
        fault = fault.or_else(|| self.fault_of_number_sent(served));
        if !self.is_served() {
            fault = fault.or(Some("the next one is not served".to_owned()));
        }
        fault.map(|fault| format!("{}: {fault}", row.name))
    }

    /// What is wrong with the refusal of a head whose body comes when the gateway has the head: the
    /// first part at once, the rest when it may be sent. A reset after the answer is no fault of
    /// HTTP/2's (RFC 9113, section 8.1), but costs some clients the answer, as curl 7.88.
    pub fn fault_of_refused(&self, fields: &[(&str, String)], body: &[u8]) -> Option<String> {
        let mut stream = self.connect();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &self.block(fields));
        if let Some(early) = ended_before(&mut stream, bytes, is_pong) {
            return Some(format!("{early} before the body"));
        }
        let mut pieces = body.chunks(16 << 10).peekable();
        let (mut bytes, mut sent) = (Vec::new(), 0);
        while let Some(piece) = pieces.next() {
            if sent + piece.len() > WINDOW {
                let is_more = |kind, _, stream| (kind, stream) == (WINDOW_UPDATE, 1);
                let bytes = std::mem::take(&mut bytes);
                if let Some(early) = ended_before(&mut stream, bytes, is_more) {
                    return Some(format!("{early} before the whole body"));
                }
                sent = 0;
            }
            let is_last = pieces.peek().is_none();
            frame(&mut bytes, DATA, if is_last { END_STREAM } else { 0 }, 1, piece);
            sent += piece.len();
        }
        stream.write_all(&bytes).unwrap();
        let came = answer(&mut stream, 1);
        let after = ended_before(&mut stream, Vec::new(), is_pong);
        after.map(|after| format!("{came}, and then {after}"))
    }

    fn request(
        &self,
        bytes: &mut Vec<u8>,
        stream: u32,
        fields: &[(&str, String)],
        body: &str,
        trailers: &[(&str, String)],
    ) {
        frame(bytes, HEADERS, END_HEADERS, stream, &self.block(fields));
        let ends = if trailers.is_empty() { END_STREAM } else { 0 };
        frame(bytes, DATA, ends, stream, body.as_bytes());
        if !trailers.is_empty() {
            frame(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &self.block(trailers));
        }
    }

    /// Literal fields, without an index (RFC 7541, section 6.2.2).
    fn block(&self, fields: &[(&str, String)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            text(&mut block, name);
            text(&mut block, &value.replace("$TOKEN", self.token()));
        }
        block
    }
}

/// A text as it is, after its length (RFC 7541, sections 5.1 and 5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ ..127 => block.push(length as u8),
        length => {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

fn is_pong(kind: u8, flags: u8, _: u32) -> bool {
    kind == PING && flags & ACK != 0
}

/// Sends this and a ping. What ends a stream before such a frame comes, if anything does.
fn ended_before(
    connection: &mut TcpStream,
    mut bytes: Vec<u8>,
    is_awaited: impl Fn(u8, u8, u32) -> bool,
) -> Option<String> {
    frame(&mut bytes, PING, 0, 0, &[0; 8]);
    connection.write_all(&bytes).unwrap();
    let mut ended = None;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).unwrap();
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; number(0) as usize >> 8];
        connection.read_exact(&mut payload).unwrap();
        let (kind, flags, stream) = (head[3], head[4], number(5));
        match kind {
            _ if is_awaited(kind, flags, stream) => return ended,
            HEADERS => ended = Some("an answer".to_owned()),
            RESET => ended = Some(format!("a reset of {stream}")),
            GOAWAY => return Some("a goaway".to_owned()),
            _ => {}
        }
    }
}

/// What comes of a stream. A body says which status it came with.
fn answer(connection: &mut TcpStream, stream: u32) -> String {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        if let Err(error) = connection.read_exact(&mut head) {
            return format!("goaway: {error}");
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let own = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) == stream;
        let mut payload = vec![0; length];
        connection.read_exact(&mut payload).unwrap();
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            GOAWAY => return format!("goaway with {}", code(4)),
            RESET if own => return format!("reset with {}", code(0)),
            DATA if own => body.extend_from_slice(&payload),
            _ => {}
        }
        if own && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let text = String::from_utf8_lossy(&body);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            return match json["errorCode"].as_str() {
                Some(code) => format!("{} {code}", json["statusCode"]),
                None if text == SAMPLE_ANSWER => "200".to_owned(),
                None if text.is_empty() => "no content".to_owned(),
                None => format!("no answer of ours: {text}"),
            };
        }
    }
}

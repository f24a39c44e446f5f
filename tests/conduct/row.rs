//! A row of the tables, and the stage on which it is played: raw sockets on both sides of the gateway.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::support::{PATH, RawCms, SAMPLE, World, wait_for};

/// What is sent, and what comes of it.
pub struct Row {
    pub name: &'static str,
    request: String,
    /// Whether the client says that nothing more will come.
    ends: bool,
    /// Every answer, in order, and whether the connection is `open` to another request then or
    /// `closed`, of which the last answer tells: as in `100, 200, open`. Anything else says nothing
    /// of that.
    answer: &'static str,
}

pub fn row(name: &'static str, request: impl Into<String>, answer: &'static str) -> Row {
    Row { name, request: request.into(), ends: false, answer }
}

impl Row {
    /// The client hangs up after the request, to this side.
    pub fn and_ends(self) -> Self {
        Self { ends: true, ..self }
    }
}

/// How long an answer may take: more than a head or a body may.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where a row has the token.
const TOKEN: &str = "$TOKEN";

/// A request that is good if these lines of its head, each with its end, and its body are.
pub fn put(lines: &str, body: &str) -> String {
    to(PATH, lines, body)
}

/// As [`put`], to another target.
pub fn to(target: &str, lines: &str, body: &str) -> String {
    starting(&format!("PUT {target} HTTP/1.1\r\nHost: gateway\r\n"), lines, body)
}

/// As [`put`], after another start of the head.
pub fn starting(start: &str, lines: &str, body: &str) -> String {
    format!(
        "{start}Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         {lines}\r\n{body}"
    )
}

/// The header of the sample's length.
pub const LENGTH: &str = "Content-Length: 101\r\n";

/// A good request, after which there may be another.
pub fn good() -> String {
    put(LENGTH, SAMPLE)
}

/// A body in one chunk.
pub fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// The gateway before a CMS of raw sockets.
pub struct Stage {
    cms: RawCms,
    world: World,
    token: String,
}

/// What came back on a connection.
struct Heard {
    answers: Vec<String>,
    /// The ids of the requests that were answered with 200.
    served: Vec<String>,
}

impl Stage {
    pub fn start() -> Self {
        let cms = RawCms::agreeing();
        let url = format!("http://{}", cms.address);
        let world = World::with(|config| {
            let (before, _) = config.split_once("url = \"").unwrap();
            let limits = "[limits]\nhead_timeout = \"1s\"\nbody_timeout = \"1s\"\n";
            *config = format!("{before}url = \"{url}\"\n{limits}");
        });
        world.gateway.wait_until_ready();
        let token = world.supervisor();
        Self { cms, world, token }
    }

    /// What is wrong with what comes of a row.
    pub fn fault(&self, row: &Row) -> Option<String> {
        let (answers, end) = row.answer.rsplit_once(", ").unwrap();
        let expected: Vec<&str> = answers.split(", ").collect();
        let mut stream = self.connect();
        let request = row.request.replace(TOKEN, &self.token);
        // The answer may come, and the connection be closed, before all of it is written.
        let _ = stream.write_all(request.as_bytes());
        if row.ends {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut heard = Heard { answers: Vec::new(), served: Vec::new() };
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        while heard.answers.len() < expected.len() && heard.next(&mut answers) {}
        if end == "open" {
            let last = good().replace(TOKEN, &self.token);
            let last = last.replace(LENGTH, "Connection: close\r\nContent-Length: 101\r\n");
            let _ = stream.write_all(last.as_bytes());
        }
        while heard.next(&mut answers) {}
        let was_told = heard.answers.last().is_some_and(|last| last.ends_with(" (last)"));
        let came = heard.answers.join(", ").replace(" (last)", "");
        let is_as_it_should_be = match end {
            "open" => came == format!("{}, 200", expected.join(", ")) && was_told,
            "closed" => came == expected.join(", ") && was_told,
            _ => came == expected.join(", "),
        };
        let sent = self.fault_of_sent(&heard.served);
        let next = self.is_served();
        if is_as_it_should_be && sent.is_none() && next {
            return None;
        }
        let told = if was_told { "told so" } else { "not told so" };
        Some(format!(
            "{}: {came} ({told}), not {}; {}{}",
            row.name,
            row.answer,
            sent.unwrap_or_default(),
            if next { "" } else { "; the next one is not served" }
        ))
    }

    /// A good request on a fresh connection.
    pub fn is_served(&self) -> bool {
        let mut stream = self.connect();
        stream.write_all(good().replace(TOKEN, &self.token).as_bytes()).unwrap();
        let mut heard = Heard { answers: Vec::new(), served: Vec::new() };
        heard.next(&mut BufReader::new(stream))
            && heard.answers == ["200"]
            && self.fault_of_sent(&heard.served).is_none()
    }

    /// What is wrong with what the CMS has heard since it was looked at, if these were to be sent.
    fn fault_of_sent(&self, ids: &[String]) -> Option<String> {
        let fault = |received: &[String]| {
            let own = |(id, request): (&String, &String)| {
                !request.contains(&format!("\r\nx-request-id: {id}\r\n"))
            };
            ids.iter().zip(received).any(own).then(|| format!("the CMS heard {received:?}"))
        };
        self.fault_of_number_sent_and(ids.len(), fault)
    }

    /// As [`Stage::fault_of_sent`], for so many.
    pub fn fault_of_number_sent(&self, number: usize) -> Option<String> {
        self.fault_of_number_sent_and(number, |_| None)
    }

    /// Each is the one canonical request, byte for byte.
    fn fault_of_number_sent_and(
        &self,
        number: usize,
        fault: impl FnOnce(&[String]) -> Option<String>,
    ) -> Option<String> {
        let received = || self.cms.received.lock().unwrap();
        wait_for("the CMS", || received().len() >= number);
        let received = std::mem::take(&mut *received());
        let received: Vec<String> =
            received.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        if received.len() != number {
            return Some(format!("the CMS heard {} requests, not {number}", received.len()));
        }
        let is_canonical = |request: &String| {
            let mut lines = request.split("\r\n");
            let id = lines.find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or_default();
            let host = self.cms.address;
            *request
                == format!(
                    "PUT {PATH} HTTP/1.1\r\ncontent-type: application/json\r\n\
                     accept: application/json\r\nx-request-id: {id}\r\n\
                     authorization: Basic Y21zLXNlcnZpY2U6Y21zLXBhc3N3b3Jk\r\n\
                     host: {host}\r\ncontent-length: 101\r\n\r\n{SAMPLE}"
                )
        };
        match received.iter().find(|request| !is_canonical(request)) {
            Some(request) => Some(format!("the CMS heard {request:?}")),
            None => fault(&received),
        }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.world.gateway.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Heard {
    /// The next answer, if there is one.
    fn next(&mut self, answers: &mut impl BufRead) -> bool {
        let (mut head, mut line) = (Vec::new(), String::new());
        loop {
            line.clear();
            match answers.read_line(&mut line) {
                Ok(0) if head.is_empty() => return false,
                Ok(read) if read > 0 => {}
                // Reset, or nothing for long.
                end => {
                    self.answers.push(format!("{end:?} after {head:?}"));
                    return false;
                }
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let field = |name: &str| {
            let mut fields = head.iter().filter_map(|line| line.split_once(": "));
            fields.find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
        };
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        answers.read_exact(&mut body).unwrap();
        let mut answer = head[0].split(' ').nth(1).unwrap_or(&head[0]).to_owned();
        if let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body)
            && let Some(code) = body["errorCode"].as_str()
        {
            answer += &format!(" {code}");
        }
        if answer == "200" {
            self.served.extend(field("x-request-id"));
        }
        if field("connection").as_deref() == Some("close") || head[0].starts_with("HTTP/1.0") {
            answer += " (last)";
        }
        self.answers.push(answer);
        true
    }
}

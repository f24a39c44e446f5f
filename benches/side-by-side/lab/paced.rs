//! Sends PUTs at a fixed rate, whatever becomes of those before, and tells of each what came of it.
//!
//! Arguments: port, path, file of tokens (used in turn), file of the body, requests a second, seconds,
//! connections. For each request that was sent a line is printed: its status (0 where the connection
//! ended without an answer), how late it was sent and how long the answer took from then, both in
//! microseconds.
//!
//! Every connection is a thread that takes the next request, waits until it is due, sends it and
//! waits for the answer. A request is late only when all connections wait for answers (or this
//! program gets too little of the machine), and how late it was is on its line, so nothing is
//! hidden by a server that makes its clients wait ("coordinated omission").

use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

/// How long after its end what is due and could not be sent yet is still sent.
const LATEST: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
const STACK: usize = 128 << 10;

struct Plan {
    port: u16,
    requests: Vec<Vec<u8>>,
    rate: f64,
    count: u64,
    begin: Instant,
    end: Instant,
    next: AtomicU64,
}

struct Outcome {
    status: u16,
    late: Duration,
    took: Duration,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, path, tokens, body, rate, seconds, connections] = &arguments[..] else {
        panic!("arguments: PORT PATH TOKENS BODY RATE SECONDS CONNECTIONS");
    };
    let body = fs::read_to_string(body).expect("the body");
    let tokens = fs::read_to_string(tokens).expect("the tokens");
    let rate: f64 = rate.parse().expect("a rate");
    let seconds: f64 = seconds.parse().expect("a number of seconds");
    let connections: usize = connections.parse().expect("a number of connections");
    // The threads are all there by then.
    let begin = Instant::now() + Duration::from_secs(1);
    let plan = Arc::new(Plan {
        port: port.parse().expect("a port"),
        requests: tokens.lines().map(|token| request(path, token, &body)).collect(),
        rate,
        count: (rate * seconds) as u64,
        begin,
        end: begin + Duration::from_secs_f64(seconds),
        next: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let plan = Arc::clone(&plan);
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn(move || plan.work()).expect("a thread")
        })
        .collect();
    let mut out = BufWriter::new(io::stdout().lock());
    for thread in threads {
        for Outcome { status, late, took } in thread.join().expect("a thread's outcomes") {
            writeln!(out, "{status} {} {}", late.as_micros(), took.as_micros()).expect("a reader");
        }
    }
}

fn request(path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Plan {
    fn work(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut open = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count || Instant::now() > self.end + LATEST {
                return outcomes;
            }
            let due = self.begin + Duration::from_secs_f64(number as f64 / self.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let request = &self.requests[number as usize % self.requests.len()];
            let status = match self.exchange(open.take(), request) {
                Ok((status, stream)) => {
                    open = stream;
                    status
                }
                Err(_) => 0,
            };
            outcomes.push(Outcome { status, late: sent - due, took: sent.elapsed() });
        }
    }

    /// The status, and the connection where it can be used again.
    fn exchange(
        &self,
        open: Option<TcpStream>,
        request: &[u8],
    ) -> io::Result<(u16, Option<TcpStream>)> {
        let mut stream = match open {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(request)?;
        let (status, closes) = answer(&mut stream)?;
        Ok((status, (!closes).then_some(stream)))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Reads one answer; its status, and whether the server closes the connection after it.
fn answer(stream: &mut TcpStream) -> io::Result<(u16, bool)> {
    let mut buffer = [0; 32 << 10];
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        if let Some(head) = Head::of(&buffer[..length])? {
            if length >= head.end + head.content_length {
                return Ok((head.status, head.closes));
            }
        }
    }
}

struct Head {
    status: u16,
    end: usize,
    content_length: usize,
    closes: bool,
}

impl Head {
    /// None where it is not whole yet.
    fn of(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let field = |name: &str| {
            text.lines().filter_map(|line| line.split_once(':')).find(|(found, _)| *found == name)
        };
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<usize>().ok());
        let status = number(text.split(' ').nth(1));
        let content_length = number(field("content-length").map(|(_, value)| value));
        let (Some(status), Some(content_length)) = (status, content_length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let closes = field("connection").is_some_and(|(_, value)| value.trim() == "close");
        Ok(Some(Self { status: status as u16, end: end + 4, content_length, closes }))
    }
}

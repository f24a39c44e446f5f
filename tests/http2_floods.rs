//! Attacks on HTTP/2 itself, in frames written by hand: each ends its own connection and nothing else.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use support::{PATH, PATIENCE, SAMPLE, World, wait_for};

// Types of frames, flags and error codes (RFC 9113, sections 6 and 7).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A number with a prefix of seven bits (RFC 7541, section 5.1).
fn number(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    value -= 127;
    let mut bytes = vec![127];
    while value >= 128 {
        bytes.push((value % 128 + 128) as u8);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// A header as it is, with the first byte that says whether it is remembered.
fn header(first: u8, name: &str, value: &str) -> Vec<u8> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    [&[first][..], &number(name.len()), name, &number(value.len()), value].concat()
}

/// A header that is not remembered.
fn literal(name: &str, value: &str) -> Vec<u8> {
    header(0, name, value)
}

/// The head of a good request.
fn head(world: &World) -> Vec<u8> {
    let token = format!("Bearer {}", world.supervisor());
    let fields = [
        (":method", "PUT"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", PATH),
        ("authorization", &token),
        ("content-type", "application/json"),
    ];
    fields.map(|(name, value)| literal(name, value)).concat()
}

/// A connection in HTTP/2.
struct Connection(TcpStream);

/// What it has said to its end.
#[derive(Debug, Default)]
struct Said {
    /// The code of its last GOAWAY.
    goodbye: Option<u32>,
    /// The codes with which requests were reset.
    resets: Vec<u32>,
    /// The first bytes of the heads of answers.
    heads: Vec<u8>,
}

impl Connection {
    fn open(world: &World) -> Self {
        let mut stream = TcpStream::connect(world.gateway.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let begin =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&begin).unwrap();
        Self(stream)
    }

    /// Sends all of it, or as much as the gateway takes, and reads until it closes.
    fn send(mut self, bytes: Vec<u8>) -> Said {
        let mut writer = self.0.try_clone().unwrap();
        let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
        let mut said = Said::default();
        while let Some(frame) = self.read() {
            said.note(&frame);
        }
        writing.join().unwrap();
        said
    }

    /// The next frame: type and payload. Nothing when the connection has ended; a time-out fails.
    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        if let Err(error) = self.0.read_exact(&mut head) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it does not end");
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], payload))
    }
}

impl Said {
    fn note(&mut self, (kind, payload): &(u8, Vec<u8>)) {
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match *kind {
            GOAWAY => self.goodbye = Some(code(4)),
            RST_STREAM => self.resets.push(code(0)),
            HEADERS => self.heads.push(payload[0]),
            _ => {}
        }
    }
}

fn world() -> World {
    let world = World::start();
    world.gateway.wait_until_ready();
    world
}

/// A good request is served on a fresh connection, in both versions, and nothing is left behind.
fn assert_serves(world: &World) {
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let mut connection = Connection::open(world);
    let head = frame(HEADERS, END_HEADERS, 1, &head(world));
    let body = frame(DATA, END_STREAM, 1, SAMPLE.as_bytes());
    connection.0.write_all(&[head, body].concat()).unwrap();
    let mut said = Said::default();
    while said.heads.is_empty() {
        said.note(&connection.read().unwrap());
    }
    // `:status 200` of the static table.
    assert_eq!(said.heads, [0x88], "{said:?}");
    drop(connection);
    let metric = |name| world.gateway.metric(name);
    wait_for("the end of all", || metric("cms_gateway_in_flight") == Some(0.0));
    wait_for("the end of connections", || metric("cms_gateway_connections") == Some(0.0));
}

/// The most memory that the gateway has had, in bytes.
fn most_memory(world: &World) -> u64 {
    let id = world.gateway.child.id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The identifiers of the first requests of a connection.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|index| index * 2 + 1)
}

#[test]
fn clients_are_told_the_limits() {
    let world = world();
    let (kind, settings) = Connection::open(&world).read().unwrap();
    assert_eq!(kind, SETTINGS);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let settings = settings.chunks(6).map(|pair| (number(&pair[..2]), number(&pair[2..])));
    let settings: BTreeMap<u32, u32> = settings.collect();
    // Requests at a time, bytes of a body, bytes of a head (RFC 9113, section 6.5.2): twice what
    // limits.head has and a bit more, up to which the gateway refuses in its own words.
    assert_eq!([3, 4, 6].map(|name| settings[&name]), [128, 64 << 10, 40 << 10], "{settings:?}");
}

#[test]
fn requests_that_are_taken_back_at_once_end_their_connection() {
    let world = world();
    let head = head(&world);
    let attack = streams(1000).flat_map(|stream| {
        let request = frame(HEADERS, END_HEADERS, stream, &head);
        [request, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
    });
    let said = Connection::open(&world).send(attack.collect());
    assert_eq!(said.goodbye, Some(ENHANCE_YOUR_CALM), "{said:?}");
    assert_eq!((world.cms.calls(), world.records().len()), (0, 0));
    assert_serves(&world);
}

#[test]
fn more_requests_at_a_time_than_there_are_places_are_refused_and_too_many_end_the_connection() {
    let world = world();
    let head = head(&world);
    let attack = streams(1000).flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &head));
    let said = Connection::open(&world).send(attack.collect());
    assert_eq!(said.goodbye, Some(ENHANCE_YOUR_CALM), "{said:?}");
    assert!(said.resets.iter().all(|code| *code == REFUSED_STREAM), "{said:?}");
    assert!((1..=128).contains(&said.resets.len()), "{said:?}");
    assert_serves(&world);
}

#[test]
fn requests_that_break_the_rules_so_that_the_gateway_takes_them_back_end_their_connection() {
    let world = world();
    let head = head(&world);
    let attack = streams(1000).flat_map(|stream| {
        let request = frame(HEADERS, END_HEADERS, stream, &head);
        // More room than there can be is an error of the request (RFC 9113, section 6.9.1).
        [request, frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())].concat()
    });
    let said = Connection::open(&world).send(attack.collect());
    assert_eq!(said.goodbye, Some(ENHANCE_YOUR_CALM), "{said:?}");
    assert!(said.resets.len() <= 128, "{said:?}");
    assert_eq!(world.cms.calls(), 0);
    assert_serves(&world);
}

#[test]
fn heads_that_go_on_without_an_end_end_their_connection() {
    let world = world();
    let begin = frame(HEADERS, 0, 1, &head(&world));
    let field = literal("x-more", &"x".repeat(100));
    let large = literal("x-more", &"x".repeat(16_000));
    let text = vec![b'x'; 16_000];
    // A header that says to be of 16 MiB.
    let endless = [&[0, 6][..], b"x-more", &number(16 << 20), &text].concat();
    for (what, first, more) in [
        ("small ones", &field, &field),
        ("empty ones", &Vec::new(), &Vec::new()),
        ("large ones", &large, &large),
        ("one without an end", &endless, &text),
    ] {
        let again = frame(CONTINUATION, 0, 1, more).repeat(200);
        let attack = [&begin[..], &frame(CONTINUATION, 0, 1, first), &again].concat();
        let said = Connection::open(&world).send(attack);
        let is_told = [Some(ENHANCE_YOUR_CALM), Some(COMPRESSION_ERROR)].contains(&said.goodbye);
        assert!(is_told && said.heads.is_empty(), "{what}: {said:?}");
        assert_serves(&world);
    }
    assert_eq!(world.records().len(), 16, "two for each of two good requests");
}

#[test]
fn a_head_that_stops_in_the_middle_has_its_time_and_no_more() {
    let world = World::with(|config| *config += "[limits]\nhead_timeout = \"500ms\"\n");
    world.gateway.wait_until_ready();
    let begin = frame(HEADERS, 0, 1, &head(&world));
    let said = Connection::open(&world).send(begin);
    assert!(said.heads.is_empty(), "{said:?}");
    assert_serves(&world);
}

/// One byte of the head stands for 4 KiB of it.
#[test]
fn a_head_that_unfolds_to_megabytes_ends_its_connection_and_takes_no_memory() {
    let world = world();
    assert_serves(&world);
    let before = most_memory(&world);
    let remembered = header(0x40, "x", &"x".repeat(4000));
    // The newest of the headers that are remembered.
    let bomb = [head(&world), remembered, vec![0x80 | 62; 15_000 - 4100]].concat();
    for _ in 0..20 {
        let said = Connection::open(&world).send(frame(HEADERS, END_HEADERS, 1, &bomb));
        assert_eq!(said.goodbye, Some(ENHANCE_YOUR_CALM), "{said:?}");
    }
    let grown = most_memory(&world) - before;
    assert!(grown < 16 << 20, "{grown} bytes for 20 times 43 MB");
    assert_serves(&world);
}

/// Each asks for an answer or for nothing, and its sender reads nothing.
#[test]
fn small_frames_without_end_take_no_memory_and_no_place_for_long() {
    let world = World::with(|config| {
        *config +=
            "[limits]\nhead_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"1s\"\n";
    });
    world.gateway.wait_until_ready();
    assert_serves(&world);
    let request = frame(HEADERS, END_HEADERS, 1, &head(&world));
    let before = most_memory(&world);
    for (what, first, again) in [
        ("pings", Vec::new(), frame(PING, 0, 0, &[0; 8])),
        ("settings", Vec::new(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("priorities", Vec::new(), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 0])),
        ("a body of nothing", request.clone(), frame(DATA, 0, 1, &[])),
        ("resets of an answered request", request, frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())),
    ] {
        let mut stream = Connection::open(&world).0;
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let flood = [first, again.repeat(1_000_000)].concat();
        let flooding = std::thread::spawn(move || stream.write_all(&flood).map(|()| stream));
        assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200, "{what}");
        // Its connection is closed for it, or has swallowed all.
        let left = flooding.join().unwrap();
        let failed = left.as_ref().err().map(std::io::Error::kind);
        assert_ne!(failed, Some(std::io::ErrorKind::WouldBlock), "{what}: it hangs");
        drop(left);
        assert_serves(&world);
    }
    let grown = most_memory(&world) - before;
    assert!(grown < 16 << 20, "{grown} bytes");
}

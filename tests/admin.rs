//! The admin listener's bounds: on connections, on heads, on time.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Gateway, PATIENCE, World, exchange, next_status, parse, wait_for};

/// The most connections, and how long each may do nothing.
const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(10);
/// How much earlier than `TIME` an end may seem to come: the clocks of the two don't begin at once.
const EARLY: Duration = Duration::from_millis(500);

fn world() -> World {
    let world = World::start();
    world.gateway.wait_until_ready();
    world
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

fn connect(gateway: &Gateway, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    stream
}

/// What still comes, and how long it took until the end of the connection.
fn rest(mut stream: &TcpStream, since: Instant) -> (Vec<u8>, Duration) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "no end within {PATIENCE:?}");
    }
    (rest, since.elapsed())
}

#[test]
fn clients_that_never_read_are_let_go() {
    let world = world();
    std::thread::scope(|scope| {
        for path in ["/metrics", "/openapi.json", "/livez"] {
            let gateway = &world.gateway;
            scope.spawn(move || {
                let (mut stream, many) = (connect(gateway, ""), get(path, "").repeat(1000));
                let end = loop {
                    if let Err(error) = stream.write_all(many.as_bytes()) {
                        break error.kind();
                    }
                };
                let reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(reset.contains(&end), "{path}: {end:?}");
            });
        }
    });
    assert_eq!(world.gateway.admin("/livez").status, 200);
}

#[test]
fn silence_heads_and_bodies_that_do_not_come_have_their_time() {
    let world = world();
    let (half, idle) = ("GET /livez HTTP/1.1\r\nHost", get("/livez", ""));
    let start = Instant::now();
    let streams = ["", half, &idle].map(|text| connect(&world.gateway, text));
    for (stream, is_answered) in streams.iter().zip([false, false, true]) {
        let (bytes, took) = rest(stream, start);
        assert_eq!(bytes.starts_with(b"HTTP/1.1 200 OK"), is_answered);
        assert!(took + EARLY >= TIME && took < PATIENCE, "{took:?}");
    }
    // What follows a head is not waited for.
    for body in ["Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let start = Instant::now();
        let text = get("/livez", body).replacen("GET", "POST", 1);
        let (bytes, took) = rest(&connect(&world.gateway, &text), start);
        assert_eq!(parse(&bytes).status, 405);
        assert!(took + EARLY < TIME, "{took:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let world = world();
    let ask = |more: &str| exchange(world.gateway.admin, get("/livez", more).as_bytes());
    let close = "Connection: close\r\n";
    let long = |length: usize| format!("{close}X-Long: {}\r\n", "x".repeat(length));
    assert_eq!(ask(&long(8 << 10)).status, 200);
    let reply = ask(&long(17 << 10));
    assert_eq!((reply.status, reply.code().as_str()), (431, "GW-1007"));
    let many = |count: usize| format!("{close}{}", "X-Many: x\r\n".repeat(count));
    assert_eq!(ask(&many(90)).status, 200);
    assert_eq!(ask(&many(101)).status, 431);
}

#[test]
fn there_is_a_place_for_so_many_connections_and_no_more() {
    let world = world();
    let mut streams = Vec::new();
    while streams.len() < CONNECTIONS {
        // One of those that have just ended may have its place still.
        let stream = connect(&world.gateway, &get("/livez", ""));
        if next_status(&mut BufReader::new(&stream)) == 200 {
            streams.push(stream);
        }
    }
    let (bytes, took) = rest(&connect(&world.gateway, ""), Instant::now());
    assert_eq!(bytes, b"");
    assert!(took + EARLY < TIME, "{took:?}");
    drop(streams);
    wait_for("a place", || {
        let stream = connect(&world.gateway, "");
        let _ = (&stream).write_all(get("/livez", "Connection: close\r\n").as_bytes());
        rest(&stream, Instant::now()).0.starts_with(b"HTTP/1.1 200 OK")
    });
}

//! Connections that stay open between two requests.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use support::{SAMPLE, World, next_status, request, wait_for};

/// A connection that rests for as long is no longer hyper's, which would close it.
const HEAD: &str = "[limits]\nhead_timeout = \"1s\"\n";
const LONGER: Duration = Duration::from_millis(1600);

/// Waits while the gateway says nothing.
#[track_caller]
fn assert_stays_open(stream: &TcpStream) {
    stream.set_read_timeout(Some(LONGER)).unwrap();
    let silence = (&*stream).read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(silence, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{silence:?}");
    stream.set_read_timeout(None).unwrap();
}

#[track_caller]
fn assert_is_closed(mut stream: &TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

fn kept_alive(world: &World) -> String {
    request(&world.supervisor(), SAMPLE).replacen("Connection: close", "Connection: keep-alive", 1)
}

#[test]
fn what_comes_after_a_rest_is_served_on_the_same_connection() {
    let world = World::with(|config| *config += HEAD);
    world.gateway.wait_until_ready();
    let good = kept_alive(&world);
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    // Whole, cut within what HTTP/2 begins with, cut in the head, cut in the body, two at once.
    for parts in [&[good.len()][..], &[2], &[40], &[good.len() - 40], &[good.len() * 2]] {
        let text = if parts[0] > good.len() { good.repeat(2) } else { good.clone() };
        let (first, rest) = text.split_at(parts[0]);
        stream.write_all(first.as_bytes()).unwrap();
        stream.write_all(rest.as_bytes()).unwrap();
        for _ in 0..text.len() / good.len() {
            assert_eq!(next_status(&mut answers), 200);
        }
        assert_stays_open(&stream);
    }
    assert_eq!(world.cms.calls(), 6);
    assert_eq!(world.gateway.metric("cms_gateway_connections"), Some(1.0));
    stream.write_all(good.replacen("keep-alive", "close", 1).as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 200);
    assert_eq!(answers.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_head_that_begins_after_a_rest_has_its_time_and_no_more() {
    let world = World::with(|config| *config += HEAD);
    world.gateway.wait_until_ready();
    let good = kept_alive(&world);
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    stream.write_all(good.as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 200);
    assert_stays_open(&stream);
    stream.write_all(&good.as_bytes()[..40]).unwrap();
    let mut answer = Vec::new();
    answers.read_to_end(&mut answer).unwrap();
    let reply = support::parse(&answer);
    assert_eq!((reply.status, reply.code().as_str()), (408, "GW-1006"));
}

#[test]
fn a_connection_that_rests_too_long_is_closed() {
    let world = World::with(|config| {
        *config += HEAD;
        *config += "idle_timeout = \"3s\"\n";
    });
    world.gateway.wait_until_ready();
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    stream.write_all(kept_alive(&world).as_bytes()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(next_status(&mut answers), 200);
    assert_stays_open(&stream);
    assert_is_closed(&stream);
}

#[test]
fn a_stop_closes_connections_that_rest() {
    let mut world = World::with(|config| {
        *config += HEAD;
        *config += "[drain]\ntimeout = \"1h\"\n";
    });
    world.gateway.wait_until_ready();
    let good = kept_alive(&world);
    let [resting, fresh] = [(); 2].map(|()| {
        let mut stream = TcpStream::connect(world.gateway.api).unwrap();
        stream.write_all(good.as_bytes()).unwrap();
        assert_eq!(next_status(&mut BufReader::new(&stream)), 200);
        stream
    });
    assert_stays_open(&resting);
    let mut last = &fresh;
    last.write_all(good.as_bytes()).unwrap();
    assert_eq!(next_status(&mut BufReader::new(last)), 200);
    world.gateway.signal("-TERM");
    assert_is_closed(&resting);
    assert_is_closed(&fresh);
    assert!(world.gateway.wait().success());
}

#[test]
fn a_client_that_reads_late_gets_every_answer() {
    // More than the sockets between the two hold.
    const MANY: usize = 15_000;
    let world = World::with(|config| *config += HEAD);
    world.gateway.wait_until_ready();
    let good = kept_alive(&world);
    let refused = good.replacen("PUT ", "GET ", 1);
    let send_all = |stream: &TcpStream, count: usize| {
        let (mut sending, text) = (stream.try_clone().unwrap(), refused.repeat(count));
        std::thread::spawn(move || sending.write_all(text.as_bytes()).unwrap())
    };
    let read_all = |stream: &TcpStream, count: usize| {
        let mut answers = BufReader::new(stream);
        for _ in 0..count {
            assert_eq!(next_status(&mut answers), 405);
        }
    };
    let full = with_a_small_buffer(&world);
    let sending = send_all(&full, MANY);
    let fit = answered_for_now(&world);
    assert!(fit < MANY, "all of them are written");
    read_all(&full, MANY);
    sending.join().unwrap();
    // Of these, the last answers are neither in a socket nor kept from being made.
    let connections = [30, 60, 90, 120].map(|fewer| {
        let stream = with_a_small_buffer(&world);
        let _ = send_all(&stream, fit - fewer);
        (stream, fit - fewer)
    });
    let all = MANY + connections.iter().map(|(_, count)| count).sum::<usize>();
    assert_eq!(answered_for_now(&world), all);
    for (mut stream, count) in connections {
        read_all(&stream, count);
        stream.write_all(good.as_bytes()).unwrap();
        assert_eq!(next_status(&mut BufReader::new(&stream)), 200);
    }
}

#[test]
fn a_client_that_never_reads_is_let_go_whatever_it_has_sent() {
    let world = World::with(|config| {
        *config += HEAD;
        *config += "idle_timeout = \"500ms\"\n";
    });
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let length = request(&token, "").replacen("PUT ", "GET ", 1);
    let length = length.replacen("Connection: close\r\n", "", 1);
    let chunks = length.replacen("Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", 1);
    let chunks = chunks + "0\r\n\r\n";
    for text in [length, chunks] {
        let stream = with_a_small_buffer(&world);
        let mut sending = stream.try_clone().unwrap();
        // It fails where the gateway lets go first.
        std::thread::spawn(move || sending.write_all(text.repeat(15_000).as_bytes()));
        answered_for_now(&world);
        let open = || world.gateway.metric("cms_gateway_connections");
        wait_for("its place", || open() == Some(0.0));
        drop(stream);
    }
}

#[test]
fn http_2_does_not_begin_after_a_rest() {
    let world = World::with(|config| *config += HEAD);
    world.gateway.wait_until_ready();
    let mut stream = TcpStream::connect(world.gateway.api).unwrap();
    stream.write_all(kept_alive(&world).as_bytes()).unwrap();
    assert_eq!(next_status(&mut BufReader::new(&stream)), 200);
    assert_stays_open(&stream);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    assert_is_closed(&stream);
}

/// How many requests are answered once none is for longer than a connection has before it rests.
fn answered_for_now(world: &World) -> usize {
    let metric = "cms_gateway_requests_total{decision=\"none\",operation=\"none\",status=\"405\"}";
    let mut last = (0.0, Instant::now());
    wait_for("a while without an answer", || {
        let answered = world.gateway.metric(metric).unwrap_or_default();
        if answered != last.0 {
            last = (answered, Instant::now());
        }
        answered > 0.0 && last.1.elapsed() > LONGER
    });
    last.0 as usize
}

fn with_a_small_buffer(world: &World) -> TcpStream {
    let stream = world.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        socket.connect(world.gateway.api).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

//! Clients that are slow on purpose, each in its own place: the handshake, the head, the body.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::authority::Authority;
use support::tls_gateway::{TlsGateway, of_client};
use support::{PATH, PATIENCE, SAMPLE, World, parse, request, wait_for};

/// The time that a client has for a handshake, a head and a body.
const TIME: Duration = Duration::from_millis(700);
/// More than it can have had.
const MOST: Duration = Duration::from_secs(10);
/// The pause between two bytes: many fit into that time, so that each comes early enough.
const PAUSE: Duration = Duration::from_millis(50);
const LIMITS: &str = "[limits]\nhead_timeout = \"700ms\"\nbody_timeout = \"700ms\"\n";

fn gateway() -> TlsGateway {
    TlsGateway::start_with("", |config| *config += LIMITS, |_| {})
}

/// Writes a byte at a time for as long as it is taken, but not beyond `MOST`, and says how long it
/// was and what came back.
fn trickle<S: Read + Write>(mut stream: S, bytes: &[u8]) -> (Duration, Vec<u8>) {
    let (start, mut answer) = (Instant::now(), Vec::new());
    for byte in bytes.iter().cycle() {
        if start.elapsed() > MOST || stream.write_all(&[*byte]).is_err() {
            break;
        }
        let _ = stream.flush();
        let mut read = [0; 4096];
        match stream.read(&mut read) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&read[..length]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => break,
        }
    }
    (start.elapsed(), answer)
}

/// It had its time, and not much more.
#[track_caller]
fn assert_in_time(took: Duration) {
    assert!(took >= TIME - PAUSE && took < MOST, "{took:?}");
}

/// Its place is free again, and others are served.
fn assert_is_over(gateway: &TlsGateway) {
    assert_eq!(gateway.status(None), Some(200));
    let open = || gateway.world.gateway.metric("cms_gateway_connections");
    wait_for("the end of connections", || open() == Some(0.0));
}

#[test]
fn a_handshake_that_does_not_end_has_its_time_and_keeps_nobody_out() {
    let gateway = gateway();
    // Handshake records that say nothing yet: the first four bytes of a ClientHello, in pieces.
    let hello = [22, 3, 1, 0, 250, 1, 0, 0, 246, 3, 3];
    for first in [0, 1, hello.len()] {
        let mut stream = TcpStream::connect(gateway.world.gateway.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let start = Instant::now();
        stream.write_all(&hello[..first]).unwrap();
        assert_eq!(gateway.status(None), Some(200), "others are served meanwhile");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_in_time(start.elapsed());
    }
    let stream = TcpStream::connect(gateway.world.gateway.api).unwrap();
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    let (took, _) = trickle(stream, &[&hello[..], &[7; 1 << 10]].concat());
    assert_in_time(took);
    assert_is_over(&gateway);
    assert_eq!(gateway.failures("too_slow"), 4.0);
}

/// The client waits before the last message of the handshake, which holds its certificate.
#[test]
fn a_handshake_that_stops_before_its_end_has_its_time() {
    let authority = Authority::new();
    let gateway = TlsGateway::start_with(
        ", client_ca = \"clients.pem\", client_certificate = \"required\"",
        |config| *config += LIMITS,
        |folder| fs::write(folder.join("clients.pem"), authority.pem()).unwrap(),
    );
    let own = of_client(&authority, |_| {}).identity();
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(gateway.client(Some(&own)), name).unwrap();
    let mut stream = TcpStream::connect(gateway.world.gateway.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    client.write_tls(&mut stream).unwrap();
    while client.is_handshaking() && !client.wants_write() {
        assert!(client.read_tls(&mut stream).unwrap() > 0);
        client.process_new_packets().unwrap();
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_in_time(start.elapsed());
    assert_eq!(gateway.status(Some(&own)), Some(200));
}

#[test]
fn a_head_and_a_body_that_trickle_have_their_time_over_tls() {
    let gateway = gateway();
    let good = request(&gateway.world.supervisor(), SAMPLE);
    let endless = good.replace("Content-Length: 101", "Content-Length: 60000");
    let (head, _) = endless.split_at(endless.len() - SAMPLE.len());
    for (what, first, rest) in
        [("head", "PUT /cms HTTP/1.1\r\n", "X-More: x\r\n"), ("body", head, SAMPLE)]
    {
        let mut stream = gateway.connect(&gateway.client(None)).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        stream.sock.set_read_timeout(Some(PAUSE)).unwrap();
        let (took, answer) = trickle(stream, rest.as_bytes());
        assert_in_time(took);
        let reply = parse(&answer);
        assert_eq!((reply.status, reply.code().as_str()), (408, "GW-1006"), "{what}");
        assert_is_over(&gateway);
    }
    let counted = "cms_gateway_errors_total{code=\"GW-1006\"}";
    assert_eq!(gateway.world.gateway.metric(counted), Some(2.0));
}

#[test]
fn a_body_that_trickles_has_its_time_over_http_2() {
    let world = World::with(|config| *config += LIMITS);
    world.gateway.wait_until_ready();
    let request = http::Request::put(format!("http://gateway{PATH}"))
        .header("authorization", format!("Bearer {}", world.supervisor()))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let start = Instant::now();
    let status = world.block_on(async {
        let stream = tokio::net::TcpStream::connect(world.gateway.api).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let (mut answer, mut body) = client.send_request(request, false).unwrap();
        loop {
            tokio::select! {
                answer = &mut answer => break answer.unwrap().status(),
                () = tokio::time::sleep(PAUSE) => {
                    let _ = body.send_data(Bytes::from_static(b" "), false);
                }
            }
        }
    });
    assert_eq!(status, 408);
    assert_in_time(start.elapsed());
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
}

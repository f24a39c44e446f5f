//! The connections to the CMS: used again while they are good, and a change is sent once more only
//! where it can't have arrived.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{SAMPLE, SAMPLE_ANSWER, World, wait_for};

/// A CMS of raw sockets that does this with each of its connections, which are counted from 0.
struct Cms {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A connection to it.
struct Connection {
    stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Cms {
    fn start(serve: impl Fn(usize, Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::default());
        let (counted, noted) = (Arc::clone(&connections), Arc::clone(&requests));
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let connection = Connection { stream, requests: Arc::clone(&noted) };
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(number, connection));
            }
        });
        Self { address, connections, requests }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Connection {
    /// Reads a request; false at the end of the connection.
    fn read(&mut self) -> bool {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !(bytes.ends_with(b"}") && bytes.windows(4).any(|four| four == b"\r\n\r\n")) {
            if !self.stream.read(&mut byte).is_ok_and(|read| read == 1) {
                return false;
            }
            bytes.push(byte[0]);
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn answer(&mut self) {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            SAMPLE_ANSWER.len(),
            SAMPLE_ANSWER
        );
        self.stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn a_connection_is_used_again() {
    let cms = Cms::start(|_, mut connection| {
        while connection.read() {
            connection.answer();
        }
    });
    let world = World::with_cms(cms.address);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    for _ in 0..10 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    assert_eq!((cms.connections(), cms.requests()), (1, 10));
    assert_eq!(world.gateway.metric("cms_gateway_upstream_connections"), Some(1.0));
}

#[test]
fn a_connection_that_the_cms_closes_after_an_answer_costs_no_request() {
    let cms = Cms::start(|_, mut connection| {
        connection.read();
        connection.answer();
    });
    let world = World::with_cms(cms.address);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    for _ in 0..20 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    let open = || world.gateway.metric("cms_gateway_upstream_connections");
    wait_for("the end of all connections", || open() == Some(0.0));
}

#[test]
fn a_change_that_met_the_end_of_an_idle_connection_is_sent_once_more() {
    let cms = Cms::start(|number, mut connection| {
        if connection.read() {
            connection.answer();
        }
        // The first connection ends as the second request is on its way.
        if connection.read() && number > 0 {
            connection.answer();
        }
    });
    let world = World::with_cms(cms.address);
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    for _ in 0..2 {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
    }
    assert_eq!((cms.connections(), cms.requests()), (2, 3));
}

#[test]
fn a_change_that_may_have_arrived_is_not_sent_again() {
    let cms = Cms::start(|_, mut connection| {
        connection.read();
    });
    let world = World::with_cms(cms.address);
    world.gateway.wait_until_ready();
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!(reply.status, 502, "{reply:?}");
    assert_eq!((cms.connections(), cms.requests()), (1, 1));
}

#[test]
fn what_hangs_ends_in_time_and_its_connection_with_it() {
    for words in
        ["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
    {
        let cms = Cms::start(move |_, mut connection| {
            connection.read();
            connection.stream.write_all(words.as_bytes()).unwrap();
            connection.read();
        });
        let world = World::with(|config| {
            let (before, _) = config.split_once("url = \"").unwrap();
            let timeouts = "head_timeout = \"1s\"\nresponse_timeout = \"1s\"\n";
            *config = format!("{before}url = \"http://{}\"\n{timeouts}", cms.address);
        });
        world.gateway.wait_until_ready();
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!((reply.status, reply.code().as_str()), (504, "GW-5003"), "{words}");
        assert_eq!(cms.requests(), 1);
        let open = || world.gateway.metric("cms_gateway_upstream_connections");
        wait_for("the end of the connection", || open() == Some(0.0));
    }
}

//! Callers whom nobody knows yet, and whose issuer is slow, leave room for those whom one knows.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::issuers::{refusals, serve_with_a_full_log};
use support::{PATIENCE, SAMPLE, World, request, wait_for, write_secret};

/// The requests that the gateway works on at most.
const IN_FLIGHT: usize = 64;
/// Half of them may wait for issuers, of which there are two.
const WAITING: usize = IN_FLIGHT / 2 / 2;
/// How many questions may be on their way to the issuer.
const CONCURRENCY: usize = 8;
/// How many callers come at once.
const MANY: usize = 200;

/// An introspection endpoint that answers nobody until it is told to, and then all of them.
struct SlowIssuer {
    address: SocketAddr,
    questions: Arc<Questions>,
}

#[derive(Default)]
struct Questions {
    open: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
    are_answered: AtomicBool,
}

impl SlowIssuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let questions = Arc::new(Questions::default());
        let noted = Arc::clone(&questions);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let questions = Arc::clone(&noted);
                std::thread::spawn(move || questions.take(stream));
            }
        });
        Self { address, questions }
    }
}

impl Questions {
    /// One question on each connection.
    fn take(&self, mut stream: TcpStream) {
        let (mut asked, mut buffer) = (Vec::new(), [0; 4096]);
        while !asked.windows(6).any(|window| window == b"token=") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => asked.extend_from_slice(&buffer[..read]),
            }
        }
        self.all.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        wait_for("the word to answer", || self.are_answered.load(Ordering::SeqCst));
        // Before the answer, after which the next question may come.
        self.open.fetch_sub(1, Ordering::SeqCst);
        let body = "{\"active\":false}";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    }

    fn count(&self) -> [usize; 3] {
        [&self.open, &self.most, &self.all].map(|count| count.load(Ordering::SeqCst))
    }
}

/// A gateway that verifies the sandbox's tokens and asks this issuer about others.
fn beside(issuer: &SlowIssuer) -> World {
    let introspected = format!(
        "[[issuers]]\nissuer = \"https://slow.example.com/\"\naudiences = [\"cms-gateway\"]\n\
         roles_claim = \"roles\"\nintrospection = {{ url = \"http://{}/\", \
         client_id = \"gateway\", client_secret = \"secret\", timeout = \"20s\", \
         concurrency = {CONCURRENCY} }}\n",
        issuer.address
    );
    let world = World::with_command(
        |config| {
            *config = config.replacen("[roles.", &format!("{introspected}[roles."), 1);
            config.push_str(&format!("[limits]\nin_flight = {IN_FLIGHT}\n"));
        },
        |config| {
            write_secret(&config.with_file_name("secret"), "of the gateway");
            serve_with_a_full_log(config)
        },
    );
    world.gateway.wait_until_ready();
    world
}

/// So many callers, each with a token that only its issuer can judge.
fn crowd(world: &World, name: &str) -> Vec<TcpStream> {
    let callers = (0..MANY).map(|number| {
        let mut stream = TcpStream::connect(world.gateway.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = format!("{name}-{number}");
        stream.write_all(request(&token, SAMPLE).as_bytes()).unwrap();
        stream
    });
    callers.collect()
}

fn answered(callers: &[TcpStream]) -> usize {
    let is_answered = |caller: &&TcpStream| {
        caller.set_nonblocking(true).unwrap();
        caller.peek(&mut [0]).is_ok_and(|read| read > 0)
    };
    callers.iter().filter(is_answered).count()
}

fn in_flight(world: &World) -> usize {
    world.gateway.metric("cms_gateway_in_flight").unwrap() as usize
}

#[test]
fn a_slow_issuer_takes_its_part_of_the_room_and_is_not_asked_more_for_those_who_hang_up() {
    let issuer = SlowIssuer::start();
    let world = beside(&issuer);
    let good = world.supervisor();
    for name in ["one", "two", "three"] {
        let callers = crowd(&world, name);
        wait_for("all but those who may wait", || answered(&callers) == MANY - WAITING);
        for _ in 0..10 {
            world.assert_accepted(&good);
        }
        wait_for("the answers to the good ones", || in_flight(&world) == WAITING);
        assert_eq!(answered(&callers), MANY - WAITING);
        drop(callers);
        wait_for("their hanging up", || in_flight(&world) == 0);
        wait_for("the questions", || issuer.questions.count()[2] >= CONCURRENCY);
        assert_eq!(issuer.questions.count(), [CONCURRENCY; 3], "{name}");
    }
    assert!(refusals(&world.gateway, "introspection_busy") > 0.0);
    // The issuer answers, and all who wait learn it.
    let callers = crowd(&world, "four");
    wait_for("all but those who may wait", || answered(&callers) == MANY - WAITING);
    issuer.questions.are_answered.store(true, Ordering::SeqCst);
    wait_for("all", || answered(&callers) == MANY);
    wait_for("the end of all", || in_flight(&world) == 0);
    let [open, most, all] = issuer.questions.count();
    assert_eq!((open, most), (0, CONCURRENCY), "of {all}");
    world.assert_accepted(&good);
}

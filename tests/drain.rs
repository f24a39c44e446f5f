//! How the gateway stops, and how one of several is restarted while all are asked.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::channel::Channel;
use hyper_util::rt::{TokioExecutor, TokioIo};

use support::{BINARY, Gateway, PATH, SAMPLE, World, next_status, put, request, run, wait_for};

fn kept_alive(world: &World) -> String {
    request(&world.supervisor(), SAMPLE).replacen("Connection: close\r\n", "", 1)
}

#[test]
fn it_is_not_ready_and_serves_until_the_delay_is_over() {
    let mut world = World::with(|config| *config += "[drain]\ndelay = \"3s\"\n");
    world.gateway.wait_until_ready();
    let api = world.gateway.api;
    let good = kept_alive(&world);
    let mut open = TcpStream::connect(api).unwrap();
    let mut answers = BufReader::new(open.try_clone().unwrap());
    open.write_all(good.as_bytes()).unwrap();
    assert_eq!(next_status(&mut answers), 200);
    world.gateway.signal("-TERM");
    wait_for("the drain", || world.gateway.admin("/readyz").status == 503);
    assert_eq!(world.gateway.admin("/readyz").body, "draining: it is about to stop\n");
    assert_eq!(world.gateway.admin("/livez").status, 200);
    // On a new connection, and on an open one, which is told to go.
    assert_eq!(put(api, &world.supervisor(), SAMPLE).status, 200);
    open.write_all(good.as_bytes()).unwrap();
    let mut last = Vec::new();
    answers.read_to_end(&mut last).unwrap();
    let last = support::parse(&last);
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    wait_for("the end of the delay", || TcpStream::connect(api).is_err());
    assert_eq!(world.gateway.wait().code(), Some(0));
    let trail = world.folder.path().join("audit");
    let records = support::records_in(&trail);
    assert_eq!(records.last().unwrap()["event"]["name"], "stop");
    let verified = run(&["audit", "verify", trail.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{told}");
    let signed = format!("proved: up to record {}, ", records.len());
    assert!(told.contains(&signed), "the checkpoint holds {signed}: {told}");
}

#[test]
fn a_client_of_http_2_is_told_to_go_and_gets_its_answers() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let (api, token) = (world.gateway.api, world.supervisor());
    let answer = world.block_on(async {
        let stream = tokio::net::TcpStream::connect(api).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let connection = tokio::spawn(connection);
        let (mut body, rest) = Channel::<Bytes>::new(1);
        let request = http::Request::put(format!("http://gateway{PATH}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(rest)
            .unwrap();
        let answer = tokio::spawn(sender.send_request(request));
        let is_in_flight = || world.gateway.metric("cms_gateway_in_flight") == Some(1.0);
        tokio::task::block_in_place(|| wait_for("the request", is_in_flight));
        world.gateway.signal("-TERM");
        let is_stopping = || TcpStream::connect(api).is_err();
        tokio::task::block_in_place(|| wait_for("the stop", is_stopping));
        body.send_data(Bytes::from_static(SAMPLE.as_bytes())).await.unwrap();
        drop(body);
        let answer = answer.await.unwrap().unwrap();
        // It ends by itself, as the server has said that it takes no more.
        connection.await.unwrap().unwrap();
        answer.status()
    });
    assert_eq!(answer, 200);
    assert_eq!(world.gateway.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut world = World::with(|config| *config += "[drain]\ndelay = \"1h\"\n");
    world.gateway.wait_until_ready();
    world.gateway.signal("-TERM");
    wait_for("the drain", || world.gateway.admin("/readyz").status == 503);
    world.gateway.signal("-TERM");
    assert_eq!(world.gateway.wait().code(), Some(1));
    let trail = world.folder.path().join("audit");
    let verified = run(&["audit", "verify", trail.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&[verified.stdout, verified.stderr].concat()).into_owned();
    assert!(verified.status.success(), "{told}");
}

/// Ends with the test.
struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// HAProxy before some gateways, each with its API and its admin listener.
fn balancer(folder: &Path, front: SocketAddr, gateways: &[(SocketAddr, SocketAddr)]) -> Balancer {
    let server = |(index, (api, admin)): (usize, &(SocketAddr, SocketAddr))| {
        format!("  server g{index} {api} check port {} inter 50ms fall 1 rise 1\n", admin.port())
    };
    let servers: String = gateways.iter().enumerate().map(server).collect();
    let text = format!(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\n\
         listen front\n  bind {front}\n  balance roundrobin\n  option httpchk GET /readyz\n{servers}"
    );
    let config = folder.join("haproxy.cfg");
    fs::write(&config, text).unwrap();
    let mut command = Command::new("haproxy");
    // It is in sbin, which is not on everybody's path.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    command.env("PATH", path).arg("-db").arg("-f").arg(&config);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Balancer(child.unwrap())
}

#[test]
fn a_rolling_restart_behind_a_load_balancer_loses_no_request() {
    let mut world = World::start();
    world.gateway.wait_until_ready();
    let folder = world.folder.path().to_owned();
    let text = fs::read_to_string(world.config()).unwrap();
    let addresses = [(free(), free()), (free(), free())];
    let configs: Vec<PathBuf> = addresses
        .iter()
        .enumerate()
        .map(|(index, (api, admin))| {
            let own = text
                .replacen("api = \"127.0.0.1:0\"", &format!("api = \"{api}\""), 1)
                .replacen("admin = \"127.0.0.1:0\"", &format!("admin = \"{admin}\""), 1)
                .replacen("directory = \"audit\"", &format!("directory = \"audit-{index}\""), 1)
                + "[drain]\ndelay = \"1s\"\n";
            let file = folder.join(format!("gateway-{index}.toml"));
            fs::write(&file, own).unwrap();
            file
        })
        .collect();
    let start = |config: &Path| {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(config);
        let gateway = Gateway::start(command);
        gateway.wait_until_ready();
        gateway
    };
    let mut gateways: Vec<Gateway> = configs.iter().map(|config| start(config)).collect();
    let front = free();
    let _balancer = balancer(&folder, front, &addresses);
    let good = kept_alive(&world);
    let ask = || {
        let mut stream = TcpStream::connect(front).ok()?;
        stream.write_all(good.as_bytes()).ok()?;
        Some(next_status(&mut BufReader::new(&stream)))
    };
    wait_for("the balancer", || ask() == Some(200));

    let (served, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let calls = |gateway: &Gateway| {
        let line = "cms_gateway_requests_total{decision=\"allow\",operation=\"lead-users\",status=\"200\"}";
        gateway.metric(line).unwrap_or_default()
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(front).unwrap();
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                while !is_over.load(Ordering::Relaxed) {
                    stream.write_all(good.as_bytes()).unwrap();
                    assert_eq!(next_status(&mut answers), 200, "{:?}", answers.buffer());
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            for index in 0..2 {
                let other = calls(&gateways[1 - index]);
                gateways[index].signal("-TERM");
                assert_eq!(gateways[index].wait().code(), Some(0));
                assert!(calls(&gateways[1 - index]) > other, "the other one served");
                gateways[index] = start(&configs[index]);
                wait_for("its share", || calls(&gateways[index]) > 20.0);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) > 200);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
}

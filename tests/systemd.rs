//! The gateway and systemd: what it says to it, what it takes over from it, and the units that ship.
//! Sockets are handed over by systemd's own systemd-socket-activate.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use support::{BINARY, PATIENCE, SAMPLE, World, wait_for};

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The manager's end of what a gateway says.
struct Manager {
    socket: UnixDatagram,
    heard: String,
}

impl Manager {
    fn at(address: &UnixAddress) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: String::new() }
    }

    /// Everything that is said up to this, which has to come.
    #[track_caller]
    fn hears(&mut self, line: &str) {
        let mut message = [0; 4096];
        while !self.heard.lines().any(|heard| heard == line) {
            let Ok(length) = self.socket.recv(&mut message) else {
                panic!("{line} was not said: {}", self.heard)
            };
            self.heard.push_str(std::str::from_utf8(&message[..length]).unwrap());
        }
    }

    /// What was said once nothing more can come.
    fn rest(mut self) -> String {
        self.socket.set_nonblocking(true).unwrap();
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            self.heard.push_str(std::str::from_utf8(&message[..length]).unwrap());
        }
        self.heard
    }
}

/// A world whose gateway is started by a shell, with `$$` as the id that it will have.
fn world(script: &str) -> World {
    World::with_command(|_| {}, |config| shell(script, config))
}

fn shell(script: &str, config: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{script} exec \"$0\" serve --config \"$1\"");
    command.args(["-c", &script, BINARY]).arg(config);
    command
}

fn tells_of_start_and_end(address: &UnixAddress, name: &str) {
    let mut manager = Manager::at(address);
    let mut world = world(&format!("NOTIFY_SOCKET='{name}'"));
    manager.hears("READY=1");
    assert!(!manager.heard.contains("STOPPING=1"));
    assert_eq!(support::exchange(world.gateway.admin, b"GET /livez HTTP/1.0\r\n\r\n").status, 200);
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    manager.hears("STOPPING=1");
    // drain.timeout is 20 s.
    manager.hears("EXTEND_TIMEOUT_USEC=30000000");
    assert!(!manager.rest().contains("WATCHDOG"), "nobody asked for it");
    assert!(!world.gateway.log().contains("can't be told"), "{}", world.gateway.log());
}

#[test]
fn start_and_end_are_told_to_a_socket_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    tells_of_start_and_end(&UnixAddress::from_pathname(&path).unwrap(), path.to_str().unwrap());
}

#[test]
fn start_and_end_are_told_to_an_abstract_socket() {
    let name = format!("cms-gateway-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    tells_of_start_and_end(&address, &format!("@{name}"));
}

/// With the time, as Type=notify-reload asks for it; and at its end also when nothing has come of it.
#[test]
fn each_reload_is_told_with_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::at(&UnixAddress::from_pathname(&path).unwrap());
    let world = world(&format!("NOTIFY_SOCKET='{}'", path.display()));
    manager.hears("READY=1");
    for (text, result) in [("[limits]\nusers = 7\n", "success"), ("[limitz]\n", "failure")] {
        manager.heard.clear();
        let mut file = fs::OpenOptions::new().append(true).open(world.config()).unwrap();
        // One reload, and not a second one by a signal as well.
        file.write_all(text.as_bytes()).unwrap();
        manager.hears("READY=1");
        let (before, _) = manager.heard.split_once("READY=1").unwrap();
        let (_, time) = before.split_once("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.split('\n').next().unwrap().parse::<u64>().unwrap() > 0, "{before}");
        let metric = format!("cms_gateway_config_reload_total{{result=\"{result}\"}}");
        assert!(world.gateway.metric(&metric).unwrap() >= 1.0, "{metric}");
    }
}

#[test]
fn a_gateway_that_can_not_start_is_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::at(&UnixAddress::from_pathname(&path).unwrap());
    let world = world("");
    let mut second = shell("", &world.config());
    second.env("NOTIFY_SOCKET", &path);
    assert_eq!(second.output().unwrap().status.code(), Some(1), "the trail has another writer");
    assert_eq!(manager.rest(), "");
}

#[test]
fn a_gateway_serves_although_nobody_hears_it() {
    let world = world("WATCHDOG_USEC=100000 NOTIFY_SOCKET=/nowhere/notify");
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    wait_for("the log", || world.gateway.log().contains("the service manager can't be told"));
}

/// Twice in each of its periods, as long as the runtime runs tasks: not when it stands still.
#[test]
fn the_watchdog_hears_that_the_gateway_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::at(&UnixAddress::from_pathname(&path).unwrap());
    let variables = "export WATCHDOG_USEC=400000 WATCHDOG_PID=$$ NOTIFY_SOCKET=";
    let world = world(&format!("{variables}'{}';", path.display()));
    manager.hears("WATCHDOG=1");
    let first = Instant::now();
    for _ in 0..5 {
        manager.heard.clear();
        manager.hears("WATCHDOG=1");
    }
    let passed = first.elapsed();
    assert!(passed.as_millis() >= 700, "five halves of 400 ms passed in {passed:?}");
    world.gateway.signal("-STOP");
    let state = || fs::read_to_string(format!("/proc/{}/stat", world.gateway.child.id())).unwrap();
    wait_for("the halt", || state().contains(") T "));
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    manager.socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    assert!(manager.socket.recv(&mut [0; 4096]).is_err(), "a gateway that stands still has spoken");
    world.gateway.signal("-CONT");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.heard.clear();
    manager.hears("WATCHDOG=1");
}

#[test]
fn the_watchdog_of_another_process_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::at(&UnixAddress::from_pathname(&path).unwrap());
    let variables = "export WATCHDOG_USEC=2000 WATCHDOG_PID=1 NOTIFY_SOCKET=";
    let mut world = world(&format!("{variables}'{}';", path.display()));
    manager.hears("READY=1");
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
    let heard = manager.rest();
    assert!(heard.contains("STOPPING=1") && !heard.contains("WATCHDOG"), "{heard}");
}

fn free_addresses() -> [SocketAddr; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// A command that listens at these addresses, and starts the gateway with them once one is connected
/// to.
fn activated(addresses: &[SocketAddr], names: &str, config: &Path) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    for address in addresses {
        command.arg("--listen").arg(address.to_string());
    }
    command.arg(format!("--fdname={names}")).arg(BINARY).args(["serve", "--config"]).arg(config);
    command
}

/// Connects when there is who listens, and gives all that is answered.
fn ask(address: SocketAddr, request: &'static str) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut stream = None;
        wait_for("the listener", || {
            stream = TcpStream::connect(address).ok();
            stream.is_some()
        });
        let (mut stream, mut answer) = (stream.unwrap(), String::new());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
}

/// A caller who comes before the gateway runs is served by it.
#[test]
fn the_sockets_of_systemd_are_served() {
    let [api, admin] = free_addresses();
    let asked = ask(api, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let change = |config: &mut String| {
        *config = config.replacen("127.0.0.1:0", &api.to_string(), 1);
    };
    let mut world =
        World::with_command(change, |config| activated(&[admin, api], "admin:api", config));
    assert_eq!((world.gateway.api, world.gateway.admin), (api, admin));
    assert!(asked.join().unwrap().starts_with("HTTP/1.1 404 "));
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let log = world.gateway.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("not the configured")).collect();
    assert!(told.len() == 1 && told[0].contains("listen.admin"), "{log}");
    assert!(told[0].contains("127.0.0.1:0") && told[0].contains(&admin.to_string()), "{log}");

    // Another address in the configuration does not change that.
    let text = fs::read_to_string(world.config()).unwrap();
    let [other, _] = free_addresses();
    fs::write(world.config(), text.replace(&api.to_string(), &other.to_string())).unwrap();
    world.gateway.signal("-HUP");
    wait_for("the reload", || world.gateway.log().contains("the configuration is in force"));
    let log = world.gateway.log();
    assert!(
        log.lines().any(|line| {
            line.contains("not the configured") && line.contains(&other.to_string())
        })
    );
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert!(TcpStream::connect(other).is_err());
    world.gateway.signal("-TERM");
    assert!(world.gateway.wait().success());
}

#[test]
fn one_socket_is_enough() {
    let [api, _] = free_addresses();
    let asked = ask(api, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let world = World::with_command(|_| {}, |config| activated(&[api], "api", config));
    assert!(asked.join().unwrap().starts_with("HTTP/1.1 404 "));
    assert_eq!(world.gateway.api, api);
    world.gateway.wait_until_ready();
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let world = world("export LISTEN_PID=1 LISTEN_FDS=7 LISTEN_FDNAMES=api;");
    world.gateway.wait_until_ready();
    assert!(!world.gateway.log().contains("not the configured"));
}

#[track_caller]
fn refuses(addresses: &[SocketAddr], names: &str, change: impl Fn(&str) -> String, words: &str) {
    let good = world("");
    let config = good.config().with_file_name("other.toml");
    let text = fs::read_to_string(good.config()).unwrap();
    fs::write(&config, change(&text.replace("\"audit\"", "\"other\""))).unwrap();
    let local = SocketAddr::new([127, 0, 0, 1].into(), addresses[0].port());
    let asked = ask(local, "GET / HTTP/1.0\r\n\r\n");
    let Output { status, stderr, .. } = activated(addresses, names, &config).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {said}");
    assert!(said.contains(words), "{said}");
    assert_eq!(asked.join().unwrap(), "");
}

#[test]
fn sockets_that_are_not_understood_are_refused() {
    let same = str::to_owned;
    let [first, second] = free_addresses();
    refuses(&[first], "web", same, "a socket named \"web\" was handed over");
    refuses(&[first, second], "api:api", same, "two sockets named api were handed over");
    let world = world("");
    let mut command = shell("export LISTEN_PID=$$; exec 3</dev/null;", &world.config());
    command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "api")]);
    let said = command.output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("the socket named api can't be served: "), "{said}");
}

/// What the configuration may not do, a socket can't do in its place.
#[test]
fn tokens_do_not_cross_a_network_in_plain_text_because_of_a_socket() {
    let [address, _] = free_addresses();
    let everywhere = SocketAddr::new([0, 0, 0, 0].into(), address.port());
    refuses(&[everywhere], "api", str::to_owned, "would cross the network in plain text");
    let asked = ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let permit = |config: &mut String| {
        let api = format!("api = \"{everywhere}\"\nallow_plaintext = true");
        *config = config.replacen("api = \"127.0.0.1:0\"", &api, 1);
    };
    let world = World::with_command(permit, |config| activated(&[everywhere], "api", config));
    assert!(asked.join().unwrap().starts_with("HTTP/1.1 404 "));
    assert_eq!(world.gateway.api, everywhere);
}

fn analyze(arguments: &[&str], units: &[&Path]) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.env("SYSTEMD_COLORS", "0").args(arguments).args(units).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("systemd-analyze, of systemd: {error}"))
}

/// The units, with a program that is there.
fn installed(folder: &Path) -> [PathBuf; 3] {
    ["cms-gateway.service", "cms-gateway.socket", "cms-gateway-admin.socket"].map(|name| {
        let text = fs::read_to_string(unit(name)).unwrap();
        let path = folder.join(name);
        fs::write(&path, text.replace("/usr/local/bin/cms-gateway", BINARY)).unwrap();
        path
    })
}

#[test]
fn systemd_understands_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = installed(folder.path());
    let verify = || {
        let units: Vec<&Path> = units.iter().map(PathBuf::as_path).collect();
        let output = analyze(&["verify", "--man=no", "--recursive-errors=no"], &units);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    };
    assert_eq!(verify(), (true, String::new()));
    let text = fs::read_to_string(&units[0]).unwrap();
    fs::write(&units[0], text.replace("WatchdogSec=", "WatchDogSec=")).unwrap();
    assert!(verify().1.contains("WatchDogSec"), "it would not notice a misspelt key");
}

#[test]
fn the_service_is_exposed_less_than_two_tenths() {
    let service = unit("cms-gateway.service");
    let threshold = ["security", "--offline=true", "--threshold=20"];
    let output = analyze(&threshold, &[&service]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let level = said.split_once("Overall exposure level for cms-gateway.service: ").unwrap().1;
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level < 2.0, "{level}");
}

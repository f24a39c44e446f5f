//! A CMS of raw sockets, plain or with TLS, that misbehaves as it is told, request by request.
//!
//! What its script does not say it answers well, and keeps the connection. It counts connections
//! and requests, so that a test can tell what was sent from what was not.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, date_time_ymd};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

use super::authority::Authority;
use super::{SAMPLE_ANSWER, World, is_whole};

/// What it does with a request that it has read.
#[derive(Debug, Clone)]
pub enum Act {
    /// Answers with these bytes and awaits the next request.
    Say(Vec<u8>),
    /// As [`Act::Say`], once nobody holds this any more.
    Await(Arc<Mutex<()>>, Vec<u8>),
    /// Says these bytes and closes the connection.
    Close(Vec<u8>),
    /// Says these bytes and then nothing more, with the connection open.
    Hold(Vec<u8>),
    /// Says these bytes and that no more will come, with its other half open.
    Half(Vec<u8>),
    /// Throws the connection away.
    Reset,
}

/// Such a CMS, as long as it is not dropped; on a port that stays its own.
pub struct FaultyCms {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Arc<Runtime>,
    /// Until it listens.
    socket: Option<TcpSocket>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Act>,
    /// Instead of the good answer, after the script.
    always: Option<Act>,
    connections: usize,
    received: Vec<Vec<u8>>,
    tls: Option<Arc<ServerConfig>>,
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl FaultyCms {
    /// Does this with the first requests, and answers well after them.
    pub fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let mut cms = Self::refusing();
        cms.script(script);
        cms.listen();
        cms
    }

    /// Refuses connections until it is told to listen.
    pub fn refusing() -> Self {
        let runtime = Arc::new(Builder::new_current_thread().enable_io().build().unwrap());
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { address, state: Arc::default(), runtime, socket: Some(socket) }
    }

    /// Speaks TLS, with this certificate until there is another.
    pub fn start_with(identity: &ServerIdentity) -> Self {
        let mut cms = Self::refusing();
        cms.present(identity);
        cms.listen();
        cms
    }

    pub fn listen(&mut self) {
        let socket = self.socket.take().unwrap();
        let listener = {
            let _inside = self.runtime.enter();
            socket.listen(128).unwrap().into_std().unwrap()
        };
        listener.set_nonblocking(false).unwrap();
        let (state, runtime) = (Arc::clone(&self.state), Arc::clone(&self.runtime));
        std::thread::spawn(move || accept(&listener, &state, &runtime));
    }

    pub fn script(&self, script: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().script.extend(script);
    }

    /// What it does from now on after its script; nothing for the good answer.
    pub fn always(&self, act: Option<Act>) {
        self.state.lock().unwrap().always = act;
    }

    /// Shows this certificate on the connections that come.
    pub fn present(&self, identity: &ServerIdentity) {
        self.state.lock().unwrap().tls = Some(Arc::clone(&identity.0));
    }

    pub fn url(&self) -> String {
        let is_tls = self.state.lock().unwrap().tls.is_some();
        format!("{}://{}", if is_tls { "https" } else { "http" }, self.address)
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// How many whole requests it has read.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().received.len()
    }

    /// Each of these.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().received.clone()
    }

    /// The `Authorization` of each of these.
    pub fn authorizations(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let own = |request: &Vec<u8>| {
            let text = String::from_utf8_lossy(request).into_owned();
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned)).unwrap()
        };
        state.received.iter().map(own).collect()
    }

    /// A gateway before it, with more in the section of the CMS.
    pub fn world(&self, more: &str) -> World {
        self.world_with(more, |_| {})
    }

    /// As [`FaultyCms::world`], with what else the configuration is to have.
    pub fn world_with(&self, more: &str, change: impl FnOnce(&mut String)) -> World {
        let url = self.url();
        let world = World::with(|config| {
            let (before, _) = config.split_once("url = \"").unwrap();
            *config = format!("{before}url = \"{url}\"\n{more}");
            change(config);
        });
        world.gateway.wait_until_ready();
        world
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>, runtime: &Arc<Runtime>) {
    while let Ok((stream, _)) = listener.accept() {
        let (state, runtime) = (Arc::clone(state), Arc::clone(runtime));
        let tls = {
            let mut state = state.lock().unwrap();
            state.connections += 1;
            state.tls.clone()
        };
        std::thread::spawn(move || {
            let raw = stream.try_clone().unwrap();
            let wire: Box<dyn Wire> = match tls {
                None => Box::new(stream),
                Some(tls) => {
                    Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream))
                }
            };
            let _ = serve(wire, raw, &state, &runtime);
        });
    }
}

/// Serves one connection until it has closed it, or the peer has.
fn serve(
    mut wire: Box<dyn Wire>,
    raw: TcpStream,
    state: &Mutex<State>,
    runtime: &Runtime,
) -> io::Result<()> {
    loop {
        let request = read_request(&mut *wire)?;
        let act = {
            let mut state = state.lock().unwrap();
            state.received.push(request);
            let scripted = state.script.pop_front().or_else(|| state.always.clone());
            scripted.unwrap_or_else(|| Act::Say(good()))
        };
        match act {
            Act::Say(bytes) => say(&mut *wire, &bytes)?,
            Act::Await(gate, bytes) => {
                drop(gate.lock());
                say(&mut *wire, &bytes)?;
            }
            Act::Close(bytes) => {
                say(&mut *wire, &bytes)?;
                return raw.shutdown(Shutdown::Both);
            }
            Act::Hold(bytes) => {
                say(&mut *wire, &bytes)?;
                return drain(&mut *wire);
            }
            Act::Half(bytes) => {
                say(&mut *wire, &bytes)?;
                raw.shutdown(Shutdown::Write)?;
                return drain(&mut *wire);
            }
            Act::Reset => {
                drop(wire);
                let _inside = runtime.enter();
                raw.set_nonblocking(true)?;
                return tokio::net::TcpStream::from_std(raw)?.set_zero_linger();
            }
        }
    }
}

fn say(wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write_all(bytes)?;
    wire.flush()
}

/// Reads until the peer leaves.
fn drain(wire: &mut dyn Wire) -> io::Result<()> {
    io::copy(wire, &mut io::sink()).map(|_| ())
}

pub fn read_request(wire: &mut dyn Read) -> io::Result<Vec<u8>> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match wire.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(request)
}

// === what it says ===

/// The answer to the sample.
pub fn good() -> Vec<u8> {
    json(200, SAMPLE_ANSWER)
}

pub fn json(status: u16, body: &str) -> Vec<u8> {
    answer(status, "content-type: application/json\r\n", body)
}

pub fn html(status: u16) -> Vec<u8> {
    answer(status, "content-type: text/html\r\n", "<html><body>Application error</body></html>")
}

/// Whole, with these lines in its head.
pub fn answer(status: u16, lines: &str, body: &str) -> Vec<u8> {
    format!("{}content-length: {}\r\n\r\n{body}", head(status, lines), body.len()).into_bytes()
}

/// The head of an answer, but for the empty line that ends it.
pub fn head(status: u16, lines: &str) -> String {
    format!("HTTP/1.1 {status} Of The CMS\r\n{lines}")
}

/// The good answer in so many bytes.
pub fn good_of(bytes: usize) -> Vec<u8> {
    json(200, &format!("{SAMPLE_ANSWER}{}", " ".repeat(bytes - SAMPLE_ANSWER.len())))
}

/// An error in the CMS's own shape.
pub fn error(status: u16, code: &str, lines: &str) -> Vec<u8> {
    let body = format!(
        "{{\"statusCode\":{status},\"status\":\"Wrong\",\"errorCode\":\"{code}\",\
         \"errorMessage\":\"something is wrong\"}}"
    );
    answer(status, &format!("content-type: application/json\r\n{lines}"), &body)
}

// === by whom it is vouched for ===

/// Who vouches for such CMSs.
pub struct ServerAuthority(Authority);

/// A certificate of the CMS and its key.
pub struct ServerIdentity(Arc<ServerConfig>);

impl ServerAuthority {
    pub fn generate() -> Self {
        Self(Authority::new())
    }

    /// Writes its certificate into a folder, for the gateway.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("cms-ca.pem");
        fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// Valid for this name or address.
    pub fn identity(&self, name: &str) -> ServerIdentity {
        self.identity_with(name, |_| {})
    }

    /// Valid for this name or address, until it expired years ago.
    pub fn expired(&self, name: &str) -> ServerIdentity {
        self.identity_with(name, |parameters| parameters.not_after = date_time_ymd(2020, 1, 1))
    }

    fn identity_with(&self, name: &str, change: fn(&mut CertificateParams)) -> ServerIdentity {
        ServerIdentity(self.0.sign(name, change).server(None, &[], rustls::ALL_VERSIONS))
    }
}

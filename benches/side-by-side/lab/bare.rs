//! A proxy of hyper alone: it checks nothing and records nothing. What it costs is what there is
//! before a gateway on hyper does anything.
//!
//! Arguments: its own address, the upstream's, and what it sends as `Authorization`. One thread; a
//! body is read whole, and connections to the upstream are kept.

#![allow(clippy::panic, clippy::expect_used)]

use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Sender = SendRequest<Full<Bytes>>;

struct Upstream {
    address: String,
    authorization: HeaderValue,
    idle: RefCell<Vec<Sender>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, address, authorization] = &arguments[..] else {
        panic!("arguments: LISTEN UPSTREAM AUTHORIZATION");
    };
    let upstream = Rc::new(Upstream {
        address: address.clone(),
        authorization: authorization.try_into()?,
        idle: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(serve(listen, upstream)))
}

async fn serve(listen: &str, upstream: Rc<Upstream>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let upstream = Rc::clone(&upstream);
        let service = service_fn(move |request| {
            let upstream = Rc::clone(&upstream);
            async move { Ok::<_, Infallible>(upstream.forward(request).await.expect("an answer")) }
        });
        spawn_local(Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Upstream {
    async fn forward(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn Error>> {
        let (head, body) = request.into_parts();
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(HOST, HeaderValue::from_str(&self.address)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        let mut sent = Request::new(Full::new(body.collect().await?.to_bytes()));
        (*sent.method_mut(), *sent.uri_mut()) = (head.method, head.uri);
        *sent.headers_mut() = headers;
        let mut sender = self.sender().await?;
        let (head, body) = sender.send_request(sent).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.idle.borrow_mut().push(sender);
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = head.status;
        Ok(answer)
    }

    async fn sender(&self) -> Result<Sender, Box<dyn Error>> {
        loop {
            let Some(mut idle) = self.idle.borrow_mut().pop() else { break };
            if idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        spawn_local(connection);
        Ok(sender)
    }
}

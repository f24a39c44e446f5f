//! An HTTP client whose connections and answers are bounded: for the CMS and for issuers' keys.
//!
//! hyper-util's client pools the connections. What it does not bound is bounded here: the TCP
//! connection and TLS handshake together, the time to the last byte of an answer, and its size.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// How long a connection that nobody uses stays in the pool; below the idle times of the usual
/// Java servers, so that it is this side that closes it.
const IDLE: Duration = Duration::from_secs(15);

type BoxError = Box<dyn Error + Send + Sync>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connector = BoxCloneSyncService<Uri, Stream, BoxError>;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client<B>(legacy::Client<Connector, B>);

/// An answer that was read whole.
#[derive(Debug)]
pub struct Exchanged {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why a client can't be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system's roots of trust can't be read.
    #[error("the system's certificates can't be read; name a file in \"ca\": {0}")]
    Roots(std::io::Error),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection: nothing was sent.
    #[error("no connection: {0}")]
    Connect(String),
    /// The answer was not whole in time.
    #[error("no whole answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The answer's body is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is not HTTP, or was cut off.
    #[error("the answer is broken: {0}")]
    Broken(String),
}

impl<B> Client<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// A client for a scheme, which trusts these roots or else the system's.
    ///
    /// # Errors
    ///
    /// When the system's roots are needed and can't be read.
    pub fn new(
        scheme: Option<&Scheme>,
        roots: Option<Arc<RootCertStore>>,
        connect_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let builder = rustls::ClientConfig::builder();
        let tls = match roots {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None if scheme == Some(&Scheme::HTTPS) => {
                builder.with_native_roots().map_err(ClientError::Roots)?.with_no_client_auth()
            }
            None => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let bounded = connector.map_future(move |connecting| {
            let connecting = async move {
                match tokio::time::timeout(connect_timeout, connecting).await {
                    Ok(connected) => connected,
                    Err(_) => Err("timed out".into()),
                }
            };
            Box::pin(connecting) as Pin<Box<dyn Future<Output = _> + Send>>
        });
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_headers(100)
            .build(BoxCloneSyncService::new(bounded));
        Ok(Self(client))
    }

    /// Sends a request and reads its answer, within a time and up to a size.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`]; but for `Connect`, the request may have had its effect.
    pub async fn exchange(
        &self,
        request: Request<B>,
        timeout: Duration,
        largest: usize,
    ) -> Result<Exchanged, ExchangeError> {
        let exchange = async {
            let answer = self.0.request(request).await.map_err(|error| {
                if error.is_connect() {
                    ExchangeError::Connect(causes(&error))
                } else {
                    ExchangeError::Broken(causes(&error))
                }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, largest).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ExchangeError::TooLarge(largest)
                } else {
                    ExchangeError::Broken(causes(error.as_ref()))
                }
            })?;
            Ok(Exchanged { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(ExchangeError::TimedOut(timeout)))
    }
}

/// The innermost cause says the most: "connection refused" rather than "client error".
fn causes(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

//! TLS: who is trusted, what the gateway shows, and what becomes of both when the files change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use rcgen::date_time_ymd;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use super::super::connect::ConnectError;
use super::super::tls::faults;
use super::*;

type Current = Arc<Mutex<Arc<ServerConfig>>>;
/// The SNI and whether there was a client's certificate, of each connection.
type Shown = Arc<Mutex<Vec<(Option<String>, bool)>>>;

/// A server of HTTP/1.1 that takes its TLS settings anew for each connection.
async fn serve(current: &Current) -> (Listening, Shown) {
    let (current, shown) = (Arc::clone(current), Shown::default());
    let noted = Arc::clone(&shown);
    let listening = listen(move |_, stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&current.lock().unwrap()));
        let noted = Arc::clone(&noted);
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let name = session.server_name().map(str::to_owned);
            noted.lock().unwrap().push((name, session.peer_certificates().is_some()));
            answer_all(stream, ANSWER).await;
        }
    })
    .await;
    (listening, shown)
}

async fn pair(server: Arc<ServerConfig>, tls: config::Tls) -> (Pair, Shown) {
    let (listening, shown) = serve(&Arc::new(Mutex::new(server))).await;
    let url = format!("https://{}", listening.address);
    (Pair::new(listening, &url, tls), shown)
}

fn trusting(folder: &Path, authority: &Authority) -> config::Tls {
    let ca = folder.join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    config::Tls { ca: Some(ca), ..config::Tls::default() }
}

fn write(folder: &Path, signed: &Signed) -> config::ClientIdentity {
    let identity = config::ClientIdentity {
        certificate: folder.join("client.crt"),
        key: folder.join("client.key"),
    };
    fs::write(&identity.certificate, &signed.certificate).unwrap();
    write_key(&identity.key, signed);
    identity
}

fn write_key(path: &Path, signed: &Signed) {
    fs::write(path, signed.key.serialize_pem()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn refused(pair: &Pair) -> String {
    match pair.server.connect(false, soon()).await {
        Err(ConnectError::Tls(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("connected"),
    }
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_told_in_clear_words() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = trusting(folder.path(), &ours);
    let expired = ours.sign("127.0.0.1", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let early = ours.sign("127.0.0.1", |it| it.not_before = date_time_ymd(4000, 1, 1));
    for (signed, words) in [
        (expired, "has expired"),
        (early, "is not valid yet"),
        (ours.sign("other.example.com", |_| {}), "other.example.com"),
        (theirs.sign("127.0.0.1", |_| {}), "from a CA that is not trusted"),
    ] {
        let server = signed.server(None, &[], rustls::ALL_VERSIONS);
        let (pair, _) = pair(server, tls.clone()).await;
        let why = refused(&pair).await;
        assert!(why.contains(words), "{why}");
        pair.wait_for_open(0).await;
    }
    let plain = listen(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let url = format!("https://{}", plain.address);
    let why = refused(&Pair::new(plain, &url, tls)).await;
    assert!(why.contains("does not speak TLS"), "{why}");
}

#[tokio::test]
async fn the_name_can_be_another_than_the_urls_host() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = trusting(folder.path(), &authority);
    let named = config::Tls { server_name: "cms.example.com".try_into().ok(), ..tls };
    let server = authority.sign("cms.example.com", |_| {});
    let (pair, shown) = pair(server.server(None, &[], rustls::ALL_VERSIONS), named).await;
    pair.exchange().await.unwrap();
    assert_eq!(shown.lock().unwrap()[0].0.as_deref(), Some("cms.example.com"));
}

#[tokio::test]
async fn tls_1_2_can_be_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = trusting(folder.path(), &authority);
    let signed = authority.sign("127.0.0.1", |_| {});
    let strict = config::Tls { only_1_3: true, ..tls.clone() };
    let (old, _) = pair(signed.server(None, &[], &[&TLS12]), strict.clone()).await;
    let why = refused(&old).await;
    assert!(why.contains("min_tls"), "{why}");
    let (old, _) = pair(signed.server(None, &[], &[&TLS12]), tls).await;
    old.exchange().await.unwrap();
    let (new, _) = pair(signed.server(None, &[], &[&TLS13]), strict).await;
    new.exchange().await.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it_or_hears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, others) = (Authority::new(), Authority::new());
    let tls = trusting(folder.path(), &authority);
    let signed = authority.sign("127.0.0.1", |_| {});
    for version in [&TLS12, &TLS13] {
        let server = || signed.server(Some(&authority), &["http/1.1"], &[version]);
        let client = authority.sign("client.example.com", |_| {});
        let identity = Some(write(folder.path(), &client));
        let (good, shown) = pair(server(), config::Tls { identity, ..tls.clone() }).await;
        good.exchange().await.unwrap();
        assert!(shown.lock().unwrap()[0].1);
        let identity = Some(write(folder.path(), &others.sign("client.example.com", |_| {})));
        let with_wrong = config::Tls { identity, ..tls.clone() };
        for (tls, words) in [(tls.clone(), "client certificate"), (with_wrong, "refuses")] {
            let (pair, shown) = pair(server(), tls).await;
            let why = match pair.server.connect(false, soon()).await {
                Err(ConnectError::Tls(why)) => why,
                Err(other) => panic!("{other:?}"),
                Ok(connection) => match exchange(connection).await {
                    Err(ExchangeFault::NotSent(why)) => why,
                    other => panic!("{other:?}"),
                },
            };
            assert!(why.contains(words), "{why}");
            assert!(shown.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn files_that_change_count_for_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let client = old.sign("client.example.com", |_| {});
    let identity = Some(write(folder.path(), &client));
    let tls = config::Tls { identity, ..trusting(folder.path(), &old) };
    let by = |authority: &Authority| {
        authority.sign("127.0.0.1", |_| {}).server(Some(authority), &[], rustls::ALL_VERSIONS)
    };
    let current = Arc::new(Mutex::new(by(&old)));
    let (listening, _) = serve(&current).await;
    let url = format!("https://{}", listening.address);
    let pair = Pair::new(listening, &url, tls.clone());
    let trust = Arc::clone(&pair.trust);
    let watching = tokio::spawn(async move { trust.watch().await });
    let loads = |result| pair.metrics.upstream_tls_load.with_label_values(&[result]).get();
    pair.exchange().await.unwrap();
    assert!(pair.connect().await.is_reused());
    pair.exchange().await.unwrap();

    // Half of the new pair is no pair: what was in force stays so.
    let renewed = new.sign("client.example.com", |_| {});
    fs::write(folder.path().join("client.crt"), &renewed.certificate).unwrap();
    wait_for("the trouble", || pair.trust.trouble().is_some()).await;
    let trouble = pair.trust.trouble().unwrap();
    assert!(trouble.contains("client_key") && trouble.contains("not the key of"), "{trouble}");
    assert_eq!((loads("success"), loads("failure")), (1, 1));
    let connection = pair.connect().await;
    assert!(connection.is_reused());
    exchange(connection).await.unwrap();

    write_key(&folder.path().join("client.key"), &renewed);
    wait_for("the new pair", || pair.trust.trouble().is_none()).await;
    fs::write(folder.path().join("ca.pem"), new.pem()).unwrap();
    wait_for("the new CA", || loads("success") == 3).await;
    *current.lock().unwrap() = by(&new);
    let connection = pair.connect().await;
    assert!(!connection.is_reused(), "it was made under the old settings");
    exchange(connection).await.unwrap();
    *current.lock().unwrap() = by(&old);
    let Err(ConnectError::Tls(why)) = pair.server.connect(true, soon()).await else {
        panic!("the old CA is not trusted any more")
    };
    assert!(why.contains("not trusted"), "{why}");
    watching.abort();
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, other) = (authority.sign("a", |_| {}), authority.sign("b", |_| {}));
    let tls = trusting(folder.path(), &authority);
    let identity = write(folder.path(), &one);
    let good = config::Tls { identity: Some(identity.clone()), ..tls };
    let keys = || faults(&good).iter().map(|it| it.key).collect::<Vec<_>>();
    assert_eq!(faults(&good), []);
    write_key(&identity.key, &other);
    assert_eq!(keys(), ["client_key"]);
    write_key(&identity.key, &one);
    fs::set_permissions(&identity.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(faults(&good)[0].message.contains("0640"));
    fs::write(good.ca.as_ref().unwrap(), "nothing").unwrap();
    fs::remove_file(&identity.certificate).unwrap();
    assert_eq!(keys(), ["ca", "client_certificate", "client_key"]);
}

/// Of a name's two addresses, one takes connections and says nothing in them.
#[tokio::test]
async fn a_server_that_hangs_in_the_handshake_does_not_keep_all_from_the_one_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = trusting(folder.path(), &authority);
    let identity = authority.sign("cms.example.com", |_| {});
    let server = identity.server(None, &[], rustls::ALL_VERSIONS);
    let (good, _) = serve(&Arc::new(Mutex::new(server))).await;
    let hanging = SocketAddr::new("127.0.0.2".parse().unwrap(), good.address.port());
    let listener = TcpListener::bind(hanging).await.unwrap();
    let addresses = vec![hanging, good.address];
    let url = format!("https://cms.example.com:{}", good.address.port());
    let pair = Pair::new(good, &url, tls);
    pair.server.resolve_to(addresses);
    let moment = Instant::now() + Duration::from_millis(500);
    let Err(error) = pair.server.connect(false, moment).await else { panic!("connected") };
    assert_eq!(error, ConnectError::TimedOut("the TLS handshake did not end"));
    assert_eq!(pair.exchange().await.unwrap().status, 200);
    drop(listener);
}

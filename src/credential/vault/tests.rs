use std::sync::{Arc, Mutex as SyncMutex};

use http::uri::Scheme;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::credential::json::Json;

/// A store that answers each of these in turn, and then nothing; and what it was asked.
async fn store(answers: &[&str]) -> (Store, Arc<SyncMutex<Vec<String>>>, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let asked = Arc::new(SyncMutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    tokio::spawn(async move {
        for body in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            let line = String::from_utf8_lossy(&bytes[..read]);
            notes.lock().unwrap().push(line.lines().next().unwrap().to_owned());
            let length = body.len();
            let text = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let folder = tempfile::tempdir().unwrap();
    let jwt = folder.path().join("jwt");
    std::fs::write(&jwt, "eyJh").unwrap();
    let settings = Vault {
        scheme: Scheme::HTTP,
        authority: address.to_string().parse().unwrap(),
        ca: None,
        namespace: None,
        secret: "secret/data/cms".to_owned(),
        is_versioned: true,
        username_key: "username".to_owned(),
        password_key: "password".to_owned(),
        timeout: Duration::from_secs(20),
        login: Login::Kubernetes {
            mount: "auth/kubernetes".to_owned(),
            role: "r".to_owned(),
            token: jwt,
        },
    };
    (Store::new(settings).unwrap(), asked, folder)
}

const LOGIN: &str = r#"{"auth":{"client_token":"t","lease_duration":6,"renewable":true}}"#;
const SECRET: &str =
    r#"{"data":{"data":{"username":"u","password":"p"},"metadata":{"version":1}}}"#;

#[tokio::test]
async fn a_lease_is_renewed_between_two_fetches() {
    let (store, asked, _folder) = store(&[LOGIN, SECRET, LOGIN]).await;
    store.fetch().await.unwrap();
    let renewed = async {
        while asked.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = store.changed() => panic!("it tells of no change"),
        renewed = tokio::time::timeout(Duration::from_secs(20), renewed) => renewed.unwrap(),
    }
    let last = asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(last, "POST /v1/auth/token/renew-self HTTP/1.1");
}

#[tokio::test]
async fn a_token_that_has_ended_is_waited_for_at_rest() {
    let (store, asked, _folder) = store(&[]).await;
    let login = Json::parse(LOGIN.as_bytes()).unwrap();
    let ended = Session::logged_in(&login, Instant::now() - Duration::from_secs(10)).unwrap();
    *store.session.lock().await = Some(ended);
    let mut polls = 0;
    let mut changed = store.changed();
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        changed.as_mut().poll(context)
    });
    assert!(tokio::time::timeout(Duration::from_millis(100), counted).await.is_err());
    assert!(polls < 10 && asked.lock().unwrap().is_empty(), "{polls} polls");
}

#[tokio::test]
async fn a_fetch_that_is_dropped_keeps_the_session() {
    let (store, asked, _folder) = store(&[LOGIN, SECRET]).await;
    store.fetch().await.unwrap();
    // The third question is not answered.
    let soon = Duration::from_millis(100);
    assert!(tokio::time::timeout(soon, store.fetch()).await.is_err());
    assert!(store.session.lock().await.is_some());
    assert_eq!(asked.lock().unwrap().len(), 2);
    let shown = format!("{store:?}");
    assert!(shown.contains("Session") && !shown.contains("\"t\""), "{shown}");
}

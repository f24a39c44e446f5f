//! Introspection against an endpoint on loopback that does as it is told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const TOKEN: &str = "opaque-token+/=&äöü";
const CLIENT: &str = "gateway:client";
const SECRET: &str = "secret:of the+gateway%&";
const ACTIVE: &str = r#"{"active":true,"sub":"alice"}"#;

/// An introspection endpoint, which holds its answers back until it is opened.
struct Endpoint {
    introspection: Arc<Introspection>,
    seen: Arc<Seen>,
    folder: tempfile::TempDir,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    /// How many are being answered, and how many at most ever were.
    current: AtomicUsize,
    most: AtomicUsize,
    gate: tokio::sync::Notify,
    is_open: std::sync::atomic::AtomicBool,
}

impl Seen {
    fn calls(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.gate.notify_waiters();
    }

    async fn opened(&self) {
        while !self.is_open.load(Ordering::SeqCst) {
            let _ = timeout(Duration::from_millis(20), self.gate.notified()).await;
        }
    }

    async fn until_calls(&self, calls: usize) {
        for _ in 0..2000 {
            if self.calls() >= calls {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} calls instead of {calls}", self.calls());
    }
}

fn json(body: &str) -> Vec<u8> {
    typed("application/json;charset=UTF-8", body)
}

fn typed(media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{ACTIVE}", ACTIVE.len()).into_bytes()
}

impl Endpoint {
    async fn with(answer: Vec<u8>, change: impl FnOnce(&mut config::Introspection)) -> Self {
        let endpoint = Self::held(answer, change).await;
        endpoint.seen.open();
        endpoint
    }

    async fn answering(answer: Vec<u8>) -> Self {
        Self::with(answer, |_| {}).await
    }

    async fn held(answer: Vec<u8>, change: impl FnOnce(&mut config::Introspection)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let for_server = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&for_server), answer.clone());
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8(request).unwrap();
                    let current = seen.current.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.most.fetch_max(current, Ordering::SeqCst);
                    seen.requests.lock().unwrap().push(text);
                    seen.opened().await;
                    seen.current.fetch_sub(1, Ordering::SeqCst);
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let client_secret = folder.path().join("secret");
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&client_secret).unwrap();
        file.write_all(SECRET.as_bytes()).unwrap();
        let mut settings = config::Introspection {
            url: format!("http://{address}/introspect?a=b").parse().unwrap(),
            ca: None,
            client_id: CLIENT.to_owned(),
            client_secret,
            max_age: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            concurrency: 16,
            waiting: 128,
        };
        change(&mut settings);
        let metrics = Arc::new(Metrics::new().unwrap());
        let digests = Arc::new(TokenDigests::new().unwrap());
        let introspection =
            { Introspection::new("issuer", &settings, digests, 10_000, metrics).unwrap() };
        Self { introspection: Arc::new(introspection), seen, folder }
    }

    async fn ask_at(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Arc<Map<String, Value>>, IntrospectionFault> {
        self.introspection.claims(token, now).await
    }

    async fn ask(&self, token: &str) -> Result<Arc<Map<String, Value>>, IntrospectionFault> {
        self.ask_at(token, SystemTime::now()).await
    }

    fn spawn_into(
        &self,
        asking: &mut JoinSet<Result<Arc<Map<String, Value>>, IntrospectionFault>>,
        token: String,
    ) {
        let introspection = Arc::clone(&self.introspection);
        asking.spawn(async move { introspection.claims(&token, SystemTime::now()).await });
    }

    fn counted(&self, result: &str) -> u64 {
        let counter = &self.introspection.metrics.introspection;
        counter.with_label_values(&["issuer", result]).get()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}

#[tokio::test]
async fn the_question_is_as_the_rfc_has_it() {
    let endpoint = Endpoint::answering(json(ACTIVE)).await;
    let claims = endpoint.ask(TOKEN).await.unwrap();
    assert_eq!(Value::Object((*claims).clone()), serde_json::json!({"sub": "alice"}));
    let requests = endpoint.seen.requests.lock().unwrap();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /introspect?a=b HTTP/1.1\r\n"), "{head}");
    let lines: Vec<&str> = head.lines().collect();
    assert!(lines.contains(&"content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(lines.contains(&"accept: application/json"), "{head}");
    // gateway%3Aclient:secret%3Aof+the%2Bgateway%25%26
    let basic = "Z2F0ZXdheSUzQWNsaWVudDpzZWNyZXQlM0FvZit0aGUlMkJnYXRld2F5JTI1JTI2";
    assert!(lines.contains(&format!("authorization: Basic {basic}").as_str()), "{head}");
    let form: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(form, [pair("token", TOKEN), pair("token_type_hint", "access_token")]);
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_cause_one_call() {
    let endpoint = Endpoint::held(json(ACTIVE), |_| {}).await;
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        endpoint.spawn_into(&mut asking, TOKEN.to_owned());
    }
    endpoint.seen.until_calls(1).await;
    endpoint.seen.open();
    while let Some(told) = asking.join_next().await {
        assert!(told.unwrap().is_ok());
    }
    assert_eq!(endpoint.seen.calls(), 1);
    assert_eq!(endpoint.counted("active"), 1);
    assert!(endpoint.ask(TOKEN).await.is_ok());
    assert_eq!(endpoint.seen.calls(), 1, "the answer is remembered");
    assert_eq!(
        endpoint
            .introspection
            .metrics
            .introspection_cache_hits
            .with_label_values(&["issuer"])
            .get(),
        1
    );
    assert!(endpoint.ask("another").await.is_ok());
    assert_eq!(endpoint.seen.calls(), 2, "for its own token alone");
}

#[tokio::test]
async fn a_failure_is_shared_and_not_remembered() {
    for (answer, label) in [
        (json(r#"{"active":false}"#), "introspection_inactive"),
        (status("500 Oops"), "introspection_unavailable"),
    ] {
        let endpoint = Endpoint::held(answer, |_| {}).await;
        let mut asking = JoinSet::new();
        for _ in 0..10 {
            endpoint.spawn_into(&mut asking, TOKEN.to_owned());
        }
        endpoint.seen.until_calls(1).await;
        endpoint.seen.open();
        while let Some(told) = asking.join_next().await {
            assert_eq!(told.unwrap().unwrap_err().label(), label);
        }
        assert_eq!(endpoint.seen.calls(), 1, "{label}");
        assert_eq!(endpoint.ask(TOKEN).await.unwrap_err().label(), label);
        assert_eq!(endpoint.seen.calls(), 2, "{label}");
    }
}

#[tokio::test]
async fn who_stops_asking_keeps_nobody_waiting() {
    let endpoint = Endpoint::held(json(ACTIVE), |_| {}).await;
    let mut first = JoinSet::new();
    endpoint.spawn_into(&mut first, TOKEN.to_owned());
    endpoint.seen.until_calls(1).await;
    let mut others = JoinSet::new();
    for _ in 0..10 {
        endpoint.spawn_into(&mut others, TOKEN.to_owned());
    }
    tokio::task::yield_now().await;
    first.shutdown().await;
    endpoint.seen.open();
    while let Some(told) = timeout(Duration::from_secs(4), others.join_next()).await.unwrap() {
        assert!(told.unwrap().is_ok());
    }
    assert_eq!(endpoint.seen.calls(), 1, "the question of who stopped goes on");
    assert_eq!(endpoint.introspection.places.available_permits(), 16);
}

#[tokio::test]
async fn an_answer_counts_for_its_time_and_not_beyond_the_tokens_end() {
    let now = SystemTime::now();
    let seconds = Duration::from_secs;
    let at = (now + seconds(4)).duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = UNIX_EPOCH + seconds(at);
    let with_exp = |exp: String| json(&format!(r#"{{"active":true,"exp":{exp}}}"#));
    let just_before = Duration::from_millis(1);
    for (answer, last, end) in [
        (json(ACTIVE), now + seconds(10) - just_before, now + seconds(10)),
        (with_exp(at.to_string()), until - just_before, until),
        (with_exp(u64::MAX.to_string()), now + seconds(9), now + seconds(10)),
    ] {
        let endpoint = Endpoint::answering(answer).await;
        endpoint.ask_at(TOKEN, now).await.unwrap();
        endpoint.ask_at(TOKEN, last).await.unwrap();
        assert_eq!(endpoint.seen.calls(), 1);
        endpoint.ask_at(TOKEN, end).await.unwrap();
        assert_eq!(endpoint.seen.calls(), 2);
    }
    // An end that has come, or is none, is the caller's to judge, and is not remembered.
    for exp in ["1", "\"soon\"", "1.5", "-1", "null"] {
        let endpoint = Endpoint::answering(with_exp(exp.to_owned())).await;
        assert!(endpoint.ask_at(TOKEN, now).await.unwrap().contains_key("exp"));
        endpoint.ask_at(TOKEN, now).await.unwrap();
        assert_eq!(endpoint.seen.calls(), 2, "{exp}");
    }
}

#[tokio::test]
async fn an_answer_ends_as_time_passes_whatever_the_clock_says() {
    let now = SystemTime::now();
    for (max_age, calls) in [(Duration::from_millis(50), 2), (Duration::ZERO, 2)] {
        let endpoint = Endpoint::with(json(ACTIVE), |it| it.max_age = max_age).await;
        endpoint.ask_at(TOKEN, now).await.unwrap();
        // Time itself is the condition here.
        tokio::time::sleep(max_age).await;
        endpoint.ask_at(TOKEN, now).await.unwrap();
        assert_eq!(endpoint.seen.calls(), calls, "{max_age:?}");
    }
}

#[tokio::test]
async fn whatever_is_not_a_good_answer_fails_closed() {
    use Unavailable::*;
    let huge = format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(LARGEST));
    let cut_off = {
        let mut answer = json(ACTIVE);
        answer.truncate(answer.len() - 5);
        answer
    };
    let code = |number| http::StatusCode::from_u16(number).unwrap();
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: /introspect\r\ncontent-length: 0\r\n\r\n";
    let cases: Vec<(&str, Vec<u8>, Unavailable)> = vec![
        ("401", status("401 Unauthorized"), Refused(code(401))),
        ("403", status("403 Forbidden"), Refused(code(403))),
        ("500", status("500 Internal Server Error"), Status(code(500))),
        ("201", status("201 Created"), Status(code(201))),
        ("a redirect", redirect.to_vec(), Status(code(302))),
        ("a signed answer", typed("application/token-introspection+jwt", ACTIVE), ContentType),
        ("text", typed("text/html", ACTIVE), ContentType),
        ("almost JSON", typed("application/jsonx", ACTIVE), ContentType),
        ("garbage", json("{\"active\":"), Malformed),
        ("more than one", json("{\"active\":true}{}"), Malformed),
        ("doubled", json(r#"{"active":false,"active":true}"#), Malformed),
        ("no object", json("true"), Malformed),
        ("nothing", json("{}"), Malformed),
        ("a text", json(r#"{"active":"true"}"#), Malformed),
        ("a number", json(r#"{"active":1}"#), Malformed),
        ("huge", json(&huge), TooLarge),
        ("cut off", cut_off, Broken),
        ("hung up", Vec::new(), Broken),
        ("not HTTP", b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), Broken),
    ];
    for (what, answer, why) in cases {
        let endpoint = Endpoint::answering(answer).await;
        let told = endpoint.ask(TOKEN).await;
        assert_eq!(told, Err(IntrospectionFault::Unavailable(why)), "{what}");
        // What may be the end of an old connection alone is tried once more.
        assert_eq!(endpoint.seen.calls(), if why == Broken { 2 } else { 1 }, "{what}");
        assert_eq!(endpoint.counted("failure"), 1, "{what}");
    }

    let silent = Endpoint::held(json(ACTIVE), |it| it.timeout = Duration::from_millis(50)).await;
    let told = silent.ask(TOKEN).await;
    assert_eq!(told, Err(IntrospectionFault::Unavailable(TooSlow)));

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let url = format!("http://{address}/").parse().unwrap();
    let nobody = Endpoint::with(Vec::new(), |it| it.url = url).await;
    assert_eq!(nobody.ask(TOKEN).await, Err(IntrospectionFault::Unavailable(NoConnection)));
}

#[tokio::test]
async fn the_secret_is_read_for_each_question() {
    let endpoint = Endpoint::answering(json(ACTIVE)).await;
    let file = endpoint.folder.path().join("secret");
    endpoint.ask("one").await.unwrap();
    fs::write(&file, "rotated\n").unwrap();
    endpoint.ask("two").await.unwrap();
    // gateway%3Aclient:rotated
    let basic = "authorization: Basic Z2F0ZXdheSUzQWNsaWVudDpyb3RhdGVk\r\n";
    assert!(endpoint.seen.requests.lock().unwrap()[1].contains(basic));
    let unavailable = Err(IntrospectionFault::Unavailable(Unavailable::Secret));
    fs::write(&file, "\n").unwrap();
    assert_eq!(endpoint.ask("three").await, unavailable);
    fs::remove_file(&file).unwrap();
    assert_eq!(endpoint.ask("three").await, unavailable);
    assert_eq!(endpoint.seen.calls(), 2, "without the secret nobody is asked");
}

#[tokio::test]
async fn only_so_many_ask_at_once_and_only_so_many_wait() {
    let endpoint = Endpoint::held(json(ACTIVE), |it| (it.concurrency, it.waiting) = (3, 4)).await;
    let mut asking = JoinSet::new();
    for number in 0..10 {
        endpoint.spawn_into(&mut asking, format!("token {number}"));
    }
    // Three of the ten find neither a place nor one to wait in.
    for _ in 0..3 {
        let told = timeout(Duration::from_secs(4), asking.join_next()).await.unwrap();
        assert_eq!(told.unwrap().unwrap(), Err(IntrospectionFault::Busy));
    }
    endpoint.seen.until_calls(3).await;
    assert_eq!(endpoint.seen.calls(), 3);
    endpoint.seen.open();
    while let Some(told) = asking.join_next().await {
        assert!(told.unwrap().is_ok());
    }
    assert_eq!(endpoint.seen.calls(), 7);
    assert_eq!(endpoint.seen.most.load(Ordering::SeqCst), 3);
    assert_eq!(endpoint.introspection.places.available_permits(), 3);
    assert_eq!(endpoint.introspection.queue.available_permits(), 4);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_timeout_for_a_place() {
    let limit = Duration::from_millis(300);
    let endpoint = Endpoint::held(json(ACTIVE), |it| {
        (it.concurrency, it.waiting, it.timeout) = (1, 1, limit);
    })
    .await;
    let _all = endpoint.introspection.places.acquire().await.unwrap();
    let start = Instant::now();
    assert_eq!(endpoint.ask(TOKEN).await, Err(IntrospectionFault::Busy));
    assert!(start.elapsed() >= limit && start.elapsed() < 10 * limit);
    assert_eq!(endpoint.seen.calls(), 0);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let claims = |count: usize| {
        let list = vec![Value::from(0); count];
        Map::from_iter([("roles".to_owned(), Value::Array(list))])
    };
    let weight = |count| Answer::new(claims(count), UNIX_EPOCH, Duration::ZERO, REPEAT).weight;
    let grown = (weight(1000) - weight(0)) as usize;
    assert!(grown >= 1000 * size_of::<Value>(), "{grown}: as large as in memory, not as sent");
    let list = vec!["0"; 30_000].join(",");
    let endpoint = Endpoint::answering(json(&format!(r#"{{"active":true,"x":[{list}]}}"#))).await;
    for number in 0..10 {
        endpoint.ask(&number.to_string()).await.unwrap();
        endpoint.introspection.answers.run_pending_tasks().await;
        assert!(endpoint.introspection.answers.weighted_size() <= MEMORY);
    }
}

/// Gathers what the log says.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_token_nor_secret_is_told_anywhere() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    // An issuer that sends the token back, in what is wrong with its answer too.
    let doubled = format!(r#"{{"{TOKEN}":1,"{TOKEN}":2}}"#);
    let mut texts = Vec::new();
    for answer in [status("401 Unauthorized"), json(&doubled), json(ACTIVE), Vec::new()] {
        let endpoint = Endpoint::answering(answer).await;
        for _ in 0..3 {
            if let Err(fault) = endpoint.ask(TOKEN).await {
                texts.push(format!("{fault} {fault:?} {}", fault.label()));
            }
        }
        texts.push(format!("{:?}", endpoint.introspection));
        let settings = &endpoint.introspection.settings;
        texts.push(format!(
            "{:?}",
            question::request(settings, SECRET, "a token").unwrap().headers()
        ));
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("refuses the gateway's client").count(), 2, "said once: {log}");
    texts.push(log);
    for text in texts {
        let basic = "Z2F0ZXdheSUzQW";
        for hidden in [TOKEN, "opaque-token", SECRET, "secret%3Aof", "secret:of", basic] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
    }
}

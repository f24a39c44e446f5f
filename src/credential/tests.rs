//! Who may use a credential, with a source that says what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::*;

#[derive(Debug, Default)]
struct Told {
    /// Nothing: it is down.
    password: Mutex<Option<&'static str>>,
    /// It does not answer.
    is_stuck: Mutex<bool>,
    fetches: AtomicUsize,
}

impl Source for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let password = *self.password.lock().unwrap();
        let is_stuck = *self.is_stuck.lock().unwrap();
        Box::pin(async move {
            if is_stuck {
                return std::future::pending().await;
            }
            tokio::task::yield_now().await;
            let password = password.ok_or(SourceError::Unavailable("it is down".to_owned()))?;
            let part = |text: &str| Zeroizing::new(text.to_owned());
            Secret::new(part("user"), part(password), Some(format!("of {password}")))
        })
    }
}

impl Told {
    fn tell(&self, password: &'static str) {
        *self.password.lock().unwrap() = Some(password);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

async fn credentials(overlap: Duration) -> (Arc<Told>, Credentials) {
    let told = Arc::new(Told::default());
    told.tell("one");
    let settings = config::Credential {
        source: Arc::clone(&told) as Arc<dyn Source>,
        refresh: Duration::from_secs(3600),
        max_stale: Duration::from_secs(3600),
        overlap,
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    let credentials = Credentials::new(&settings, Events::default(), metrics);
    assert!(credentials.read().await);
    (told, credentials)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn lend(credentials: &Credentials) -> Loan<'_> {
    credentials.lend(soon()).await.unwrap()
}

async fn refusal(credentials: &Credentials) -> CredentialError {
    credentials.lend(soon()).await.unwrap_err()
}

fn version<'a>(loan: &'a Loan<'_>) -> &'a str {
    loan.version().unwrap()
}

fn is_probe(loan: &Loan<'_>) -> bool {
    loan.pass.as_ref().unwrap().is_probe
}

/// Two that are on their way at once, as it was accepted just now.
async fn two(credentials: &Credentials) -> (Loan<'_>, Loan<'_>) {
    let first = lend(credentials).await;
    let accepted = async { first.accepted() };
    let (one, another, ()) = tokio::join!(lend(credentials), lend(credentials), accepted);
    (one, another)
}

/// As if the CMS had not been asked, or had not answered, for a while.
fn rest(credentials: &Credentials) {
    credentials.state().newest.as_mut().unwrap().standing.rest();
}

/// Whether it has nothing to give while this is looked at.
async fn waits(credentials: &Credentials) -> bool {
    let now = Instant::now();
    matches!(credentials.lend(now).await, Err(CredentialError::OnTrial))
}

#[tokio::test]
async fn what_was_never_accepted_is_tried_by_one() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    let first = lend(&credentials).await;
    assert!(waits(&credentials).await);
    // It heard nothing, so that another one tries.
    drop(first);
    let second = lend(&credentials).await;
    assert!(waits(&credentials).await);
    let (waited, ()) = tokio::join!(credentials.lend(soon()), async { second.accepted() });
    let _waited = waited.unwrap();
}

#[tokio::test]
async fn no_more_may_be_on_their_way_than_twice_what_the_cms_took_at_once() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    let limit =
        |credentials: &Credentials| credentials.state().newest.as_ref().unwrap().standing.limit();
    lend(&credentials).await.accepted();
    assert_eq!(limit(&credentials), 2);
    let (one, another) = two(&credentials).await;
    assert!(waits(&credentials).await, "a burst after them is not let through");
    one.accepted();
    another.accepted();
    assert_eq!(limit(&credentials), 4);
    for _ in 0..8 {
        lend(&credentials).await.accepted();
    }
    assert_eq!(limit(&credentials), 2, "the load is less now");
}

#[tokio::test]
async fn a_cms_that_says_nothing_gets_one_more_a_second() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.accepted();
    let silent = two(&credentials).await;
    assert!(waits(&credentials).await);
    rest(&credentials);
    let one_more = lend(&credentials).await;
    assert!(waits(&credentials).await);
    one_more.accepted();
    drop(silent);
}

#[tokio::test]
async fn a_source_that_is_slow_has_no_other_credential() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    *told.is_stuck.lock().unwrap() = true;
    let by = Instant::now() + Duration::from_millis(10);
    lend(&credentials).await.refused(by).await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn a_refusal_costs_one_reading_and_no_further_guess() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    let (one, another) = two(&credentials).await;
    let before = told.fetches();
    let ((), (), waited) = tokio::join!(
        one.refused(soon()),
        another.refused(soon()),
        // Comes while the source is asked.
        credentials.lend(soon())
    );
    assert_eq!(told.fetches(), before + 1, "one reading for all");
    assert!(matches!(waited, Err(CredentialError::Refused { .. })), "{waited:?}");
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    assert!(credentials.is_refused());
    assert_eq!(credentials.metrics.credential_refusals.get(), 2);
}

#[tokio::test]
async fn another_credential_is_tried_by_one_again() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.accepted();
    let old = lend(&credentials).await;
    told.tell("two");
    old.refused(soon()).await;
    let new = lend(&credentials).await;
    assert_eq!(version(&new), "of two");
    assert!(waits(&credentials).await);
    new.accepted();
    assert!(!credentials.is_refused());
}

#[tokio::test]
async fn a_store_that_is_down_has_no_other_credential() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    let loan = lend(&credentials).await;
    *told.password.lock().unwrap() = None;
    loan.refused(soon()).await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn a_refused_credential_is_tried_by_one_after_its_pause() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.refused(soon()).await;
    let pass = |credentials: &Credentials| {
        credentials.state().newest.as_mut().unwrap().standing.end_pause();
    };
    pass(&credentials);
    let probe = lend(&credentials).await;
    assert!(is_probe(&probe));
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    probe.refused(soon()).await;
    for seconds in [2, 4, 8, 16, 32, 60, 60] {
        let left = credentials.state().newest.as_ref().unwrap().standing.pause_left().unwrap();
        let pause = Duration::from_secs(seconds);
        assert!(left <= pause && left > pause * 3 / 4, "{left:?} of {pause:?}");
        pass(&credentials);
        lend(&credentials).await.refused(soon()).await;
    }
    pass(&credentials);
    lend(&credentials).await.accepted();
    assert!(!is_probe(&lend(&credentials).await));
    assert!(!credentials.is_refused());
}

#[tokio::test]
async fn an_answer_to_what_was_sent_before_the_refusal_ends_nothing() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    let (early, late) = two(&credentials).await;
    late.refused(soon()).await;
    early.accepted();
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn the_credential_before_serves_in_the_overlap() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    told.tell("two");
    assert!(credentials.read().await);
    let new = lend(&credentials).await;
    assert_eq!(version(&new), "of two");
    new.refused(soon()).await;
    let old = lend(&credentials).await;
    assert_eq!((version(&old), is_probe(&old)), ("of one", false));
    old.accepted();
    assert!(credentials.is_refused(), "the new one still is");
    // The CMS follows.
    credentials.state().newest.as_mut().unwrap().standing.end_pause();
    let probe = lend(&credentials).await;
    assert_eq!(version(&probe), "of two");
    probe.accepted();
    assert_eq!(version(&lend(&credentials).await), "of two");
    assert!(!credentials.is_refused());
}

#[tokio::test]
async fn when_the_credential_before_is_refused_too_the_new_one_is_tried_at_once() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    told.tell("two");
    assert!(credentials.read().await);
    lend(&credentials).await.refused(soon()).await;
    let (one, another) = two(&credentials).await;
    assert_eq!((version(&one), version(&another)), ("of one", "of one"));
    one.refused(soon()).await;
    another.refused(soon()).await;
    assert!(credentials.state().previous.is_none());
    let new = lend(&credentials).await;
    assert_eq!(version(&new), "of two");
    assert!(waits(&credentials).await, "nobody is turned away meanwhile");
    new.refused(soon()).await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    assert!(credentials.is_refused());
}

#[tokio::test]
async fn when_both_are_wrong_each_is_tried_once() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    told.tell("two");
    assert!(credentials.read().await);
    lend(&credentials).await.refused(soon()).await;
    let old = lend(&credentials).await;
    assert_eq!(version(&old), "of one");
    old.refused(soon()).await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    assert!(credentials.is_refused());
}

#[tokio::test]
async fn what_the_store_took_back_is_not_its_own_credential_before() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    told.tell("two");
    assert!(credentials.read().await);
    lend(&credentials).await.refused(soon()).await;
    told.tell("one");
    assert!(credentials.read().await);
    lend(&credentials).await.accepted();
    // Now the CMS takes none of them.
    lend(&credentials).await.refused(soon()).await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn a_store_that_goes_to_and_fro_between_wrong_ones_costs_one_guess_for_each() {
    for overlap in [Duration::ZERO, Duration::from_secs(3600)] {
        let (told, credentials) = credentials(overlap).await;
        for (now, next) in [("of one", "two"), ("of two", "one")] {
            let loan = lend(&credentials).await;
            assert_eq!(version(&loan), now);
            told.tell(next);
            loan.refused(soon()).await;
        }
        for password in ["two", "one", "two"] {
            assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
            assert!(credentials.is_refused());
            told.tell(password);
            assert!(credentials.read().await);
        }
    }
}

#[tokio::test]
async fn what_was_refused_once_is_tried_like_any_other_when_the_cms_accepted_one_since() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    let loan = lend(&credentials).await;
    told.tell("two");
    loan.refused(soon()).await;
    lend(&credentials).await.accepted();
    assert!(credentials.state().discarded.is_none(), "nor is it kept in memory");
    told.tell("one");
    assert!(credentials.read().await);
    let one = lend(&credentials).await;
    assert_eq!((version(&one), is_probe(&one)), ("of one", false));
}

#[tokio::test]
async fn what_was_never_used_is_not_kept_for_what_served() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    // As two files that are written one after the other are read between.
    for password in ["half", "two"] {
        told.tell(password);
        assert!(credentials.read().await);
    }
    lend(&credentials).await.refused(soon()).await;
    assert_eq!(version(&lend(&credentials).await), "of one");
}

#[tokio::test]
async fn it_is_read_again_before_it_is_too_old() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    let settings = config::Credential {
        source: told,
        refresh: Duration::from_secs(24 * 3600),
        max_stale: Duration::from_secs(60),
        overlap: Duration::ZERO,
    };
    let credentials = Credentials::new(&settings, Events::default(), credentials.metrics);
    assert_eq!(credentials.refresh, Duration::from_secs(30));
}

#[tokio::test]
async fn while_the_source_is_asked_nobody_guesses_whatever_comes_of_what_was_sent_before() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    let (early, late) = two(&credentials).await;
    let reading = credentials.reading.lock().await;
    let mut refused = std::pin::pin!(late.refused(soon()));
    assert!(tokio::time::timeout(Duration::ZERO, refused.as_mut()).await.is_err());
    early.accepted();
    assert!(waits(&credentials).await, "the CMS has refused it since");
    drop(reading);
    refused.await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn without_an_overlap_nothing_is_kept_of_the_credential_before() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    told.tell("two");
    assert!(credentials.read().await);
    assert!(credentials.state().previous.is_none());
}

#[tokio::test]
async fn what_was_read_too_long_ago_counts_no_more() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    credentials.state().read = Instant::now().checked_sub(Duration::from_secs(3601));
    assert_eq!(refusal(&credentials).await, CredentialError::Stale);
    *told.password.lock().unwrap() = None;
    assert!(!credentials.read().await);
    assert_eq!(credentials.trouble(), Some(CredentialError::Stale));
    told.tell("one");
    assert!(credentials.read().await);
    assert_eq!(credentials.trouble(), None);
}

#[tokio::test]
async fn the_same_credential_of_another_version_keeps_its_standing() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.refused(soon()).await;
    told.tell("one");
    assert!(credentials.read().await);
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn words_that_repeat_a_credential_are_known() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    let loan = lend(&credentials).await;
    let encoded = STANDARD.encode("user:one");
    assert!(loan.is_in(format!("<p>Basic {encoded}</p>").as_bytes()));
    assert!(!loan.is_in(b"one of many"), "too short to tell");
    assert!(!format!("{loan:?} {:?}", **loan).contains(&encoded));
}

#[test]
fn words_that_repeat_a_credential_are_known_however_they_are_escaped() {
    let secret = |password: &str| Secret {
        username: "user".to_owned().into(),
        password: password.to_owned().into(),
        version: None,
    };
    let credential = Credential::new(secret("a\"\\é\u{1f511}?>?>?>"), "told");
    let encoded = STANDARD.encode("user:a\"\\é\u{1f511}?>?>?>");
    assert!(encoded.contains('/') && encoded.ends_with('='), "{encoded}");
    for words in [
        encoded.clone(),
        encoded.replace('/', "\\/"),
        encoded.replace('=', "\\u003d"),
        encoded.replace('/', "\\u002F").replace('=', "\\u003D"),
        "a\"\\é\u{1f511}?>?>?>".to_owned(),
        r#"a\"\\é🔑?>?>?>"#.to_owned(),
        r#"a\"\\\u00e9\ud83d\udd11?\u003e?\u003e?\u003e"#.to_owned(),
    ] {
        assert!(credential.is_in(format!("{{\"a\":\"\\n{words}\\").as_bytes()), "{words}");
    }
    for words in ["\\", "\\u", "\\u12", "\\ud83d", "\\uzzzz\\", "a\\\"b"] {
        assert!(!credential.is_in(words.as_bytes()), "{words}");
    }
}

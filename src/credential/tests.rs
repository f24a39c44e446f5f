//! Who may use a credential, with a source that says what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[derive(Debug, Default)]
struct Told {
    /// Nothing: it is down.
    password: Mutex<Option<&'static str>>,
    fetches: AtomicUsize,
}

impl Source for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let password = *self.password.lock().unwrap();
        Box::pin(async move {
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
    assert_eq!(waited.unwrap().role, Role::Free);
    assert_eq!(lend(&credentials).await.role, Role::Free, "all may use it now");
}

#[tokio::test]
async fn a_refusal_costs_one_reading_and_no_further_guess() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.accepted();
    let (one, two, three) =
        (lend(&credentials).await, lend(&credentials).await, lend(&credentials).await);
    let before = told.fetches();
    let (_, (), waited) = tokio::join!(
        one.refused(),
        async { tokio::join!(two.refused(), three.refused()).0 },
        // Comes while the source is asked.
        credentials.lend(soon())
    );
    assert_eq!(told.fetches(), before + 1, "one reading for all");
    assert!(matches!(waited, Err(CredentialError::Refused { .. })), "{waited:?}");
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    assert_eq!(credentials.metrics.credential_refused.get(), 1);
    assert_eq!(credentials.metrics.credential_refusals.get(), 3);
}

#[tokio::test]
async fn another_credential_is_tried_by_one_again() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.accepted();
    let old = lend(&credentials).await;
    told.tell("two");
    old.refused().await;
    let new = lend(&credentials).await;
    assert_eq!((version(&new), new.role), ("of two", Role::Trial));
    assert!(waits(&credentials).await);
    new.accepted();
    assert_eq!(credentials.metrics.credential_refused.get(), 0);
}

#[tokio::test]
async fn a_store_that_is_down_has_no_other_credential() {
    let (told, credentials) = credentials(Duration::ZERO).await;
    let loan = lend(&credentials).await;
    *told.password.lock().unwrap() = None;
    loan.refused().await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
}

#[tokio::test]
async fn a_refused_credential_is_tried_by_one_after_its_pause() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.refused().await;
    let pass = |credentials: &Credentials| {
        credentials.state().newest.as_mut().unwrap().standing.end_pause();
    };
    pass(&credentials);
    let probe = lend(&credentials).await;
    assert_eq!(probe.role, Role::Probe);
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    probe.refused().await;
    let left = credentials.state().newest.as_ref().unwrap().standing.pause_left().unwrap();
    assert!(left > Duration::from_secs(1), "{left:?}: the pause grows");
    pass(&credentials);
    lend(&credentials).await.accepted();
    assert_eq!(lend(&credentials).await.role, Role::Free);
    assert_eq!(credentials.metrics.credential_refused.get(), 0);
}

#[tokio::test]
async fn an_answer_to_what_was_sent_before_the_refusal_ends_nothing() {
    let (_, credentials) = credentials(Duration::ZERO).await;
    lend(&credentials).await.accepted();
    let (early, late) = (lend(&credentials).await, lend(&credentials).await);
    late.refused().await;
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
    new.refused().await;
    let old = lend(&credentials).await;
    assert_eq!((version(&old), old.role), ("of one", Role::Free));
    old.accepted();
    assert_eq!(credentials.metrics.credential_refused.get(), 1, "the new one still is");
    // The CMS follows.
    credentials.state().newest.as_mut().unwrap().standing.end_pause();
    let probe = lend(&credentials).await;
    assert_eq!(version(&probe), "of two");
    probe.accepted();
    assert_eq!(version(&lend(&credentials).await), "of two");
    assert_eq!(credentials.metrics.credential_refused.get(), 0);
}

#[tokio::test]
async fn when_the_credential_before_is_refused_too_the_new_one_is_tried_at_once() {
    let (told, credentials) = credentials(Duration::from_secs(3600)).await;
    lend(&credentials).await.accepted();
    told.tell("two");
    assert!(credentials.read().await);
    lend(&credentials).await.refused().await;
    let (one, another) = (lend(&credentials).await, lend(&credentials).await);
    assert_eq!((version(&one), version(&another)), ("of one", "of one"));
    one.refused().await;
    another.refused().await;
    assert!(credentials.state().previous.is_none());
    let new = lend(&credentials).await;
    assert_eq!((version(&new), new.role), ("of two", Role::Trial));
    assert!(waits(&credentials).await, "nobody is turned away meanwhile");
    new.refused().await;
    assert!(matches!(refusal(&credentials).await, CredentialError::Refused { .. }));
    assert_eq!(credentials.metrics.credential_refused.get(), 1);
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
    lend(&credentials).await.refused().await;
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

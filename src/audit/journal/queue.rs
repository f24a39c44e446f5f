//! What waits to be written, and the bell that tells the writer of it.
//!
//! Who puts the first message into an empty queue rings the bell, and lets others add theirs before:
//! the writer sleeps until then, and takes all that is there.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The most messages that are taken at once.
const LARGEST: usize = 1024;
/// How long at the most those who are ready are let before the bell. Where very many are, each round
/// of them takes its time.
const GATHERING: Duration = Duration::from_millis(10);

/// Messages on their way to the writer.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
    /// Told when the writer waits for the bell.
    waits: Notify,
}

#[derive(Debug)]
struct State<T> {
    messages: Vec<T>,
    is_rung: bool,
    /// Whether the writer waits for the bell.
    is_awaited: bool,
    /// Nobody will put in any.
    is_ended: bool,
    /// Nobody will take any.
    is_closed: bool,
}

/// The queue's other end. When it is dropped, nothing more is put in.
#[derive(Debug)]
pub(super) struct Taker<T>(Arc<Queue<T>>);

/// Nobody takes messages any more.
#[derive(Debug)]
pub(super) struct Closed;

/// Rings when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Ringer<'a, T>(&'a Queue<T>);

pub(super) fn queue<T>() -> (Arc<Queue<T>>, Taker<T>) {
    let state = State {
        messages: Vec::new(),
        is_rung: false,
        is_awaited: false,
        is_ended: false,
        is_closed: false,
    };
    let queue =
        Arc::new(Queue { state: Mutex::new(state), bell: Condvar::new(), waits: Notify::new() });
    let taker = Taker(Arc::clone(&queue));
    (queue, taker)
}

impl<T> Queue<T> {
    /// Puts in a message. Who has put in the first one rings.
    pub(super) fn push(&self, message: T) -> Result<Option<Ringer<'_, T>>, Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        state.messages.push(message);
        let is_first = state.messages.len() == 1;
        Ok(is_first.then(|| Ringer(self)))
    }

    /// Nothing more will be put in.
    pub(super) fn end(&self) {
        self.state().is_ended = true;
        self.bell.notify_one();
    }

    /// Whether the writer waits for the bell, or is gone.
    fn is_awaited(&self) -> bool {
        let state = self.state();
        state.is_awaited || state.is_closed
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Ringer<'_, T> {
    /// Rings as soon as the writer waits for it and no task that is ready has another message.
    pub(super) async fn ring(self) {
        self.ring_within(GATHERING).await;
    }

    async fn ring_within(self, gathering: Duration) {
        loop {
            // From here on it is not missed.
            let told = self.0.waits.notified();
            if self.0.is_awaited() {
                break;
            }
            told.await;
        }
        let (start, mut before) = (Instant::now(), 0);
        loop {
            let messages = self.0.state().messages.len();
            if messages == before || messages >= LARGEST || start.elapsed() >= gathering {
                break;
            }
            before = messages;
            tokio::task::yield_now().await;
        }
    }
}

impl<T> Drop for Ringer<'_, T> {
    fn drop(&mut self) {
        self.0.state().is_rung = true;
        self.0.bell.notify_one();
    }
}

impl<T> Taker<T> {
    /// What is there once the bell rings, which is nothing when it doesn't for so long; or that
    /// nothing will come any more.
    pub(super) fn take(&self, patience: Option<Duration>) -> Option<Vec<T>> {
        let mut state = self.0.state();
        state.is_awaited = true;
        self.0.waits.notify_waiters();
        let is_silent = |state: &mut State<T>| !state.is_rung && !state.is_ended;
        let bell = &self.0.bell;
        let mut state = match patience {
            None => bell.wait_while(state, is_silent).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = bell.wait_timeout_while(state, patience, is_silent);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.is_awaited = false;
        if !state.is_rung {
            return (!state.is_ended).then(Vec::new);
        }
        if state.messages.len() > LARGEST {
            return Some(state.messages.drain(..LARGEST).collect());
        }
        state.is_rung = false;
        Some(mem::take(&mut state.messages))
    }

    /// What is there, whether the bell rang or not.
    pub(super) fn rest(&self) -> Vec<T> {
        mem::take(&mut self.0.state().messages)
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        let left = mem::take(&mut state.messages);
        drop(state);
        self.0.waits.notify_waiters();
        // What is in them may wake somebody who asks the queue.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use super::*;

    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn all_that_is_there_is_taken_once_the_first_one_rings() {
        let (queue, taker) = queue();
        let ringer = queue.push(1).unwrap();
        assert!(ringer.is_some());
        assert!(queue.push(2).unwrap().is_none(), "the first one rings for it");
        let is_there = |taker: &Taker<_>| !taker.take(Some(Duration::ZERO)).unwrap().is_empty();
        assert!(!is_there(&taker), "not yet");
        drop(ringer);
        assert_eq!(taker.take(None).unwrap(), [1, 2]);
        assert!(!is_there(&taker), "the bell rang for those");
        drop(queue.push(3).unwrap());
        assert_eq!(taker.take(None).unwrap(), [3]);
    }

    #[tokio::test]
    async fn the_bell_rings_once_the_writer_waits_and_nobody_has_more() {
        let (queue, taker) = queue();
        let mut ringing = pin!(queue.push(0).unwrap().unwrap().ring_within(Duration::MAX));
        assert!(is_pending(ringing.as_mut()), "nobody waits for it");
        let writer = std::thread::spawn(move || (taker.take(None), taker));
        while !queue.is_awaited() {
            std::thread::yield_now();
        }
        let put_in = async {
            for number in 1..=3 {
                assert!(queue.push(number).unwrap().is_none());
                tokio::task::yield_now().await;
            }
        };
        // In this order each time, so that each look at the queue finds one more.
        tokio::join!(biased; ringing, put_in);
        assert_eq!(writer.join().unwrap().0.unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn the_bell_rings_soon_however_many_have_more() {
        let (queue, taker) = queue();
        let ringer = queue.push(0).unwrap().unwrap();
        let writer = std::thread::spawn(move || taker.take(None));
        while !queue.is_awaited() {
            std::thread::yield_now();
        }
        let one_more_each_round = async {
            while queue.push(1).is_ok() {
                // As many others' requests would.
                std::thread::sleep(GATHERING);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(ringer.ring(), one_more_each_round);
        assert!(writer.join().unwrap().unwrap().len() < 10);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_writer_that_is_gone() {
        let (queue, taker) = queue();
        let mut ringing = pin!(queue.push(0).unwrap().unwrap().ring());
        assert!(is_pending(ringing.as_mut()));
        drop(taker);
        ringing.await;
    }

    #[test]
    fn very_many_are_taken_in_parts() {
        let (queue, taker) = queue();
        let ringer = queue.push(0).unwrap();
        for number in 1..=LARGEST {
            assert!(queue.push(number).unwrap().is_none());
        }
        drop(ringer);
        assert_eq!(taker.take(None).unwrap().len(), LARGEST);
        queue.end();
        assert_eq!(taker.take(None).unwrap(), [LARGEST]);
        assert!(taker.take(None).is_none());
    }

    #[test]
    fn nothing_is_put_in_for_nobody() {
        let (queue, taker) = queue();
        let witness = Arc::new(());
        drop(queue.push(Arc::clone(&witness)).unwrap());
        drop(taker);
        assert_eq!(Arc::strong_count(&witness), 1);
        assert!(queue.push(witness).is_err());
    }
}

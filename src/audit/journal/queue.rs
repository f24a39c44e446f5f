//! What waits to be written, and the bell that tells the writer of it.
//!
//! Who puts the first message into an empty queue rings the bell, and had better let others add
//! theirs before: the writer sleeps until then, and takes all that is there.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most messages that are taken at once.
const LARGEST: usize = 1024;

/// Messages on their way to the writer.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

#[derive(Debug)]
struct State<T> {
    messages: Vec<T>,
    is_rung: bool,
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
    let state = State { messages: Vec::new(), is_rung: false, is_ended: false, is_closed: false };
    let queue = Arc::new(Queue { state: Mutex::new(state), bell: Condvar::new() });
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

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let state = self.0.state();
        let is_silent = |state: &mut State<T>| !state.is_rung && !state.is_ended;
        let bell = &self.0.bell;
        let mut state = match patience {
            None => bell.wait_while(state, is_silent).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = bell.wait_timeout_while(state, patience, is_silent);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if !state.is_rung {
            return (!state.is_ended).then(Vec::new);
        }
        if state.messages.len() > LARGEST {
            return Some(state.messages.drain(..LARGEST).collect());
        }
        state.is_rung = false;
        Some(mem::take(&mut state.messages))
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        let left = mem::take(&mut state.messages);
        drop(state);
        // What is in them may wake somebody who asks the queue.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

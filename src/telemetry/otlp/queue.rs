//! What waits to be sent: bounded, and never waited for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::sync::Notify;

/// How much is sent at once: so many spans or records, or bytes.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// Something that can wait to be sent.
pub(in crate::telemetry) trait Waiting {
    /// How many spans or records it is.
    fn count(&self) -> usize;
    /// How many bytes it holds, roughly.
    fn bytes(&self) -> usize;
}

/// What waits to be sent. What there is no room for is dropped and counted.
#[derive(Debug)]
pub(in crate::telemetry) struct Queue<T> {
    state: Mutex<State<T>>,
    /// The most bytes that wait.
    most: usize,
    /// Told when there is enough for a batch.
    pub(super) enough: Notify,
    dropped: IntCounter,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    count: usize,
    bytes: usize,
}

impl<T: Waiting> Queue<T> {
    pub(super) fn new(most: usize, dropped: IntCounter) -> Self {
        let state = State { items: VecDeque::new(), count: 0, bytes: 0 };
        Self { state: Mutex::new(state), most, enough: Notify::new(), dropped }
    }

    pub(in crate::telemetry) fn push(&self, item: T) {
        let (count, bytes) = (item.count(), item.bytes());
        let mut state = self.state();
        if state.bytes + bytes > self.most {
            drop(state);
            self.dropped.inc_by(count as u64);
            return;
        }
        let was_enough = state.is_enough();
        state.items.push_back(item);
        state.count += count;
        state.bytes += bytes;
        let is_news = !was_enough && state.is_enough();
        drop(state);
        if is_news {
            self.enough.notify_one();
        }
    }

    /// What is sent next; empty when nothing waits.
    pub(super) fn take(&self) -> Vec<T> {
        let mut state = self.state();
        let (mut batch, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(item) = state.items.pop_front() {
            let (own_count, own_bytes) = (item.count(), item.bytes());
            let is_more = count + own_count > BATCH || bytes + own_bytes > BATCH_BYTES;
            if is_more && !batch.is_empty() {
                state.items.push_front(item);
                break;
            }
            (count, bytes) = (count + own_count, bytes + own_bytes);
            batch.push(item);
        }
        state.count -= count;
        state.bytes -= bytes;
        batch
    }

    /// How many spans or records wait.
    pub(super) fn waiting(&self) -> usize {
        self.state().count
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_enough(&self) -> bool {
        self.count >= BATCH || self.bytes >= BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(usize, usize);

    impl Waiting for Item {
        fn count(&self) -> usize {
            self.0
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn queue(most: usize) -> (Queue<Item>, IntCounter) {
        let dropped = IntCounter::new("dropped", "help").unwrap();
        (Queue::new(most, dropped.clone()), dropped)
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let (queue, dropped) = queue(100);
        queue.push(Item(3, 60));
        queue.push(Item(4, 41));
        queue.push(Item(5, 40));
        assert_eq!((dropped.get(), queue.waiting()), (4, 8));
        assert_eq!(queue.take().len(), 2);
        queue.push(Item(6, 100));
        assert_eq!((dropped.get(), queue.waiting()), (4, 6));
    }

    #[test]
    fn batches_are_bounded_and_the_largest_item_is_taken_alone() {
        let (queue, _) = queue(usize::MAX);
        for _ in 0..3 {
            queue.push(Item(200, 1));
        }
        queue.push(Item(1, BATCH_BYTES + 1));
        queue.push(Item(1, BATCH_BYTES));
        queue.push(Item(1, 1));
        let taken: Vec<usize> = std::iter::from_fn(|| Some(queue.take().len())).take(6).collect();
        assert_eq!(taken, [2, 1, 1, 1, 1, 0]);
        assert_eq!(queue.waiting(), 0);
    }
}

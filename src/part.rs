//! Parts of the gateway that something in the background keeps fresh.

use std::ops::Deref;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

/// A part, and the task that keeps it fresh for as long as anybody has it.
#[derive(Debug)]
pub(crate) struct Part<T> {
    of: Arc<T>,
    task: Arc<Task>,
}

/// Ends when it is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl<T> Part<T> {
    /// Starts the task among the others.
    pub(crate) fn new(
        of: Arc<T>,
        tasks: &mut JoinSet<()>,
        keep_fresh: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        // Those of parts that nobody has any more.
        while tasks.try_join_next().is_some() {}
        Self { of, task: Arc::new(Task(tasks.spawn(keep_fresh))) }
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { of: Arc::clone(&self.of), task: Arc::clone(&self.task) }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.of
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

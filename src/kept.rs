//! Parts of the gateway that something in the background keeps fresh.

use std::ops::Deref;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

/// A part, and the task that keeps it fresh for as long as anybody has it.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    part: Arc<T>,
    task: Arc<Task>,
}

/// Ends when it is dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl<T> Kept<T> {
    /// Starts the task among the others.
    pub(crate) fn new(
        part: Arc<T>,
        tasks: &mut JoinSet<()>,
        keep_fresh: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        // Those of parts that nobody has any more.
        while tasks.try_join_next().is_some() {}
        Self { part, task: Arc::new(Task(tasks.spawn(keep_fresh))) }
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { part: Arc::clone(&self.part), task: Arc::clone(&self.task) }
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

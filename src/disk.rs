//! Work on a disk, off the async threads and one piece at a time, since a disk may hang for ever.

use std::time::Duration;

use rustix::fs::StatVfs;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

/// How many bytes are free on a file system for those who are not root.
pub(crate) fn free(found: &StatVfs) -> u64 {
    found.f_bavail.saturating_mul(found.f_frsize)
}

/// Work on a disk, one piece at a time.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Not given up when nobody waits for it any more: the next piece of work would hang as well,
    /// and keep one more thread from others.
    under_way: Mutex<Option<JoinHandle<()>>>,
}

impl Disk {
    /// What the work gives, or nothing where it takes longer; it may be dropped at any time.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let asked = async {
            let mut under_way = self.under_way.lock().await;
            if let Some(before) = under_way.as_mut() {
                // It fails only at the end of the runtime.
                let _ = before.await;
            }
            let (tell, told) = oneshot::channel();
            // What nobody waits for is dropped by the work itself.
            *under_way = Some(spawn_blocking(move || drop(tell.send(work()))));
            told.await.ok()
        };
        tokio::time::timeout(limit, asked).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn what_hangs_is_waited_for_and_not_joined_by_another() {
        let disk = Disk::default();
        let (release, released) = mpsc::channel::<()>();
        let hangs = disk.ask(Duration::from_millis(20), move || released.recv().is_ok()).await;
        assert_eq!(hangs, None);
        let (say, said) = mpsc::channel();
        let second = disk.ask(Duration::from_millis(20), move || say.send(())).await;
        assert!(second.is_none() && said.try_recv().is_err(), "it has not begun");
        release.send(()).unwrap();
        assert_eq!(disk.ask(LONG, || 3).await, Some(3));
        assert_eq!(disk.ask(LONG, || 4).await, Some(4));
    }
}

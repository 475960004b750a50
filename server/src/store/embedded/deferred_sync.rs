//! Syncs the journal behind the appends, when those do not wait for it.
//!
//! What is lost in a power cut is then what was written in the last second, and during the sync
//! that was under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::store::embedded::journal::Journal;

/// How long what was written waits at most before its sync begins.
const DELAY: Duration = Duration::from_secs(1);

/// Where appends say that there is something to sync.
#[derive(Debug, Default)]
pub(crate) struct Later {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Nothing,
    Sync,
    End,
}

impl Later {
    /// There is something to sync.
    pub(crate) fn wanted(&self) {
        let mut wish = self.lock();
        if *wish == Wish::Nothing {
            *wish = Wish::Sync;
            self.changed.notify_all();
        }
    }

    /// Waits for a wish and then lets more gather. False: there will be no more.
    fn wait(&self) -> bool {
        let wish = self.changed.wait_while(self.lock(), |wish| *wish == Wish::Nothing);
        let wish = wish.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.changed.wait_timeout_while(wish, DELAY, |wish| *wish != Wish::End);
        let (mut wish, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if *wish == Wish::End {
            return false;
        }
        *wish = Wish::Nothing;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that syncs; it ends with this value.
#[derive(Debug)]
pub(super) struct Syncer {
    later: Arc<Later>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn start(journal: Arc<Journal>) -> std::io::Result<Self> {
        let later = journal.later();
        let wishes = Arc::clone(&later);
        let thread = thread::Builder::new().name("syncline-sync".to_owned()).spawn(move || {
            // A failure is told by the journal's health, and ends writing.
            while wishes.wait() && journal.sync_written().is_ok() {}
        })?;
        Ok(Self { later, thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        *self.later.lock() = Wish::End;
        self.later.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only panics where the journal does, which its lock remembers.
            drop(thread.join());
        }
    }
}

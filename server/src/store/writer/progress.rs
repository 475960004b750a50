//! How far a document is stored: told by the writer thread, heard by the document's task.
//!
//! A channel that keeps the latest value would do, and did. But a task asks at each of its turns,
//! which then cost more than all that the writer does for the update; this asks one number.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use syncline_protocol::Sequence;

/// How far a document is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    /// Every update up to this one is on disk.
    Through(Sequence),
    /// Nothing more of this document will be, for this reason. Final.
    Failed(String),
}

/// Where a document is told how far it is stored. Its task makes one and keeps the other end.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Shared>);

/// The end at which that is heard. There is one.
#[derive(Debug)]
pub struct ProgressReceiver {
    shared: Arc<Shared>,
    heard: Sequence,
    heard_failure: bool,
}

#[derive(Debug)]
struct Shared {
    stored: AtomicU64,
    failure: OnceLock<String>,
    waker: AtomicWaker,
}

impl Progress {
    /// The document is stored up to `last`. News that nobody has looked at yet is replaced by
    /// later news, so telling it never waits.
    #[must_use]
    pub fn new(last: Sequence) -> (Self, ProgressReceiver) {
        let shared = Arc::new(Shared {
            stored: AtomicU64::new(last.get()),
            failure: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        let progress = Self(Arc::clone(&shared));
        (progress, ProgressReceiver { shared, heard: last, heard_failure: false })
    }

    /// Every update up to `stored` is on disk. Ignored after a failure, and if it is no news.
    pub(super) fn advance(&self, stored: Sequence) {
        let Shared { stored: known, failure, waker } = &*self.0;
        if failure.get().is_none() && known.fetch_max(stored.get(), Ordering::AcqRel) < stored.get()
        {
            waker.wake();
        }
    }

    /// Nothing more will be. The first reason is kept.
    pub(super) fn fail(&self, reason: &str) {
        if self.0.failure.set(reason.to_owned()).is_ok() {
            self.0.waker.wake();
        }
    }
}

impl ProgressReceiver {
    /// How far the document is stored at the moment.
    #[must_use]
    pub fn now(&self) -> Durable {
        match self.shared.failure.get() {
            Some(reason) => Durable::Failed(reason.clone()),
            None => Durable::Through(Sequence::new(self.shared.stored.load(Ordering::Acquire))),
        }
    }

    /// Waits for news. Safe to cancel: what was not returned is returned the next time.
    pub async fn changed(&mut self) -> Durable {
        poll_fn(|context| self.poll_changed(context)).await
    }

    /// Waits until `condition` holds; returns what met it.
    pub async fn wait_for(&mut self, condition: impl Fn(&Durable) -> bool) -> Durable {
        let mut durable = self.now();
        while !condition(&durable) {
            durable = self.changed().await;
        }
        durable
    }

    fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<Durable> {
        // Before the look, so that what comes after the look wakes.
        self.shared.waker.register(context.waker());
        let durable = self.now();
        let is_news = match &durable {
            Durable::Through(stored) => *stored > self.heard,
            Durable::Failed(_) => !self.heard_failure,
        };
        if !is_news {
            return Poll::Pending;
        }
        match &durable {
            Durable::Through(stored) => self.heard = *stored,
            Durable::Failed(_) => self.heard_failure = true,
        }
        Poll::Ready(durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(sequence: u64) -> Durable {
        Durable::Through(Sequence::new(sequence))
    }

    fn news(receiver: &mut ProgressReceiver) -> Option<Durable> {
        let mut changed = std::pin::pin!(receiver.changed());
        match changed.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(durable) => Some(durable),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn only_news_is_told_and_the_latest_once() {
        let (progress, mut receiver) = Progress::new(Sequence::new(3));
        assert_eq!(news(&mut receiver), None);
        for stored in [5, 9, 4, 3] {
            progress.advance(Sequence::new(stored));
        }
        assert_eq!(news(&mut receiver), Some(through(9)));
        assert_eq!(news(&mut receiver), None);
        let waiting = tokio::spawn(async move { receiver.changed().await });
        progress.advance(Sequence::new(10));
        assert_eq!(waiting.await.unwrap(), through(10));
    }

    #[test]
    fn a_failure_is_final_and_keeps_its_first_reason() {
        let (progress, mut receiver) = Progress::new(Sequence::ZERO);
        progress.fail("first");
        progress.fail("second");
        progress.advance(Sequence::new(1));
        assert_eq!(news(&mut receiver), Some(Durable::Failed("first".to_owned())));
        assert_eq!(news(&mut receiver), None);
        assert_eq!(receiver.now(), Durable::Failed("first".to_owned()));
    }
}

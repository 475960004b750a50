//! A deadline that moves often and is registered rarely.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Waits for a deadline that is set at every turn of a loop. A deadline that moves away costs
/// nothing: the registered timer fires first and is moved then.
#[derive(Debug, Default)]
pub(super) struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Sets the deadline. None: there is none.
    pub(super) fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        let Some(deadline) = deadline else { return };
        match &mut self.sleep {
            Some(sleep) if sleep.deadline() <= deadline && !sleep.is_elapsed() => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(sleep_until(deadline))),
        }
    }

    /// Completes at the deadline. Safe to cancel.
    pub(super) async fn elapsed(&mut self) {
        poll_fn(|context| self.poll_elapsed(context)).await;
    }

    fn poll_elapsed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (Some(deadline), Some(sleep)) = (self.deadline, &mut self.sleep) else {
            return Poll::Pending;
        };
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_elapses_at_the_latest_deadline() {
        let start = Instant::now();
        let after = |seconds| Some(start + Duration::from_secs(seconds));
        let mut timer = Timer::default();
        for (set, expected) in [([5, 9], 9), ([30, 20], 20), ([21, 22], 22), ([40, 40], 40)] {
            for seconds in set {
                timer.set(after(seconds));
                // Polled in between, as a loop does.
                tokio::select! {
                    biased;
                    () = timer.elapsed() => panic!("too early"),
                    () = std::future::ready(()) => {}
                }
            }
            timer.elapsed().await;
            assert_eq!(Instant::now().duration_since(start).as_secs(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_elapses_without_a_deadline() {
        let mut timer = Timer::default();
        timer.set(Some(Instant::now() + Duration::from_secs(1)));
        timer.set(None);
        let patience = Duration::from_secs(60);
        assert!(tokio::time::timeout(patience, timer.elapsed()).await.is_err());
    }
}

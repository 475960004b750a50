//! The way to a session: how far it has joined, and whether messages reach its queue.

use crate::time::{Millis, Timestamp};
use crate::validate::StateVector;

/// What may be sent to a session.
#[derive(Debug)]
pub(crate) enum Downstream {
    /// The document is being loaded. Nothing has been sent to it.
    Joining,
    /// It has been welcomed.
    Joined {
        /// The state that its client declared at its latest SyncStep1; None before the first.
        /// Everything newer has been sent since, so a diff from here is always enough.
        base: Option<StateVector>,
        flow: Flow,
    },
}

/// Whether messages reach the session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Live,
    /// Its queue overflowed and was dropped; nothing reaches it until it has drained.
    Lagging {
        since: Timestamp,
    },
    /// A diff has taken the place of the dropped updates. The other messages that may have been
    /// dropped are repeated at the next tick: together with the diff they could fill the queue again.
    Repeating,
}

impl Downstream {
    /// The session has been welcomed.
    pub(crate) fn welcomed(&mut self) {
        if let Self::Joining = self {
            *self = Self::Joined { base: None, flow: Flow::Live };
        }
    }

    /// A SyncStep1 that declared `base` was answered.
    pub(crate) fn answered(&mut self, base: StateVector) {
        self.welcomed();
        if let Self::Joined { base: before, .. } = self {
            *before = Some(base);
        }
    }

    /// Its queue was dropped. Before a welcome there was nothing in it.
    pub(crate) fn overflowed(&mut self, now: Timestamp) {
        if let Self::Joined { flow, .. } = self {
            *flow = Flow::Lagging { since: now };
        }
    }

    /// Its queue is empty and open again. Returns the state from which it must be caught up.
    pub(crate) fn drained(&mut self) -> Option<&StateVector> {
        let Self::Joined { base, flow } = self else { return None };
        if let Flow::Lagging { .. } = flow {
            *flow = Flow::Repeating;
        }
        base.as_ref()
    }

    /// Whether dropped messages must be repeated now; true once.
    pub(crate) fn take_repeat(&mut self) -> bool {
        match self {
            Self::Joined { flow: flow @ Flow::Repeating, .. } => {
                *flow = Flow::Live;
                true
            }
            Self::Joining | Self::Joined { .. } => false,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        matches!(self, Self::Joined { .. })
    }

    pub(crate) fn is_lagging(&self) -> bool {
        matches!(self, Self::Joined { flow: Flow::Lagging { .. }, .. })
    }

    /// Whether updates are relayed to it.
    pub(crate) fn follows(&self) -> bool {
        matches!(self, Self::Joined { base: Some(_), .. }) && !self.is_lagging()
    }

    /// Whether it has not drained within `limit`.
    pub(crate) fn is_overdue(&self, now: Timestamp, limit: Millis) -> bool {
        matches!(self, Self::Joined { flow: Flow::Lagging { since }, .. } if now - *since >= limit)
    }

    /// Whether time alone can change something.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self, Self::Joined { flow: Flow::Lagging { .. } | Flow::Repeating, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_ms(1_000);

    #[test]
    fn sync_3_a_session_follows_after_its_sync_step_1() {
        let mut downstream = Downstream::Joining;
        downstream.welcomed();
        assert!(!downstream.follows());
        downstream.answered(StateVector::new());
        assert!(downstream.follows());
        downstream.welcomed();
        assert!(downstream.follows(), "a second welcome changes nothing");
    }

    #[test]
    fn slow_1_a_lagging_session_follows_again_once_drained() {
        let mut downstream = Downstream::Joining;
        downstream.answered(StateVector::new());
        downstream.overflowed(START);
        assert!(!downstream.follows() && downstream.is_lagging() && !downstream.take_repeat());
        assert!(!downstream.is_overdue(START + Millis(9), Millis(10)));
        assert!(downstream.is_overdue(START + Millis(10), Millis(10)));
        assert_eq!(downstream.drained(), Some(&StateVector::new()));
        assert!(downstream.follows() && downstream.is_timed());
        assert_eq!((downstream.take_repeat(), downstream.take_repeat()), (true, false));
        assert!(!downstream.is_timed());
    }

    #[test]
    fn slow_6_a_session_that_has_not_asked_has_no_base() {
        let mut downstream = Downstream::Joining;
        downstream.overflowed(START);
        assert!(!downstream.is_lagging(), "nothing was sent to it");
        downstream.welcomed();
        downstream.overflowed(START);
        assert_eq!(downstream.drained(), None);
    }
}

//! The way from a session: which of its updates are applied, missing, or refused.

use crate::document::replication::Origin;
use crate::document::session::receipts::Receipts;
use crate::time::{Millis, Timestamp};

/// What is known of the updates that a session sends.
#[derive(Debug)]
pub(crate) struct Upstream {
    state: State,
    refusal: Refusal,
    pub(crate) receipts: Receipts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may not write.
    ReadOnly,
    /// Every update so far was applied.
    Current,
    /// Its first SyncStep1 has to wait until writes are accepted again.
    Unasked,
    /// Updates that it sent earlier are missing, and it was asked for them.
    Resyncing {
        since: Timestamp,
        /// The question may have been lost, and is asked again once writes are accepted.
        ask_again: bool,
    },
    /// Updates of it were refused. It is asked for them once writes are accepted again.
    Refused {
        /// Since when it also owes the answer to an earlier question.
        asked: Option<Timestamp>,
    },
}

/// Whether a refusal was sent since the last change of its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unsent,
    Sent,
}

impl Upstream {
    pub(crate) fn new(may_write: bool) -> Self {
        let state = if may_write { State::Current } else { State::ReadOnly };
        Self { state, refusal: Refusal::Unsent, receipts: Receipts::default() }
    }

    /// The session was welcomed while writes are halted, and so was not asked for updates.
    pub(crate) fn not_asked(&mut self) {
        self.state = match self.state {
            State::Current => State::Unasked,
            State::Resyncing { since, .. } => State::Resyncing { since, ask_again: true },
            unchanged @ (State::ReadOnly | State::Unasked | State::Refused { .. }) => unchanged,
        }
    }

    /// An update refers to missing ones. Returns whether the session must be asked for them: one
    /// question is under way at a time. Frames are ordered, so its answer covers all that was set
    /// aside meanwhile.
    pub(crate) fn incomplete(&mut self, now: Timestamp) -> bool {
        let (state, ask) = match self.state {
            State::Current => (State::Resyncing { since: now, ask_again: false }, true),
            State::Unasked => (State::Resyncing { since: now, ask_again: true }, true),
            State::Refused { asked: None } => (State::Refused { asked: Some(now) }, true),
            unchanged @ (State::ReadOnly | State::Resyncing { .. } | State::Refused { .. }) => {
                (unchanged, false)
            }
        };
        self.state = state;
        ask
    }

    /// An update was refused because writes are halted.
    pub(crate) fn refused(&mut self, origin: Origin) {
        let asked = match self.state {
            State::Resyncing { since, .. } => Some(since),
            State::Refused { asked } => asked,
            State::ReadOnly | State::Current | State::Unasked => None,
        };
        // A SyncStep2 was the answer, even if it must be asked for again.
        let asked = asked.filter(|_| origin == Origin::Live);
        self.state = State::Refused { asked };
    }

    /// An update was applied or known. Returns whether all frames so far are covered by the log: behind
    /// a hole or a refusal none are until a SyncStep2, sent after them, fills it.
    pub(crate) fn applied(&mut self, origin: Origin) -> bool {
        if origin == Origin::FirstSync {
            self.state = match self.state {
                State::Resyncing { ask_again: false, .. } => State::Current,
                State::Resyncing { ask_again: true, .. } => State::Unasked,
                State::Refused { .. } => State::Refused { asked: None },
                unchanged @ (State::ReadOnly | State::Current | State::Unasked) => unchanged,
            };
        }
        matches!(self.state, State::Current | State::Unasked)
    }

    /// Writes are accepted again. Returns whether the session must be asked for updates.
    pub(crate) fn resumed(&mut self, now: Timestamp) -> bool {
        let (state, ask) = match self.state {
            State::Unasked => (State::Current, true),
            State::Resyncing { since, ask_again: true } => {
                (State::Resyncing { since, ask_again: false }, true)
            }
            // As after a hole: the answer covers all that was refused.
            State::Refused { .. } => (State::Resyncing { since: now, ask_again: false }, true),
            unchanged @ (State::ReadOnly | State::Current | State::Resyncing { .. }) => {
                (unchanged, false)
            }
        };
        self.state = state;
        ask
    }

    /// The session has lost the right to write.
    pub(crate) fn read_only(&mut self) {
        self.refusal = Refusal::Unsent;
        self.state = State::ReadOnly;
    }

    /// The session has gained the right to write. If it has been welcomed as a reader, it may hold
    /// updates that were refused or never asked for.
    pub(crate) fn writable(&mut self, is_joined: bool) {
        self.refusal = Refusal::Unsent;
        self.state = if is_joined { State::Refused { asked: None } } else { State::Current };
    }

    /// The cause of refusals has passed, or a refusal may have been dropped: the next one is news.
    pub(crate) fn forget_refusal(&mut self) {
        self.refusal = Refusal::Unsent;
    }

    /// Notes that a refusal is sent. Returns whether it is the first for its cause.
    pub(crate) fn note_refusal(&mut self) -> bool {
        std::mem::replace(&mut self.refusal, Refusal::Sent) == Refusal::Unsent
    }

    /// Whether it has not answered a question within `limit`.
    pub(crate) fn is_overdue(&self, now: Timestamp, limit: Millis) -> bool {
        self.asked().is_some_and(|since| now - since >= limit)
    }

    /// Whether time alone can change something.
    pub(crate) fn is_timed(&self) -> bool {
        self.asked().is_some()
    }

    fn asked(&self) -> Option<Timestamp> {
        match self.state {
            State::Resyncing { since, .. } => Some(since),
            State::Refused { asked } => asked,
            State::ReadOnly | State::Current | State::Unasked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_ms(1_000);

    fn upstream(state: State) -> Upstream {
        Upstream { state, ..Upstream::new(true) }
    }

    #[test]
    fn sync_7_a_hole_is_asked_for_once_until_it_is_answered() {
        let mut upstream = Upstream::new(true);
        assert_eq!((upstream.incomplete(START), upstream.incomplete(START)), (true, false));
        assert!(!upstream.applied(Origin::Live));
        assert!(upstream.is_overdue(START + Millis(5), Millis(5)));
        assert!(upstream.applied(Origin::FirstSync));
        assert!(!upstream.is_timed());
        assert!(upstream.incomplete(START));
    }

    #[test]
    fn stall_5_a_refused_session_is_asked_at_the_end_of_the_halt() {
        let mut upstream = Upstream::new(true);
        upstream.refused(Origin::Live);
        assert!(!upstream.applied(Origin::Live) && !upstream.applied(Origin::FirstSync));
        assert!(!upstream.is_timed(), "nothing is asked during the halt");
        assert_eq!((upstream.resumed(START), upstream.resumed(START)), (true, false));
        assert!(!upstream.applied(Origin::Live));
        assert!(upstream.applied(Origin::FirstSync));
    }

    #[test]
    fn stall_6_a_question_that_was_not_asked_is_asked_once() {
        for (state, after) in [
            (State::Current, State::Current),
            (
                State::Resyncing { since: START, ask_again: false },
                State::Resyncing { since: START, ask_again: false },
            ),
        ] {
            let mut upstream = upstream(state);
            upstream.not_asked();
            upstream.not_asked();
            assert_eq!((upstream.resumed(START), upstream.resumed(START)), (true, false));
            assert_eq!(upstream.state, after);
        }
    }

    #[test]
    fn stall_5_a_refused_answer_leaves_no_question_open() {
        for (origin, asked) in [(Origin::Live, Some(START)), (Origin::FirstSync, None)] {
            let mut upstream = upstream(State::Resyncing { since: START, ask_again: false });
            upstream.refused(origin);
            assert_eq!(upstream.state, State::Refused { asked });
        }
    }

    #[test]
    fn grant_5_a_reader_owes_nothing() {
        let mut upstream = upstream(State::Refused { asked: Some(START) });
        upstream.read_only();
        upstream.not_asked();
        assert!(!upstream.resumed(START) && !upstream.incomplete(START) && !upstream.is_timed());
    }

    #[test]
    fn grant_6_a_new_writer_is_asked_unless_it_is_still_joining() {
        for (is_joined, asks) in [(true, true), (false, false)] {
            let mut upstream = Upstream::new(false);
            upstream.writable(is_joined);
            assert_eq!(upstream.resumed(START), asks);
        }
    }

    #[test]
    fn read_2_a_refusal_is_news_once_until_its_cause_changes() {
        let mut upstream = Upstream::new(false);
        assert_eq!((upstream.note_refusal(), upstream.note_refusal()), (true, false));
        upstream.forget_refusal();
        assert!(upstream.note_refusal());
        upstream.writable(true);
        assert!(upstream.note_refusal());
    }
}

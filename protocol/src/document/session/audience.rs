//! A session as a reader of presence: whether states of others are sent to it.

use crate::access::Identity;
use crate::document::stamp::Stamp;
use crate::time::{Millis, Timestamp};

/// How long a session that sends no presence of its own waits for the states of others.
const INTRODUCE_AFTER: Millis = Millis::from_secs(1);

/// A session's part in presence.
#[derive(Debug)]
pub(crate) struct Audience {
    state: State,
    joined_at: Timestamp,
    /// Made of the grant's identity at the session's first own state.
    stamp: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may not see others.
    Excluded,
    /// It has neither sent its own state nor answered a question yet.
    Silent,
    /// It is sent the states of others once they have clocks that it cannot know.
    Due,
    /// It was sent them, and is sent every change.
    Watching,
}

impl Audience {
    pub(crate) fn new(now: Timestamp, may_see: bool) -> Self {
        let state = if may_see { State::Silent } else { State::Excluded };
        Self { state, joined_at: now, stamp: None }
    }

    /// What is written into its presence states.
    pub(crate) fn stamp(&mut self, identity: &Identity) -> &Stamp {
        self.stamp.get_or_insert_with(|| Stamp::new(identity))
    }

    /// The same, if it has been made.
    pub(crate) fn current_stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// Its identity has changed.
    pub(crate) fn forget_stamp(&mut self) {
        self.stamp = None;
    }

    /// The right to see others has changed.
    pub(crate) fn granted(&mut self, may_see: bool) {
        self.state = match (self.state, may_see) {
            (_, false) => State::Excluded,
            (State::Excluded, true) => State::Silent,
            (unchanged, true) => unchanged,
        };
    }

    /// It has given a sign: it becomes due, unless it is watching or may not. Returns whether it is.
    pub(crate) fn make_due(&mut self) -> bool {
        match self.state {
            State::Silent | State::Due => {
                self.state = State::Due;
                true
            }
            State::Excluded | State::Watching => false,
        }
    }

    /// It was silent for long enough. Returns whether it becomes due.
    pub(crate) fn make_due_after_silence(&mut self, now: Timestamp) -> bool {
        self.state == State::Silent && now - self.joined_at >= INTRODUCE_AFTER && self.make_due()
    }

    /// Whether the states of others must be sent to it now; true once.
    pub(crate) fn take_due(&mut self) -> bool {
        let is_due = self.state == State::Due;
        if is_due {
            self.state = State::Watching;
        }
        is_due
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.state == State::Watching
    }

    /// Whether time alone can change something.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.state, State::Silent | State::Due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_ms(1_000);

    #[test]
    fn presence_3_a_silent_session_becomes_due_after_a_second() {
        let mut audience = Audience::new(START, true);
        assert!(!audience.make_due_after_silence(START + Millis(999)));
        assert!(audience.make_due_after_silence(START + Millis(1_000)));
        assert!(!audience.is_watching());
        assert_eq!((audience.take_due(), audience.take_due()), (true, false));
        assert!(audience.is_watching() && !audience.make_due() && !audience.is_timed());
    }

    #[test]
    fn grant_3_a_session_that_may_not_see_is_never_due() {
        let mut audience = Audience::new(START, false);
        assert!(!audience.make_due() && !audience.make_due_after_silence(START + Millis(5_000)));
        assert!(!audience.is_timed());
    }

    #[test]
    fn grant_8_the_right_to_see_begins_again_when_it_returns() {
        let mut audience = Audience::new(START, true);
        assert!(audience.make_due() && audience.take_due());
        audience.granted(true);
        assert!(audience.is_watching(), "an unchanged right changes nothing");
        audience.granted(false);
        assert!(!audience.is_watching());
        audience.granted(true);
        assert!(audience.make_due());
    }
}

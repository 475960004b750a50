//! The labels that counts are told apart by. All are closed sets.

use syncline_protocol::document::{CheckOutcome, UpdateOutcome};
use syncline_protocol::wire::{ClientMessage, Dialect};
use syncline_protocol::{CloseCode, Limit};

use crate::metrics::count::Label;

macro_rules! label {
    ($type:ty, $key:literal, $all:expr) => {
        impl Label for $type {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &$all;

            fn word(self) -> &'static str {
                self.name()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(CloseCode, "word", CloseCode::ALL);
label!(Limit, "limit", Limit::ALL);
label!(UpdateOutcome, "fate", UpdateOutcome::ALL);
label!(Kind, "kind", Kind::ALL);
label!(Outcome, "outcome", Outcome::ALL);
label!(Compared, "outcome", Compared::ALL);
label!(State, "state", State::ALL);

impl Label for Dialect {
    const KEY: &'static str = "dialect";
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.name()
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What kind of message a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SyncStep1,
    SyncStep2,
    Update,
    Presence,
    QueryPresence,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::SyncStep1, Self::SyncStep2, Self::Update, Self::Presence, Self::QueryPresence];

    pub(crate) fn of(message: &ClientMessage) -> Self {
        match message {
            ClientMessage::SyncStep1 { .. } => Self::SyncStep1,
            ClientMessage::SyncStep2 { .. } => Self::SyncStep2,
            ClientMessage::Update { .. } => Self::Update,
            ClientMessage::Presence { .. } => Self::Presence,
            ClientMessage::QueryPresence => Self::QueryPresence,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::SyncStep1 => "sync_step_1",
            Self::SyncStep2 => "sync_step_2",
            Self::Update => "update",
            Self::Presence => "presence",
            Self::QueryPresence => "query_presence",
        }
    }
}

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Self; 2] = [Self::Done, Self::Failed];

    pub(crate) fn of(is_done: bool) -> Self {
        if is_done { Self::Done } else { Self::Failed }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// How a comparison of a live document with its log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Different,
    Unknown,
}

impl Compared {
    pub(crate) const ALL: [Self; 3] = [Self::Same, Self::Different, Self::Unknown];

    const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Unknown => "unknown",
        }
    }
}

impl From<&CheckOutcome> for Compared {
    fn from(outcome: &CheckOutcome) -> Self {
        match outcome {
            CheckOutcome::Same => Self::Same,
            CheckOutcome::Different => Self::Different,
            CheckOutcome::Unknown => Self::Unknown,
        }
    }
}

/// Whether anything is stored at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Writable,
    Stalled,
    Failed,
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Writable, Self::Stalled, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_closed<L: Label + std::fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
            let word = label.word();
            assert!(word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{word}");
        }
        let words: BTreeSet<_> = L::ALL.iter().map(|label| label.word()).collect();
        assert_eq!(words.len(), L::ALL.len(), "{words:?}");
    }

    #[test]
    fn metric_3_every_label_is_a_closed_set_of_words() {
        is_closed::<CloseCode>();
        is_closed::<Limit>();
        is_closed::<UpdateOutcome>();
        is_closed::<Kind>();
        is_closed::<Outcome>();
        is_closed::<Compared>();
        is_closed::<State>();
        is_closed::<Dialect>();
    }
}

//! What is measured.

pub(crate) mod durable;
pub(crate) mod fan_out;
pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod many;
pub(crate) mod pairs;
pub(crate) mod replay;
pub(crate) mod slow;
pub(crate) mod typing;

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::lab::Lab;
use crate::results::Figures;
use crate::server::Kind;

/// The cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CaseName {
    FanOut,
    Pairs,
    Typing,
    Replay,
    Join,
    Idle,
    Many,
    Durable,
    Slow,
}

impl CaseName {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FanOut => "fan-out",
            Self::Pairs => "pairs",
            Self::Typing => "typing",
            Self::Replay => "replay",
            Self::Join => "join",
            Self::Idle => "idle",
            Self::Many => "many",
            Self::Durable => "durable",
            Self::Slow => "slow readers",
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds in all: whether it runs.
    Smoke,
    /// Minutes: for a look while working.
    Quick,
    /// What the documentation shows.
    Full,
}

impl Scale {
    /// One of three.
    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    /// How long something is measured.
    pub(crate) fn seconds(self, quick: u64, full: u64) -> Duration {
        self.pick(Duration::from_millis(200), Duration::from_secs(quick), Duration::from_secs(full))
    }
}

type Run = dyn Fn(&Lab, Kind, &mut Figures) -> Result<(), Failure>;

/// A case with its numbers. What was found before a failure stays in the figures.
pub(crate) struct Measurement {
    pub(crate) case: CaseName,
    pub(crate) variant: String,
    pub(crate) run: Box<Run>,
}

impl Measurement {
    fn new(
        case: CaseName,
        variant: String,
        run: impl Fn(&Lab, Kind, &mut Figures) -> Result<(), Failure> + 'static,
    ) -> Self {
        Self { case, variant, run: Box::new(run) }
    }
}

/// Everything that is measured at a scale.
pub(crate) fn plan(scale: Scale) -> Vec<Measurement> {
    [
        fan_out::plan(scale),
        pairs::plan(scale),
        typing::plan(scale),
        replay::plan(scale),
        join::plan(scale),
        idle::plan(scale),
        many::plan(scale),
        durable::plan(scale),
        slow::plan(scale),
    ]
    .into_iter()
    .flatten()
    .collect()
}

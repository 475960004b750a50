//! Live documents: the hub that finds or starts one, its mailbox, and the task that drives it.

pub(crate) mod hub;
pub(crate) mod loader;
pub(crate) mod mailbox;
mod registry;
pub(crate) mod scrubber;
pub(crate) mod task;

//! Live documents: the registry that finds one, and the task that drives each.

pub(crate) mod hub;
pub(crate) mod loader;
pub(crate) mod mailbox;
mod registry;
pub(crate) mod scrubber;
pub(crate) mod task;

//! Sessions: one participant's connection to one document, and the limits that apply to it.

pub(crate) mod connection;
pub(crate) mod cpu_budget;
pub(crate) mod quota;
pub(crate) mod rate_limit;
pub(crate) mod registry;
pub(crate) mod token_refresh;

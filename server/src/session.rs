//! Sessions: the state of one participant in one document, the list of all of them, and the limits
//! that apply to each.

pub(crate) mod cpu_budget;
pub(crate) mod live;
pub(crate) mod rate_limit;
pub(crate) mod registry;
pub(crate) mod token_refresh;

//! How far a long command is, for a person who watches.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error, or nothing when that is not a terminal.
pub(super) fn bar(of: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(of as u64).with_message(what);
    // The template is a constant; without it the bar looks plain.
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! Log fields that several modules write.

use std::error::Error;

/// `error` as a log field that includes its sources. Display alone shows only the outermost error.
pub(crate) fn chain(error: &(impl Error + 'static)) -> &(dyn Error + 'static) {
    error
}

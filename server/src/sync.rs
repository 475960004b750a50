//! Locking for data that a panic leaves whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, poisoned or not. For data that is whole at every point at which a holder can panic,
/// because it is replaced as one value or changed in steps that cannot fail.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

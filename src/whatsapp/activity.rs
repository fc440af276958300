//! When WhatsApp was last heard: anything at all, and a message of anybody. Two values, because a
//! connection on which pings are answered and no message ever comes is the field's oldest complaint.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Handle to the one record; clones share it. The transport and the inbox write it.
#[derive(Clone, Default)]
pub struct Activity(Arc<Mutex<Heard>>);

/// Moments by the monotonic clock; `None` before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    pub stanza: Option<Instant>,
    pub message: Option<Instant>,
}

impl Activity {
    pub fn stanza(&self, now: Instant) {
        self.lock().stanza = Some(now);
    }

    pub fn message(&self, now: Instant) {
        self.lock().message = Some(now);
    }

    pub fn heard(&self) -> Heard {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

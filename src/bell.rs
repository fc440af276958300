//! A bell: one room tells another that there is work, without handing over the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;

/// Rings are not counted: any number of them before the listener looks is one.
#[derive(Clone, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rung: AtomicBool,
    event: Event,
}

impl Bell {
    pub fn ring(&self) {
        if !self.shared.rung.swap(true, Ordering::AcqRel) {
            self.shared.event.notify(1);
        }
    }

    /// Returns once the bell has been rung since the last time this returned. For one listener.
    pub async fn heard(&self) {
        loop {
            let listener = self.shared.event.listen();
            if self.shared.rung.swap(false, Ordering::AcqRel) {
                return;
            }
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::poll_once;

    #[test]
    fn a_ring_before_anybody_listens_is_heard_once() {
        smol::block_on(async {
            let bell = Bell::default();
            bell.ring();
            bell.ring();
            bell.heard().await;
            assert!(poll_once(bell.heard()).await.is_none());
            bell.ring();
            bell.heard().await;
        });
    }
}

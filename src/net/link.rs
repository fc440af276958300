//! Whether the line to the world is up, as one value that every room can watch.
//!
//! The WhatsApp connection is its only writer: a socket on which WhatsApp answers is the best
//! proof of a working line that the bot has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::Event;

/// Handle to the one link state; clones share it. Starts as down.
#[derive(Clone, Default)]
pub struct Link {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    up: AtomicBool,
    changed: Event,
}

impl Link {
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    pub fn set(&self, up: bool) {
        if self.shared.up.swap(up, Ordering::AcqRel) != up {
            self.shared.changed.notify(usize::MAX);
        }
    }

    /// Returns as soon as the link is up.
    pub async fn wait_until_up(&self) {
        loop {
            let changed = self.shared.changed.listen();
            if self.is_up() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::poll_once;

    #[test]
    fn a_waiter_wakes_when_the_link_comes_up() {
        smol::block_on(async {
            let link = Link::default();
            let mut waiter = Box::pin(link.wait_until_up());
            assert!(poll_once(&mut waiter).await.is_none());
            link.set(true);
            waiter.await;
            assert!(link.is_up());
        });
    }
}

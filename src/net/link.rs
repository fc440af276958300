//! Whether the line to the world is up, as one value that every room can watch.
//!
//! The WhatsApp connection is its only writer: a socket on which WhatsApp answers is the best
//! proof of a working line that the bot has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use event_listener::Event;

/// Handle to the one link state; clones share it. Starts as down.
#[derive(Clone, Default)]
pub struct Link {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    up: AtomicBool,
    times_up: AtomicU64,
    changed: Event,
}

impl Link {
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    pub fn set(&self, up: bool) {
        if self.shared.up.swap(up, Ordering::AcqRel) != up {
            if up {
                self.shared.times_up.fetch_add(1, Ordering::AcqRel);
            }
            self.shared.changed.notify(usize::MAX);
        }
    }

    /// How often the link has come up: tells a listener that was busy that it is a new line.
    pub fn times_up(&self) -> u64 {
        self.shared.times_up.load(Ordering::Acquire)
    }

    /// Returns as soon as the link is up.
    pub async fn wait_until_up(&self) {
        self.wait_until(true).await;
    }

    /// Returns as soon as the link is down.
    pub async fn wait_until_down(&self) {
        self.wait_until(false).await;
    }

    async fn wait_until(&self, up: bool) {
        loop {
            let changed = self.shared.changed.listen();
            if self.is_up() == up {
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

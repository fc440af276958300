//! Several things under way at once, of which the most preferred that is done counts first.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::clock;

type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What happened next.
pub(super) enum Next<T> {
    /// The work with this rank is done.
    Done(usize, T),
    /// Nothing was done in the time given.
    Time,
}

/// Work under way; each has a rank, and the lowest is preferred. Dropping it cancels all.
///
/// A handful at most: each is polled whenever one of them can go on.
pub(super) struct InFlight<'a, T> {
    works: Vec<(usize, Work<'a, T>)>,
}

impl<'a, T> InFlight<'a, T> {
    pub(super) fn new() -> Self {
        Self { works: Vec::new() }
    }

    pub(super) fn add(&mut self, rank: usize, work: impl Future<Output = T> + Send + 'a) {
        let place = self.works.partition_point(|(other, _)| *other < rank);
        self.works.insert(place, (rank, Box::pin(work)));
    }

    pub(super) fn len(&self) -> usize {
        self.works.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// Waits until something is done, for at most `limit`.
    pub(super) async fn next(&mut self, limit: Duration) -> Next<T> {
        let mut timer = pin!(clock::sleep(limit));
        poll_fn(|cx| {
            for place in 0..self.works.len() {
                let (rank, work) = &mut self.works[place];
                if let Poll::Ready(result) = work.as_mut().poll(cx) {
                    let rank = *rank;
                    drop(self.works.remove(place));
                    return Poll::Ready(Next::Done(rank, result));
                }
            }
            timer.as_mut().poll(cx).map(|()| Next::Time)
        })
        .await
    }
}

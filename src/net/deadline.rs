//! A bound on how long anything may take.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::clock;

/// Runs `work` for at most `limit`; `None` if it was not done by then. `work` is dropped in that
/// case, so it has to be safe to cancel.
///
/// Futures hold what they wait for twice here, so box large ones.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut timer = pin!(clock::sleep(limit));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

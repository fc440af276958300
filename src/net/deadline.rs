//! A bound on how long anything may take.

use std::future::Future;
use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;

/// Runs `work` for at most `limit`; `None` if it was not done by then. `work` is dropped in that
/// case, so it has to be safe to cancel.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    or(async { Some(work.await) }, async {
        Timer::after(limit).await;
        None
    })
    .await
}

//! The last good answer of a web server, for when there is none.

use async_trait::async_trait;

/// Keeps the last good answer per URL. Losing one is no harm, so failures are logged, not told.
#[async_trait]
pub trait KeptAnswers: Send + Sync {
    /// The body kept for `url`.
    fn kept(&self, url: &str) -> Option<Vec<u8>>;

    /// Keeps `body` for `url`, instead of what was kept before.
    async fn keep(&self, url: &str, body: &[u8]);
}

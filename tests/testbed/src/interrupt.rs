//! Ctrl-C and SIGTERM end a program at its next wait, with an error, so that destructors stop the
//! children and remove the folders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_signal::{Signal, Signals};
use futures_lite::StreamExt;

/// Longest time that a pause does not notice Ctrl-C.
const NOTICE: Duration = Duration::from_millis(50);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for SIGINT and SIGTERM. Call once, first.
///
/// # Errors
/// When the signals cannot be caught.
pub fn watch() -> Result<()> {
    let mut signals = Signals::new([Signal::Int, Signal::Term]).context("cannot catch Ctrl-C")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while smol::block_on(signals.next()).is_some() {
            ASKED.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}

/// # Errors
/// When the program shall end.
pub fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("interrupted; everything that was started is stopped and removed");
    }
    Ok(())
}

/// Waits for `pause`.
///
/// # Errors
/// At once when the program shall end.
pub fn pause(pause: Duration) -> Result<()> {
    let until = Instant::now() + pause;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NOTICE));
    }
}

/// Looks again and again until `ready` gives something.
///
/// # Errors
/// When it does not before the deadline, what `ready` fails with, and when the program shall end.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + deadline;
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if Instant::now() >= until {
            bail!("waited {deadline:?} in vain for {what}");
        }
        pause(NOTICE)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_comes_is_named() {
        let error = wait_until::<()>("rain", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("rain"), "{error}");
    }

    #[test]
    fn a_condition_that_fails_ends_the_wait() {
        let error = wait_until::<()>("rain", Duration::from_secs(60), || bail!("no sky")).unwrap_err();
        assert_eq!(error.to_string(), "no sky");
    }
}

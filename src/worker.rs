//! The one blocking worker: a thread that exists only while a blocking call is under way.
//!
//! HTTP by ureq, whatsapp-rust's heavy computations (pre-key batches, PBKDF2) and a kernel without random
//! numbers would stall the executor. They run here, one at a time, so the process never has more than three threads:
//! executor, reactor, worker.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::thread::{self, JoinHandle};

use smol::lock::Mutex;

/// Stack of the worker thread in bytes. Rustls and SQLite need less than 128 KiB; the rest is
/// address space that is never touched.
const STACK_BYTES: usize = 512 * 1024;

/// Callers queue here: at most one worker thread exists at any time.
static TURN: Mutex<()> = Mutex::new(());

/// The thread of the job before. It has given up its turn, but may not quite have ended.
static LAST: std::sync::Mutex<Option<JoinHandle<()>>> = std::sync::Mutex::new(None);

/// Runs `job` on the worker thread and returns its result.
///
/// If the caller goes away, a job that has started still runs to its end, and holds the worker
/// until then. A panic in `job` continues in the caller.
pub async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    let turn = TURN.lock().await;
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(last) = last {
        // All that can be left is its last few instructions, and it has caught its panics.
        let _ = last.join();
    }
    let (send, receive) = async_channel::bounded(1);
    let worker = thread::Builder::new().name("worker".into()).stack_size(STACK_BYTES);
    let thread = worker.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(job));
        // The caller may have gone away; then nobody wants the result.
        let _ = send.try_send(result);
        drop(turn);
    })?;
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    match receive.recv().await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(async_channel::RecvError) => Err(std::io::Error::other("the worker thread vanished")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn jobs_run_one_at_a_time() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let job = || {
            assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0, "two jobs at once");
            thread::yield_now();
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        };
        smol::block_on(async {
            let (a, b, c) = (run(job), run(job), run(job));
            let (a, (b, c)) = futures_lite::future::zip(a, futures_lite::future::zip(b, c)).await;
            a.and(b).and(c).unwrap();
        });
    }
}

//! whatsapp-rust's runtime: our one executor, timers, and the worker for heavy computations.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol::Task;
use wacore::runtime::{AbortHandle, Runtime};
use wacore::time::{TimeProvider, set_time_provider};

use crate::executor::Executor;
use crate::{clock, trusted_clock, worker};

/// Lets whatsapp-rust read the clock that can be trusted: what it keeps until some time must not be
/// forgotten because NTP moves the box's clock by decades. Only the first call counts.
pub fn share_the_clock() {
    struct OurClock;
    impl TimeProvider for OurClock {
        fn now_millis(&self) -> i64 {
            trusted_clock::now_milliseconds()
        }
    }
    // It may have been set before, by an earlier test of the same process.
    let _ = set_time_provider(OurClock);
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs whatsapp-rust's tasks on `Executor`, beside everything else.
#[derive(Clone, Copy)]
pub struct SmolRuntime(pub Executor);

impl Runtime for SmolRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> AbortHandle {
        let mut task = Spawned(Some(self.0.spawn(future)));
        AbortHandle::new(move || drop(task.0.take()))
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future).detach();
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            clock::sleep(duration).await;
        })
    }

    fn spawn_blocking(&self, job: Job) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let job = Arc::new(Mutex::new(Some(job)));
            let theirs = job.clone();
            if let Err(error) = worker::run(move || run_once(&theirs)).await {
                // whatsapp-rust panics if the job never runs; a stall is the smaller harm.
                log::warn!("worker: no thread ({error}); the job runs on the executor");
                run_once(&job);
            }
        })
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(futures_lite::future::yield_now()))
    }

    /// One thread: every item lets the others have their turn.
    fn yield_frequency(&self) -> u32 {
        1
    }
}

fn run_once(job: &Mutex<Option<Job>>) {
    let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(job) = job {
        job();
    }
}

/// A task that goes on when this is dropped: `AbortHandle::detach` only drops its closure, and a
/// dropped smol task is cancelled.
struct Spawned(Option<Task<()>>);

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor;
    use crate::net::deadline::within;

    const SOON: Duration = Duration::from_secs(10);

    /// Spawns a task that reports `Some(())` when let go on, or `None` when it was cancelled.
    fn gated(runtime: &SmolRuntime) -> (AbortHandle, async_channel::Sender<()>, async_channel::Receiver<()>) {
        let (go, gate) = async_channel::bounded::<()>(1);
        let (report, reported) = async_channel::bounded(1);
        let handle = runtime.spawn(Box::pin(async move {
            if gate.recv().await.is_ok() {
                let _ = report.send(()).await;
            }
        }));
        (handle, go, reported)
    }

    #[test]
    fn a_dropped_or_aborted_handle_ends_its_task_and_a_detached_one_does_not() {
        let executor = executor::new();
        let runtime = SmolRuntime(executor);
        smol::block_on(executor.run(async {
            let (handle, _go, reported) = gated(&runtime);
            drop(handle);
            assert!(within(SOON, reported.recv()).await.unwrap().is_err(), "still running");

            let (handle, _go, reported) = gated(&runtime);
            handle.abort();
            assert!(within(SOON, reported.recv()).await.unwrap().is_err(), "still running");

            let (handle, go, reported) = gated(&runtime);
            handle.detach();
            go.send(()).await.unwrap();
            assert!(within(SOON, reported.recv()).await.unwrap().is_ok(), "was cancelled");
        }));
    }

    #[test]
    fn a_blocking_job_leaves_the_executor_free() {
        let executor = executor::new();
        let runtime = SmolRuntime(executor);
        smol::block_on(executor.run(async {
            let (started, running) = async_channel::bounded(1);
            let (release, released) = async_channel::bounded::<()>(1);
            let job = runtime.spawn_blocking(Box::new(move || {
                started.send_blocking(std::thread::current().id()).unwrap();
                released.recv_blocking().unwrap();
            }));
            let here = async {
                let thread = running.recv().await.unwrap();
                assert_ne!(thread, std::thread::current().id());
                release.send(()).await.unwrap();
            };
            within(SOON, futures_lite::future::zip(job, here)).await.expect("the executor was blocked");
        }));
    }

    #[test]
    fn yielding_lets_other_tasks_run() {
        let executor = executor::new();
        let runtime = SmolRuntime(executor);
        smol::block_on(executor.run(async {
            let (send, receive) = async_channel::bounded(1);
            runtime.spawn_detached(Box::pin(async move { send.send(()).await.unwrap() }));
            let others = async {
                while receive.is_empty() {
                    runtime.yield_now().unwrap().await;
                }
            };
            within(SOON, others).await.expect("no other task ran");
            assert_eq!(runtime.yield_frequency(), 1);
        }));
    }
}

//! The one executor. Everything asynchronous in this program runs on the thread that runs it.
//!
//! `smol::spawn` is not used anywhere: it starts threads of its own.

use std::future::Future;
use std::io;

use crate::reactor;

/// Handle to the executor. It lives as long as the process, so the handle is a plain reference.
pub type Executor = &'static smol::Executor<'static>;

/// Creates the executor of this process. It runs nothing by itself: [`run`] does, on one thread.
pub fn new() -> Executor {
    Box::leak(Box::new(smol::Executor::new()))
}

/// Runs `main`, and beside it what it spawns, on this thread.
///
/// # Errors
/// When the kernel gives no epoll instance.
pub fn run<T>(executor: Executor, main: impl Future<Output = T>) -> io::Result<T> {
    reactor::block_on(executor.run(main))
}

/// Environment variable with a path; while that file exists, a bot for the test bed stalls.
#[cfg(feature = "danger-accept-test-bed")]
pub const STALL_VARIABLE: &str = "BOT_KJP_TEST_STALL";

/// Blocks the executor's thread for as long as the file exists, so that a watchdog can be seen to
/// bite.
#[cfg(feature = "danger-accept-test-bed")]
pub async fn stall_on_demand() -> std::convert::Infallible {
    use std::time::Duration;
    const LOOK: Duration = Duration::from_millis(100);
    let Some(file) = std::env::var_os(STALL_VARIABLE).map(std::path::PathBuf::from) else {
        return std::future::pending().await;
    };
    loop {
        while file.exists() {
            std::thread::sleep(LOOK);
        }
        crate::clock::sleep(LOOK).await;
    }
}

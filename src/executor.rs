//! The one executor. Everything asynchronous in this program runs on the thread that runs it.
//!
//! `smol::spawn` is not used anywhere: it starts threads of its own.

/// Handle to the executor. It lives as long as the process, so the handle is a plain reference.
pub type Executor = &'static smol::Executor<'static>;

/// Creates the executor of this process. It runs nothing by itself:
/// `smol::block_on(executor.run(main))` does, on one thread.
pub fn new() -> Executor {
    Box::leak(Box::new(smol::Executor::new()))
}

//! A server's sockets on a thread of their own. They can stop listening on command, so that clients
//! are refused, and come back on the same addresses.
//!
//! Every socket is made on the thread that starts the server or on the server's own, which it
//! starts: a server that is started inside a network namespace stays in it.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::net::{Shutdown, shutdown};
use smol::net::{TcpListener, TcpStream};
use smol::{Async, Executor, Task};

/// Connections or packets that one endpoint works on at once; one more ends the oldest.
const MAX_RUNNING: usize = 1024;

/// Pause after a failed accept: out of file descriptors, for example; others may close theirs.
const BREATH: Duration = Duration::from_millis(50);

/// How long a program may take to begin on a busy machine.
const STARTING: Duration = Duration::from_secs(10);

/// How long closing and opening sockets may take on a busy machine.
const REOPENING: Duration = Duration::from_secs(30);

pub type Spawner = Arc<Executor<'static>>;

/// Opens one endpoint's socket and serves it until the task is dropped.
pub type Open = Box<dyn FnMut(&Spawner) -> anyhow::Result<Task<()>> + Send>;

/// Endpoints that listen. All end when this is dropped.
pub struct Listeners {
    orders: Option<async_channel::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// Which of the endpoints shall listen.
struct Order {
    wanted: Vec<bool>,
    done: mpsc::Sender<anyhow::Result<()>>,
}

impl Listeners {
    /// Opens all endpoints on a thread of that name.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn start(name: &str, endpoints: Vec<Open>) -> anyhow::Result<Listeners> {
        let count = endpoints.len();
        let (orders, inbox) = async_channel::bounded(1);
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || supervise(endpoints, &inbox))?;
        let listeners = Listeners { orders: Some(orders), thread: Some(thread) };
        listeners.listen_on(vec![true; count])?;
        Ok(listeners)
    }

    /// Closes the endpoints that shall not listen, and opens the others.
    /// All is done on return.
    ///
    /// # Errors
    /// When an address was taken by somebody else meanwhile.
    pub fn listen_on(&self, wanted: Vec<bool>) -> anyhow::Result<()> {
        let (done, outcome) = mpsc::channel();
        let orders = self.orders.as_ref().context("the server is stopping")?;
        orders.send_blocking(Order { wanted, done }).map_err(|_| anyhow!("the server's thread ended"))?;
        outcome.recv_timeout(REOPENING).context("the server's thread does not answer")?
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // An error is the thread's panic, which has been printed.
            let _ = thread.join();
        }
    }
}

fn supervise(mut endpoints: Vec<Open>, orders: &async_channel::Receiver<Order>) {
    let executor = Spawner::default();
    smol::block_on(executor.run(async {
        let mut serving: Vec<Option<Task<()>>> = endpoints.iter().map(|_| None).collect();
        while let Ok(Order { wanted, done }) = orders.recv().await {
            let mut outcome = Ok(());
            for ((open, serving), wanted) in endpoints.iter_mut().zip(&mut serving).zip(wanted) {
                if !wanted {
                    if let Some(task) = serving.take() {
                        task.cancel().await;
                    }
                } else if serving.is_none() {
                    match open(&executor) {
                        Ok(task) => *serving = Some(task),
                        Err(failed) => outcome = Err(failed),
                    }
                }
            }
            // Whoever ordered may have lost patience.
            let _ = done.send(outcome);
        }
    }));
}

/// A TCP address to listen on again and again. The first time it takes the socket it was made with,
/// so that nobody else can take the port between.
pub struct TcpDoor {
    address: SocketAddr,
    first: Option<StdListener>,
}

impl TcpDoor {
    /// # Errors
    /// When the address cannot be listened on.
    pub fn bind(address: SocketAddr) -> anyhow::Result<TcpDoor> {
        let listener = StdListener::bind(address)
            .with_context(|| format!("listening on TCP {address}: is the port taken?"))?;
        Ok(TcpDoor { address: listener.local_addr()?, first: Some(listener) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// # Errors
    /// When the address is taken.
    pub fn open(&mut self) -> anyhow::Result<Listening> {
        let listener = match self.first.take() {
            Some(first) => first,
            None => StdListener::bind(self.address)
                .with_context(|| format!("listening on TCP {} again", self.address))?,
        };
        Ok(Listening(Async::new(listener)?.into()))
    }
}

/// The same for UDP.
pub struct UdpDoor {
    address: SocketAddr,
    first: Option<UdpSocket>,
}

impl UdpDoor {
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> anyhow::Result<UdpDoor> {
        let socket = UdpSocket::bind(address)
            .with_context(|| format!("listening on UDP {address}: is the port taken?"))?;
        Ok(UdpDoor { address: socket.local_addr()?, first: Some(socket) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// # Errors
    /// When the address is taken.
    pub fn open(&mut self) -> anyhow::Result<Arc<Async<UdpSocket>>> {
        let socket = match self.first.take() {
            Some(first) => first,
            None => bind_again(self.address)
                .with_context(|| format!("listening on UDP {} again", self.address))?,
        };
        Ok(Arc::new(Async::new(socket)?))
    }
}

/// Takes an address that was this process's a moment ago. A program that another thread is just starting holds
/// a copy of the old socket until it has begun.
fn bind_again(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let mut looks = STARTING.as_millis() / BREATH.as_millis();
    loop {
        match UdpSocket::bind(address) {
            Err(taken) if taken.kind() == ErrorKind::AddrInUse && looks > 0 => looks -= 1,
            outcome => return outcome,
        }
        std::thread::sleep(BREATH);
    }
}

/// Tasks that end with the last clone.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<Vec<Task<()>>>>);

impl Running {
    pub fn add(&self, task: Task<()>) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        if tasks.len() == MAX_RUNNING {
            log::warn!("{MAX_RUNNING} are served at once: ended the oldest");
            drop(tasks.remove(0));
        }
        tasks.push(task);
    }
}

/// A listening socket that refuses from the moment in which it is dropped. Closing alone would not do: a program
/// that another thread is just starting holds a copy of it until it has begun.
pub struct Listening(TcpListener);

impl Drop for Listening {
    fn drop(&mut self) {
        if let Err(failed) = shutdown(&self.0, Shutdown::Both) {
            log::error!("a socket did not stop listening: {failed}");
        }
    }
}

/// Accepts connections until it is dropped, and serves each in a task of its own among `running`.
pub async fn serve_each<F>(
    listener: Listening,
    spawner: Spawner,
    running: Running,
    serve: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    loop {
        match listener.0.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream);
                running.add(spawner.spawn(async move {
                    if let Err(ended) = serving.await {
                        log::debug!("a connection ended: {ended:#}");
                    }
                }));
            }
            Err(failed) => {
                log::error!("could not accept a connection: {failed}");
                smol::Timer::after(BREATH).await;
            }
        }
    }
}

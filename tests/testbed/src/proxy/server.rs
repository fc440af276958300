//! The proxy as tests use it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, FutureExt, io};
use futures_rustls::TlsAcceptor;
use rustix::net::sockopt::set_socket_linger;
use smol::Async;
use smol::net::TcpStream;

use super::connection::{Connection, End, Rules, both};
use super::fault::{Direction, Fault, Whom};
use crate::authority::Authority;
use crate::line::Network;
use crate::listeners::{Listeners, Open, Running, TcpDoor, serve_each};

/// How long the server behind may take to answer the dial.
const DIALLING: Duration = Duration::from_secs(10);

/// Bytes that a black hole reads at once.
const SINK: usize = 16 * 1024;

/// How a proxy starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server behind.
    pub to: SocketAddr,
    /// The network that the server behind is in, when it is another one than that of the thread
    /// that starts the proxy.
    pub dial_from: Option<Network>,
    /// Ends TLS here and speaks plainly to the server behind.
    pub tls: Option<Tls>,
}

/// What a proxy shows that ends TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    pub authority: Authority,
    /// Names and IP addresses that the certificate is good for.
    pub names: Vec<String>,
}

impl Options {
    /// A plain proxy on a free port of this machine.
    pub fn to(server: SocketAddr) -> Options {
        Options { listen: (Ipv4Addr::LOCALHOST, 0).into(), to: server, dial_from: None, tls: None }
    }
}

/// What came through so far. With TLS, bytes are those inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub accepted: u64,
    pub open: u64,
    /// Dials that the server behind refused or did not answer.
    pub failed_dials: u64,
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
}

/// A running proxy. It stops when this is dropped.
pub struct Proxy {
    listeners: Listeners,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    dial_from: Option<Network>,
    tls: Option<TlsAcceptor>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What happens to connections to come.
    rules: Rules,
    refuses: bool,
    open: BTreeMap<u64, Arc<Connection>>,
    counts: Counts,
}

impl Proxy {
    /// Starts a proxy on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(options: Options) -> anyhow::Result<Proxy> {
        let tls = match &options.tls {
            Some(tls) => Some(tls.authority.acceptor(&tls.names, &["http/1.1"])?),
            None => None,
        };
        let (to, dial_from) = (options.to, options.dial_from);
        let shared = Arc::new(Shared { to, dial_from, tls, state: Mutex::default() });
        let mut door = TcpDoor::bind(options.listen)?;
        let address = door.address();
        // They outlive the listening socket.
        let running = Running::default();
        let served = shared.clone();
        let open: Open = Box::new(move |spawner| {
            let listener = door.open()?;
            let shared = served.clone();
            let serve = move |stream| carry(shared.clone(), stream);
            Ok(spawner.spawn(serve_each(listener, spawner.clone(), running.clone(), serve)))
        });
        let listeners = Listeners::start("proxy", vec![open])?;
        log::info!("the proxy listens on {address} for {to}");
        Ok(Proxy { listeners, address, shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a fault on connections. A refusal is done on return.
    ///
    /// # Errors
    /// When the proxy's thread is gone.
    pub fn set_fault(&self, whom: Whom, fault: &Fault) -> anyhow::Result<()> {
        log::info!("proxy fault on {whom:?}: {fault:?}");
        {
            let mut state = self.shared.lock();
            if *fault == Fault::Refuse {
                state.refuses = true;
            }
            if whom != Whom::Open {
                state.rules.add(fault);
            }
            if whom != Whom::New {
                for connection in state.open.values() {
                    connection.change(|rules| rules.add(fault));
                }
            }
        }
        self.listen_as_told()
    }

    /// Ends all faults: what is half open goes on, and the proxy listens on the same port.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile.
    pub fn clear_faults(&self) -> anyhow::Result<()> {
        {
            let mut state = self.shared.lock();
            state.rules = Rules::default();
            state.refuses = false;
            for connection in state.open.values() {
                connection.change(|rules| *rules = Rules::default());
            }
        }
        self.listen_as_told()
    }

    fn listen_as_told(&self) -> anyhow::Result<()> {
        let wanted = !self.shared.lock().refuses;
        self.listeners.listen_on(vec![wanted])
    }

    pub fn counts(&self) -> Counts {
        let state = self.shared.lock();
        Counts { open: state.open.len() as u64, ..state.counts }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(&self) -> anyhow::Result<TcpStream> {
        let to = self.to;
        let Some(network) = self.dial_from.clone() else {
            let dialling = async { Ok(TcpStream::connect(to).await?) };
            let too_late = async {
                smol::Timer::after(DIALLING).await;
                anyhow::bail!("no answer within {DIALLING:?}")
            };
            return dialling.or(too_late).await.with_context(|| format!("dialling {to}"));
        };
        let (sender, dialled) = async_channel::bounded(1);
        std::thread::Builder::new().name("proxy-dial".into()).spawn(move || {
            // The connection may have ended meanwhile.
            let _ = sender.send_blocking(network.enter(|| StdStream::connect_timeout(&to, DIALLING)));
        })?;
        let stream = dialled.recv().await?.and_then(|stream| Ok(stream?));
        Ok(Async::new(stream.with_context(|| format!("dialling {to} in another network"))?)?.into())
    }
}

/// A connection among the open ones, as long as this lives.
struct Listed {
    shared: Arc<Shared>,
    number: u64,
    connection: Arc<Connection>,
}

impl Listed {
    fn new(shared: Arc<Shared>) -> Listed {
        let mut state = shared.lock();
        state.counts.accepted += 1;
        let number = state.counts.accepted;
        let connection = Arc::new(Connection::new(state.rules));
        state.open.insert(number, connection.clone());
        drop(state);
        Listed { shared, number, connection }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection, from the accept to its end.
async fn carry(shared: Arc<Shared>, client: TcpStream) -> anyhow::Result<()> {
    let listed = Listed::new(shared.clone());
    let connection = &listed.connection;
    client.set_nodelay(true)?;
    let server = Mutex::new(None);
    let passing = async {
        pass(&shared, connection, client.clone(), &server).await?;
        anyhow::Ok(None)
    };
    let ended = async { Ok(Some(connection.end().await)) };
    let outcome = ended.or(passing).await;
    // What broke on one side breaks on the other: a proxy that says goodbye would hide it.
    if !matches!(outcome, Ok(None | Some(End::Cut))) {
        let server = server.lock().unwrap_or_else(PoisonError::into_inner).take();
        for side in [Some(client), server].into_iter().flatten() {
            set_socket_linger(&side, Some(Duration::ZERO)).context("preparing a reset")?;
        }
    }
    outcome.map(|_| ())
}

async fn pass(
    shared: &Shared,
    connection: &Connection,
    mut client: TcpStream,
    dialled: &Mutex<Option<TcpStream>>,
) -> anyhow::Result<()> {
    if connection.is_black_hole() {
        let mut sink = vec![0; SINK];
        while client.read(&mut sink).await? > 0 {}
        return Ok(());
    }
    let server = match shared.dial().await {
        Ok(server) => server,
        Err(failed) => {
            shared.lock().counts.failed_dials += 1;
            return Err(failed);
        }
    };
    server.set_nodelay(true)?;
    *dialled.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.clone());
    let client: Box<dyn Stream> = match &shared.tls {
        Some(tls) => Box::new(tls.accept(client).await.context("in the TLS handshake")?),
        None => Box::new(client),
    };
    let (from_client, to_client) = io::split(client);
    let (from_server, to_server) = io::split(server);
    let count_up = |bytes| shared.lock().counts.bytes_to_server += bytes;
    let count_down = |bytes| shared.lock().counts.bytes_to_client += bytes;
    both(
        connection.pump(Direction::ToServer, from_client, to_server, count_up),
        connection.pump(Direction::ToClient, from_server, to_client, count_down),
    )
    .await
    .context("passing on")
}

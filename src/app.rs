//! Builds the rooms, connects them, runs them on one executor and takes them down in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::StreamExt as _;
use futures_lite::future::or;

use crate::bell::Bell;
use crate::cli::terminal::{Farewell, Terminal};
use crate::cli::wording;
use crate::clock;
use crate::config::{Config, Network};
use crate::disk_space::DiskSpace;
use crate::entropy::{self, Word};
use crate::executor::{self, Executor};
use crate::ledger::process_start::{self, Beginning, Start};
use crate::ledger::{self, Database, LedgerError, OpenError};
use crate::logging;
use crate::net::resolver::{self, Resolver};
use crate::net::tls::TlsError;
use crate::net::{Link, http, tls};
use crate::pairing::Pairing;
use crate::persistence::{self, Persistence};
use crate::personal::PhoneNumber;
use crate::reception::Reception;
use crate::service_manager::{self, SupervisorGone};
use crate::service_result;
use crate::supabase::client::{Client, ClientError};
use crate::supabase::sync::{self, Sync, SyncStatus};
use crate::trusted_clock;
use crate::watch::{self, Watch};
use crate::whatsapp::activity::Activity;
use crate::whatsapp::backlog::Backlog;
use crate::whatsapp::connection::{self, Connection, ConnectionError, NOTICES, Parts};
use crate::whatsapp::endpoint::{Endpoint, EndpointError};
use crate::whatsapp::http_client::WebClient;
use crate::whatsapp::inbox;
use crate::whatsapp::missing_messages::MissingMessages;
use crate::whatsapp::outbox::Outbox;
use crate::whatsapp::reachout::Reachout;
use crate::whatsapp::runtime::{SmolRuntime, share_the_clock};
use crate::whatsapp::session_store::{SessionError, SessionStore};
use crate::whatsapp::transport::WebSocketFactory;

/// The ledger's file in the data folder.
pub(crate) const LEDGER_FILE: &str = "bot-kjp.db";

/// Names that need no server, as on every system.
const HOSTS_FILE: &str = "/etc/hosts";

/// How often old rows are looked for when there were none.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// How soon the next round follows when there were some: each removes a bounded number.
const PRUNE_SOON: Duration = Duration::from_secs(10);

/// How long the log may keep to itself how often something was repeated.
const COUNT_REPEATS: Duration = Duration::from_secs(10 * 60);

/// What the process was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Serve until asked to stop; pair first if that has not happened.
    Serve,
    /// Pair, by code with this phone if there is one, then end.
    Pair { phone: Option<PhoneNumber> },
}

/// Why the bot did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0}")]
    Ledger(#[from] OpenError),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("whatsapp.url: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("supabase.url: {0}")]
    Supabase(#[from] ClientError),
    #[error("the kernel gives nothing to wait on (epoll): {0}")]
    Reactor(std::io::Error),
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("what was open could not be written before the end: {0}")]
    LastCommit(LedgerError),
    #[error("{0}")]
    Supervisor(#[from] SupervisorGone),
    #[error("{} is in memory: the WhatsApp session and every registration would be gone when the power is; switch the overlay (overlayroot) off or move `data.folder` to a disk, or set `data.volatile = true`", .0.display())]
    Volatile(PathBuf),
}

/// Runs the bot on this thread until it has done what it was started for or is asked to stop.
pub fn run(config: &Config, purpose: Purpose) -> Result<Farewell, AppError> {
    let executor = executor::new();
    executor::run(executor, serve(executor, config, purpose)).map_err(AppError::Reactor)?
}

async fn serve(executor: Executor, config: &Config, purpose: Purpose) -> Result<Farewell, AppError> {
    let settings = &config.settings;
    // Before anything is opened, so that no moment is left in which SIGTERM kills.
    let mut signals = Signals::new([Signal::Term, Signal::Int]).map_err(AppError::Signals)?;

    let (serving, pair_with) = match purpose {
        Purpose::Serve => (true, None),
        Purpose::Pair { phone } => (false, phone),
    };
    if serving {
        service_manager::end_with_supervisor(&|name| std::env::var_os(name))?;
    }

    let persistence = persistence::of(&settings.data.folder);
    match persistence {
        Persistence::Lasting => {}
        Persistence::Volatile if !settings.data.volatile => {
            return Err(AppError::Volatile(settings.data.folder.clone()));
        }
        Persistence::Volatile => {
            log::warn!("app: the data folder is in memory; everything is gone when the power is");
        }
        Persistence::Unknown => {
            log::warn!(
                "app: the data folder is on an overlay; whether anything survives the power is not known"
            );
        }
    }

    // All that follows draws random numbers: the database, the session, TLS.
    let stopped = async { Some(asked_to_stop(&mut signals).await) };
    let may_begin = async {
        entropy::wait(tell_of_the_wait).await;
        None
    };
    if let Some(farewell) = or(stopped, may_begin).await {
        if serving {
            service_manager::stopping();
        }
        return Ok(farewell);
    }

    share_the_clock();
    let database = Database::open(&settings.data.folder.join(LEDGER_FILE))?;
    let store = SessionStore::new(database.clone()).missing_what_is_lost();

    let endpoint = Endpoint::parse(&settings.whatsapp.url)?;
    let tls = tls::client_config(settings.network.ca_file.as_deref())?;
    // What the certificates of today are judged by, should the box have forgotten the time.
    if let Some(latest) = database.read(ledger::known_time::load).unwrap_or_default() {
        trusted_clock::remember(latest);
    }
    let resolver = Resolver::new(executor, names(&settings.network), &tls, database.clone());
    let agent = http::agent(&resolver, &tls);

    let link = Link::default();
    let (outbox_bell, sync_bell, missing_bell) = (Bell::default(), Bell::default(), Bell::default());
    let (notices, notice) = async_channel::bounded(NOTICES);
    let activity = Activity::default();
    let pairing = Pairing::default();
    let backlog = Backlog::default();
    let connection = Connection::new(link.clone(), activity.clone(), notices, pairing.clone());
    let (hook, deliveries) = inbox::inbox(settings.inbox.capacity as usize, store.clone(), activity.clone());
    let waiting = deliveries.clone();

    let disk_space = DiskSpace::new(settings.data.folder.clone(), (&settings.disk).into());
    let reception = Reception {
        database: database.clone(),
        inbox: deliveries,
        disk_space: disk_space.clone(),
        rules: settings.registration.rulebook(),
        outbox_bell: outbox_bell.clone(),
        sync_bell: sync_bell.clone(),
        missing_bell: missing_bell.clone(),
    };
    executor.spawn(reception.run()).detach();

    let missing = MissingMessages {
        database: database.clone(),
        connection: connection.clone(),
        hook: hook.clone(),
        bell: missing_bell.clone(),
    };
    executor.spawn(missing.run()).detach();

    let outbox = Outbox {
        database: database.clone(),
        connection: connection.clone(),
        bell: outbox_bell.clone(),
        per_chat_per_second: settings.outbox.per_chat_per_second,
        total_per_second: settings.outbox.total_per_second,
        firsts: Default::default(),
        properties_of: Default::default(),
    };
    executor.spawn(outbox.run(executor)).detach();

    let reachout = Reachout {
        database: database.clone(),
        connection: connection.clone(),
        outbox_bell: outbox_bell.clone(),
    };
    executor.spawn(reachout.run()).detach();

    let mut sync_status = None;
    if let Some(access) = config.supabase.as_ref().filter(|_| serving) {
        let status = SyncStatus::default();
        sync_status = Some(status.clone());
        let sync = Sync {
            database: database.clone(),
            client: Client::new(agent.clone(), &access.url, access.key.clone())?,
            link,
            bell: sync_bell,
            status,
            pace: sync::Pace {
                batch_rows: settings.supabase.batch_rows,
                interval: settings.supabase.interval,
                ..sync::Pace::default()
            },
            random,
        };
        executor.spawn(sync::run(sync)).detach();
    }
    executor.spawn(count_repeats()).detach();
    executor.spawn(keep_house(database.clone(), store.clone(), settings.data.keep_days)).detach();
    executor.spawn(database.clone().close_what_is_open()).detach();

    // From here on nothing fails before the bot is up: what ends without a word is a crash.
    let start = if serving { begun(&database).await } else { None };
    if serving {
        let (standing, rungs) = (connection.clone(), resolver.clone());
        let inside = backlog.clone();
        let watch = Watch::new(watch::Parts {
            database: database.clone(),
            disk_space,
            sources: watch::Sources {
                whatsapp: Arc::new(move || standing.standing()),
                dns: Arc::new(move || rungs.health()),
                supabase: sync_status,
                backlog: Arc::new(move || inside.len()),
                inbox: Arc::new(move || waiting.len()),
                server_time: Arc::new(trusted_clock::told),
            },
            outbox_bell,
            agent: agent.clone(),
            settings: watch::Settings::of(settings, persistence, start.map(|start| start.cause)),
        });
        let told = watch.clone();
        executor.spawn(watch.run(executor)).detach();
        executor.spawn(service_manager::keep_informed(move || told.headline())).detach();
        #[cfg(feature = "danger-accept-test-bed")]
        executor.spawn(executor::stall_on_demand()).detach();
    }

    let parts = Parts {
        runtime: SmolRuntime(executor),
        transport: WebSocketFactory {
            executor,
            resolver,
            tls,
            endpoint: endpoint.clone(),
            activity,
            backlog,
        },
        http: WebClient { agent, endpoint, answers: Arc::new(store.clone()) },
        store,
        hook,
        missing_bell,
        settings: connection::Settings {
            device_name: settings.whatsapp.device_name.clone(),
            version: settings.whatsapp.version,
            pre_keys: settings.whatsapp.pre_keys as usize,
            pair_only: !serving,
            pair_with,
            backoff: settings.connection.backoff.clone(),
            stable: settings.connection.stable,
            attempts_per_hour: settings.connection.attempts_per_hour,
            longest_silence: settings.connection.longest_silence,
            random,
        },
    };
    // A task of its own: it goes on reading while the farewell is said.
    let running = connection.clone();
    let mut kept_up = executor.spawn(async move { running.run(parts).await.map(|()| Farewell::Stopped) });
    let shown = async { Ok(Terminal::new(notice, pairing, serving).run().await) };
    let asked = async { Ok(asked_to_stop(&mut signals).await) };
    let ended: Result<Farewell, ConnectionError> = or(asked, or(shown, &mut kept_up)).await;

    if serving {
        service_manager::stopping();
    }
    connection.stop().await;
    if let Some(start) = start {
        let how = ended.as_ref().map_or_else(|_| "connection", |_| process_start::STOPPED);
        let written = database.write(|tx| {
            if let Some(time) = trusted_clock::told() {
                ledger::known_time::save(tx, time)?;
            }
            process_start::end(tx, start, how)
        });
        if let Err(error) = written.await {
            log::error!("app: how the process ends was not written down: {error}");
        }
    }
    // Whatever was still being written is durable before the process ends.
    database.finish().map_err(AppError::LastCommit)?;
    Ok(ended?)
}

/// How the settings want names to be found.
pub(crate) fn names(network: &Network) -> resolver::Options {
    resolver::Options {
        order: network.dns.clone(),
        resolv_conf: network.resolv_conf.clone(),
        hosts: HOSTS_FILE.into(),
        https: network.dns_https.clone(),
        tls_servers: network.dns_tls.clone(),
        public: network.dns_public.clone(),
        private: network.private_addresses.clone(),
        pinned: network.pinned.clone(),
    }
}

/// The kernel's id of this boot: another one after every restart of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Writes down that the process starts, and why that was needed. Without that the bot serves all the
/// same.
async fn begun(database: &Database) -> Option<Start> {
    let boot = std::fs::read_to_string(BOOT_ID).ok();
    let beginning = Beginning {
        at: trusted_clock::now(),
        boot: boot.as_deref().map(str::trim),
        version: env!("CARGO_PKG_VERSION"),
        verdict: service_result::take(),
    };
    match database.write(|tx| process_start::begin(tx, &beginning)).await {
        Ok(start) => {
            log::info!("app: started (before: {})", start.cause.code());
            Some(start)
        }
        Err(error) => {
            log::error!("app: the start was not written down: {error}");
            None
        }
    }
}

/// Says, to the log and to the service manager, that the kernel has no random numbers yet.
fn tell_of_the_wait(word: Word) {
    match word {
        Word::Begun => log::warn!(
            "app: the kernel has no random numbers yet, as after power-on of a box without a generator: nothing \
             begins before it has, which may take minutes; if it always does, install haveged"
        ),
        Word::GoesOn => {}
        Word::Over(time) => log::info!("app: the kernel has random numbers, after {} s", time.as_secs()),
    }
    let status = match word {
        Word::Begun | Word::GoesOn => wording::NO_RANDOM_NUMBERS_YET,
        Word::Over(_) => wording::RANDOM_NUMBERS_ARE_THERE,
    };
    service_manager::goes_on(status, entropy::PUT_OFF);
}

async fn asked_to_stop(signals: &mut Signals) -> Farewell {
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(signal) => {
                log::info!("app: stopping, asked by {signal:?}");
                break;
            }
            Err(error) => log::warn!("app: a signal was not read: {error}"),
        }
    }
    Farewell::Stopped
}

/// Lets the log say what was repeated, for ever.
async fn count_repeats() {
    loop {
        clock::sleep(COUNT_REPEATS).await;
        logging::end();
    }
}

/// Forgets old rows, remembers the time and folds the redo log in, for ever: whoever looks at the database file
/// itself finds it not older than an hour.
async fn keep_house(database: Database, store: SessionStore, keep_days: u32) {
    loop {
        let pruned = prune(&database, &store, keep_days).await.unwrap_or_else(|error| {
            log::error!("app: old rows were not removed: {error}");
            0
        });
        if let Some(time) = trusted_clock::told()
            && let Err(error) = database.write(|tx| ledger::known_time::save(tx, time)).await
        {
            log::error!("app: the time was not written down: {error}");
        }
        if let Err(error) = database.fold() {
            log::error!("app: the redo log was not folded in: {error}");
        }
        clock::sleep(if pruned > 0 { PRUNE_SOON } else { PRUNE_EVERY }).await;
    }
}

async fn prune(database: &Database, store: &SessionStore, keep_days: u32) -> Result<usize, SessionError> {
    let Some(now) = database.read(|conn| ledger::judged_by(conn, trusted_clock::now()))? else {
        return Ok(0);
    };
    let rows = database.write(|tx| ledger::prune(tx, now, keep_days)).await?;
    Ok(rows + store.prune(now).await?)
}

/// Randomness for delays: failure to get any only makes the delay less random.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

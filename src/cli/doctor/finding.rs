//! What the doctor can find, as plain data: how bad each finding is follows from it, and so does its
//! sentence ([`wording`](crate::cli::wording)).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::install::{Loosened, Refusal};
use crate::net::rung::Kind;
use crate::supabase::verdict::Action;
use crate::watch::report::State;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    Good,
    /// Worth knowing; the bot does its work, or is not there to do it.
    Note,
    /// Somebody has to repair it.
    Bad,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The file in force; `None`: there is none, and none is needed.
    ConfigurationFile(Option<PathBuf>),
    /// The Supabase key stands in a variable of its old name.
    OldKeyVariable,
    /// Something that only shows when it is used: the certificate file, an address.
    ConfigurationUnusable(String),
    /// The kernel has none yet, and whatever needs one would wait.
    NoRandomNumbers,
    /// A running bot answered.
    BotRuns(State),
    /// What that bot says.
    BotWarning {
        unhealthy: bool,
        message: String,
        action: String,
    },
    /// The database is locked by a bot that was not asked: it has no status page, or that does not
    /// answer.
    BotHolds {
        pid: Option<i32>,
        page_off: bool,
    },
    BotDoesNotRun,
    /// systemd cannot start the service, for the kernel refuses what its sandbox needs.
    SandboxRefused(Refusal),
    /// systemd cannot start the service, for its user is gone.
    AccountMissing,
    /// The service runs without what the kernel refuses.
    SandboxLoosened(Loosened),
    /// Another program answers where the status page should be.
    PageNotOurs(SocketAddr),
    FolderMissing(PathBuf),
    /// Whoever runs the doctor may not look into it.
    FolderClosed(PathBuf),
    FolderWritable {
        folder: PathBuf,
        free: u64,
    },
    FolderNotWritable {
        folder: PathBuf,
        why: NotWritable,
    },
    /// The folder is in memory; `allowed`: the bot works there all the same.
    Volatile {
        allowed: bool,
    },
    /// The folder is on an overlay of which the layers cannot be seen.
    MaybeVolatile,
    DiskLow {
        free: u64,
        total: u64,
    },
    DiskFull {
        free: u64,
        total: u64,
    },
    Database {
        bytes: u64,
    },
    NoDatabase,
    /// The file is an SQLite database of another program.
    ForeignDatabase(PathBuf),
    /// The file is no SQLite database.
    BrokenDatabase(PathBuf),
    /// Others on this machine may read it.
    OpenToOthers {
        file: PathBuf,
        mode: u32,
    },
    /// It belongs to somebody else than its folder does.
    OwnedByAnother {
        file: PathBuf,
        folder: PathBuf,
    },
    /// The address from which this machine reaches the internet.
    Address(IpAddr),
    NoWayOut,
    /// `behind`: seconds by which a server's clock is ahead of this machine's.
    ClockRight {
        behind: i64,
    },
    ClockWrong {
        behind: i64,
    },
    /// It shows a time before this program was written.
    ClockInThePast,
    /// No server told the time.
    ClockNotCompared,
    /// Connections to the host finish TLS with small packets only.
    LargePacketsVanish {
        host: String,
    },
    /// None of so many DNS servers answered, whatever it was asked; `reached`: there is a line all the same.
    NobodyAnswers {
        servers: usize,
        reached: bool,
    },
    /// A line of the hosts file, counted from 1, gives an address to a host.
    HostsLine {
        host: String,
        file: PathBuf,
        line: usize,
        address: IpAddr,
        leads: Leads,
    },
    /// What one DNS server answered.
    Dns(Dns),
    /// The host is an address itself.
    NoDnsNeeded {
        host: String,
    },
    /// No DNS server is known.
    NobodyToAsk {
        host: String,
    },
    /// Those who can be trusted say that the name does not exist.
    NoSuchName {
        host: String,
    },
    /// TCP and TLS.
    Reached {
        host: String,
        address: SocketAddr,
        took: Duration,
        tls: bool,
    },
    /// `others`: the host was reached at another address.
    NotReached {
        host: String,
        address: SocketAddr,
        why: NoReach,
        others: bool,
    },
    /// There was no address to try.
    NowhereToGo {
        host: String,
    },
    VersionPage {
        took: Duration,
    },
    /// `reason`: if there was a connection.
    NoVersionPage {
        reason: Option<String>,
    },
    SupabaseOff,
    /// The address is set, and whoever runs the doctor does not have the key.
    SupabaseKeyNotGiven,
    SupabaseWorks {
        took: Duration,
    },
    SupabaseRefuses(Action),
    SupabaseBroken {
        reason: String,
    },
    SupabaseSilent {
        reason: String,
    },
    NobodyIsTold,
    HookHost {
        host: String,
    },
    HookHostUnknown {
        host: String,
    },
    /// A check took longer than it may.
    TooSlow(Check),
}

/// Where a line of the hosts file leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    ToTheHost,
    /// It gives no address, but 0.0.0.0 or the like.
    Nowhere,
    Astray(NoReach),
}

/// Why nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotWritable {
    ReadOnly,
    NoSpace,
    NotPermitted,
    Other(String),
}

/// What one DNS server answered for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    pub host: String,
    pub kind: Kind,
    pub server: SocketAddr,
    pub took: Duration,
    pub said: Said,
    /// Whether some server gave a right answer.
    pub others: bool,
    /// Whether another server of the same kind did.
    pub beside: bool,
}

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Right(Vec<IpAddr>),
    /// "There is no such name"; `lie`: others know it.
    Denied {
        lie: bool,
    },
    /// In the resolver's words, with the address.
    Private(String),
    /// Addresses at which the host is not: TLS for its name fails there.
    Wrong(Vec<IpAddr>),
    /// Addresses that never say a word, while others do.
    DeadEnd(Vec<IpAddr>),
    Silent,
    /// Somebody else answers in its place, without its certificate.
    Intercepted,
    Failed(String),
}

/// Why an address is no way to its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReach {
    /// No way out of this machine in that family.
    NoRoute,
    Refused(String),
    Silent,
    /// Whoever answers there cannot prove to be the host.
    Disproved(String),
    /// The certificate is the host's, and not valid at the time that this machine believes it is.
    Clock,
}

/// A check that may take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Bot,
    WhatsApp,
    VersionPage,
    Supabase,
    SupabaseAnswer,
    Alerts,
}

/// What a finding is about: what is found about one thing stands together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section {
    Configuration,
    Bot,
    Folder,
    Network,
    Clock,
    Dns(String),
    Host(String),
    WhatsApp,
    Supabase,
    Alerts,
}

impl Finding {
    pub fn mark(&self) -> Mark {
        match self {
            Self::ConfigurationFile(_)
            | Self::BotRuns(State::Healthy)
            | Self::BotHolds { page_off: true, .. }
            | Self::FolderWritable { .. }
            | Self::Database { .. }
            | Self::Address(_)
            | Self::ClockRight { .. }
            | Self::NoDnsNeeded { .. }
            | Self::HostsLine { leads: Leads::ToTheHost, .. }
            | Self::Reached { .. }
            | Self::VersionPage { .. }
            | Self::SupabaseWorks { .. }
            | Self::HookHost { .. } => Mark::Good,
            Self::OldKeyVariable
            | Self::BotRuns(State::Warned)
            | Self::BotHolds { page_off: false, .. }
            | Self::BotDoesNotRun
            | Self::SandboxLoosened(_)
            | Self::PageNotOurs(_)
            | Self::MaybeVolatile
            | Self::DiskLow { .. }
            | Self::NoDatabase
            | Self::ClockNotCompared
            // The bot passes it over.
            | Self::HostsLine { leads: Leads::Nowhere, .. }
            // A connection does without it: the bot keeps the last one.
            | Self::NoVersionPage { .. }
            | Self::SupabaseOff
            | Self::SupabaseKeyNotGiven
            | Self::NobodyIsTold
            | Self::TooSlow(Check::Bot | Check::VersionPage) => Mark::Note,
            Self::Volatile { allowed } => if *allowed { Mark::Note } else { Mark::Bad },
            Self::BotWarning { unhealthy, .. } => if *unhealthy { Mark::Bad } else { Mark::Note },
            Self::NotReached { others, .. } => if *others { Mark::Note } else { Mark::Bad },
            Self::Dns(dns) => dns.mark(),
            Self::ConfigurationUnusable(_)
            | Self::BotRuns(State::Unhealthy)
            | Self::SandboxRefused(_)
            | Self::AccountMissing
            | Self::FolderMissing(_)
            | Self::FolderClosed(_)
            | Self::FolderNotWritable { .. }
            | Self::DiskFull { .. }
            | Self::ForeignDatabase(_)
            | Self::BrokenDatabase(_)
            | Self::OpenToOthers { .. }
            | Self::OwnedByAnother { .. }
            | Self::NoRandomNumbers
            | Self::NoWayOut
            | Self::ClockWrong { .. }
            | Self::ClockInThePast
            | Self::LargePacketsVanish { .. }
            | Self::NobodyAnswers { .. }
            | Self::HostsLine { leads: Leads::Astray(_), .. }
            | Self::NobodyToAsk { .. }
            | Self::NoSuchName { .. }
            | Self::NowhereToGo { .. }
            | Self::SupabaseRefuses(_)
            | Self::SupabaseBroken { .. }
            | Self::SupabaseSilent { .. }
            | Self::HookHostUnknown { .. }
            | Self::TooSlow(_) => Mark::Bad,
        }
    }

    pub fn section(&self) -> Section {
        match self {
            Self::ConfigurationFile(_) | Self::OldKeyVariable | Self::ConfigurationUnusable(_) => {
                Section::Configuration
            }
            Self::BotRuns(_)
            | Self::BotWarning { .. }
            | Self::BotHolds { .. }
            | Self::BotDoesNotRun
            | Self::SandboxRefused(_)
            | Self::AccountMissing
            | Self::SandboxLoosened(_)
            | Self::NoRandomNumbers
            | Self::PageNotOurs(_)
            | Self::TooSlow(Check::Bot) => Section::Bot,
            Self::FolderMissing(_)
            | Self::FolderClosed(_)
            | Self::FolderWritable { .. }
            | Self::FolderNotWritable { .. }
            | Self::Volatile { .. }
            | Self::MaybeVolatile
            | Self::DiskLow { .. }
            | Self::DiskFull { .. }
            | Self::Database { .. }
            | Self::NoDatabase
            | Self::ForeignDatabase(_)
            | Self::BrokenDatabase(_)
            | Self::OpenToOthers { .. }
            | Self::OwnedByAnother { .. } => Section::Folder,
            Self::Address(_)
            | Self::NoWayOut
            | Self::LargePacketsVanish { .. }
            | Self::NobodyAnswers { .. } => Section::Network,
            Self::ClockRight { .. }
            | Self::ClockWrong { .. }
            | Self::ClockInThePast
            | Self::ClockNotCompared => Section::Clock,
            Self::Dns(Dns { host, .. })
            | Self::HostsLine { host, .. }
            | Self::NoDnsNeeded { host }
            | Self::NobodyToAsk { host }
            | Self::NoSuchName { host } => Section::Dns(host.clone()),
            Self::Reached { host, .. } | Self::NotReached { host, .. } | Self::NowhereToGo { host } => {
                Section::Host(host.clone())
            }
            Self::VersionPage { .. }
            | Self::NoVersionPage { .. }
            | Self::TooSlow(Check::WhatsApp | Check::VersionPage) => Section::WhatsApp,
            Self::SupabaseOff
            | Self::SupabaseKeyNotGiven
            | Self::SupabaseWorks { .. }
            | Self::SupabaseRefuses(_)
            | Self::SupabaseBroken { .. }
            | Self::SupabaseSilent { .. }
            | Self::TooSlow(Check::Supabase | Check::SupabaseAnswer) => Section::Supabase,
            Self::NobodyIsTold
            | Self::HookHost { .. }
            | Self::HookHostUnknown { .. }
            | Self::TooSlow(Check::Alerts) => Section::Alerts,
        }
    }
}

impl Dns {
    /// The provider's DNS is what the whole house uses, so it should be right. That others are cut
    /// off is a usual state in Indonesia, as long as somebody is right.
    fn mark(&self) -> Mark {
        match (&self.said, self.kind) {
            (Said::Right(_), _) => Mark::Good,
            (Said::Denied { lie: false }, _) => Mark::Note,
            _ if !self.others => Mark::Bad,
            (Said::Silent | Said::Failed(_), Kind::System) if self.beside => Mark::Note,
            (_, Kind::System) => Mark::Bad,
            (_, Kind::Https | Kind::Tls | Kind::Public) => Mark::Note,
        }
    }
}

//! How the connection to WhatsApp stands, for the rooms that watch it.

use std::time::Instant;

use crate::pairing::Obstacle;

/// Where the connection is. The order is that of a connection that succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No connection, and none is being made: between two tries, or stopped.
    Offline,
    /// Looking for the addresses of WhatsApp's server.
    Resolving,
    /// TCP, TLS and WebSocket.
    Connecting,
    /// Noise handshake and login.
    Handshake,
    /// Logged in; the offline queue is coming in.
    Syncing,
    Online,
    /// Connected without a session: a pairing code is shown.
    Pairing,
}

impl Phase {
    /// A stable word for metrics and the health page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Handshake => "handshake",
            Self::Syncing => "syncing",
            Self::Online => "online",
            Self::Pairing => "pairing",
        }
    }

    /// Whether messages go in and out.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Syncing | Self::Online)
    }
}

/// Why the last connection, or the last try to make one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEnd {
    /// Stable, for machines: `no_line`, `lost`, `replaced`, `logged_out`, `outdated`, `banned` …
    pub code: &'static str,
    /// In English, with what was tried, on what, and what to do; holds no personal number.
    pub detail: String,
    pub at: Instant,
}

/// A snapshot of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub phase: Phase,
    /// When `phase` began.
    pub since: Instant,
    /// Since when messages have not gone in and out; `None` while they do.
    pub down_since: Option<Instant>,
    /// Whether there is a session; without one only a person can help.
    pub paired: bool,
    /// Failed tries in a row; a connection that was stable resets it.
    pub failures: u32,
    /// Tries since the process started.
    pub attempts: u64,
    /// Connections that reached login since the process started.
    pub logins: u64,
    /// Tries in the last hour, also those of earlier processes, and how many there may be.
    pub attempts_last_hour: u32,
    pub attempts_per_hour: u32,
    /// The ceiling holds back the next try.
    pub storm: bool,
    /// When the next try is due, if one is waited for.
    pub next_attempt: Option<Instant>,
    pub last_end: Option<LastEnd>,
    /// When anything came from WhatsApp the last time, and when a message of anybody did.
    pub last_stanza: Option<Instant>,
    pub last_message: Option<Instant>,
    /// Connections that turned out to have been deaf since the process started: the one after them
    /// brought messages that they had not.
    pub deaf_connections: u64,
    /// When the operator's phone last gave a sign of life, in seconds since 1970 UTC.
    pub phone_seen: Option<i64>,
    /// What stands in the way of a link, as far as this process has seen.
    pub obstacle: Option<Obstacle>,
}

impl Standing {
    /// Of a process that has just started.
    pub fn new(now: Instant, attempts_per_hour: u32) -> Self {
        Self {
            phase: Phase::Offline,
            since: now,
            down_since: Some(now),
            paired: false,
            failures: 0,
            attempts: 0,
            logins: 0,
            attempts_last_hour: 0,
            attempts_per_hour,
            storm: false,
            next_attempt: None,
            last_end: None,
            last_stanza: None,
            last_message: None,
            deaf_connections: 0,
            phone_seen: None,
            obstacle: None,
        }
    }

    /// Moves on to `phase`.
    pub fn enter(&mut self, phase: Phase, now: Instant) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
        if phase.is_up() {
            self.down_since = None;
        } else if self.down_since.is_none() {
            self.down_since = Some(now);
        }
    }
}

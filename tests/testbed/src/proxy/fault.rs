//! What goes wrong with a connection, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    ToServer,
    ToClient,
}

/// Which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// Those to come, until the faults are cleared.
    New,
    /// Those that are open now.
    Open,
    #[default]
    All,
}

/// When something happens to a connection: at once, or as soon as one of these comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// So many bytes have come from the server since the connection began: within its TLS handshake,
    /// for example. Exactly so many are passed on.
    #[serde(default)]
    pub from_server: Option<u64>,
    /// So many bytes have come from the client.
    #[serde(default)]
    pub from_client: Option<u64>,
    /// So much time has passed since the fault was set or the connection began, whichever was later.
    #[serde(default)]
    pub after_ms: Option<u64>,
}

impl When {
    pub fn now() -> When {
        When::default()
    }

    pub fn from_server(bytes: u64) -> When {
        When { from_server: Some(bytes), ..When::default() }
    }

    pub fn from_client(bytes: u64) -> When {
        When { from_client: Some(bytes), ..When::default() }
    }

    pub fn after(time: Duration) -> When {
        When { after_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..When::default() }
    }

    pub(super) fn is_now(&self) -> bool {
        *self == When::default()
    }

    pub(super) fn bytes(&self, direction: Direction) -> Option<u64> {
        match direction {
            Direction::ToServer => self.from_client,
            Direction::ToClient => self.from_server,
        }
    }
}

/// Something that goes wrong with connections. A later fault of the same kind replaces the earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Everything arrives this much later, in both directions unless one is named.
    Delay {
        ms: u64,
        #[serde(default)]
        direction: Option<Direction>,
    },
    /// At most so many bytes a second, in both directions unless one is named.
    Throttle {
        bytes_per_second: u64,
        #[serde(default)]
        direction: Option<Direction>,
    },
    /// One byte at a time, with this pause between.
    Drip { ms: u64 },
    /// Closes both sides properly (FIN).
    Cut {
        #[serde(default)]
        when: When,
    },
    /// Resets both sides (RST).
    Reset {
        #[serde(default)]
        when: When,
    },
    /// Stops to pass anything on and keeps both sides open: their kernels go on acknowledging until
    /// the buffers are full. Ends when the faults are cleared.
    HalfOpen {
        #[serde(default)]
        when: When,
    },
    /// Takes connections, reads what comes and never dials the server. New connections alone; open
    /// ones become half open.
    BlackHole,
    /// Does not listen: new connections are refused. Open ones stay, whomever it is set on.
    Refuse,
}

//! Builds the rooms, connects them, runs them on one executor and takes them down in order.

use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::StreamExt as _;
use futures_lite::future::or;

use crate::bell::Bell;
use crate::config::Config;
use crate::ledger::{Database, OpenError};
use crate::net::Link;
use crate::personal::PhoneNumber;
use crate::reception::Reception;
use crate::whatsapp::connection::{self, Connection, Notice, Parts};
use crate::whatsapp::inbox;
use crate::whatsapp::outbox::Outbox;
use crate::whatsapp::session_store::SessionStore;

/// What the process was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Serve until asked to stop; pair first if that has not happened.
    Serve,
    /// Pair, then end.
    Pair { phone: Option<PhoneNumber> },
}

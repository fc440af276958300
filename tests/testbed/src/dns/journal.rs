//! What was asked: counts, and the last questions with their times.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::fault::Transport;
use super::zone::plain;

/// Names counted one by one; further ones count under [`OTHERS`].
const MAX_NAMES: usize = 10_000;

/// Counts what is not counted by name.
const OTHERS: &str = "(others)";

/// Questions remembered with their times; the oldest goes first.
const MAX_REMEMBERED: usize = 4096;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub at: Instant,
    pub transport: Transport,
    /// The server's address that was asked.
    pub server: SocketAddr,
    /// In lower case, without the last dot; empty when the message could not be read.
    pub name: String,
    /// `A`, `AAAA` and so on.
    pub kind: String,
}

/// All questions since the start.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    counts: BTreeMap<(Transport, String), u64>,
    connections: BTreeMap<Transport, u64>,
    last: VecDeque<Asked>,
}

impl Journal {
    pub(super) fn note(&mut self, asked: Asked) {
        let mut key = (asked.transport, asked.name.clone());
        if self.counts.len() >= MAX_NAMES && !self.counts.contains_key(&key) {
            key.1 = OTHERS.into();
        }
        *self.counts.entry(key).or_default() += 1;
        if self.last.len() == MAX_REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(asked);
    }

    pub(super) fn note_connection(&mut self, transport: Transport) {
        *self.connections.entry(transport).or_default() += 1;
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn over(&self, transport: Transport) -> u64 {
        self.counts.iter().filter(|((over, _), _)| *over == transport).map(|(_, count)| count).sum()
    }

    /// Questions about a name, in any case of letters.
    pub fn about(&self, name: &str) -> u64 {
        let name = plain(name);
        self.counts.iter().filter(|((_, asked), _)| *asked == name).map(|(_, count)| count).sum()
    }

    /// TCP connections that came, of those with a question and those without.
    pub fn connections(&self, transport: Transport) -> u64 {
        self.connections.get(&transport).copied().unwrap_or_default()
    }

    /// Counts by transport and name.
    pub fn counts(&self) -> impl Iterator<Item = (Transport, &str, u64)> {
        self.counts.iter().map(|((transport, name), count)| (*transport, name.as_str(), *count))
    }

    /// The last questions in the order of their arrival, at most 4,096.
    pub fn last(&self) -> impl Iterator<Item = &Asked> {
        self.last.iter()
    }
}

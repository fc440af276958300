//! Supabase: registrations go there in batches, and come back as one verdict per row.
//!
//! [`client`] asks, [`verdict`] decides what an answer means (the only place), [`refusals`] whose fault it is
//! when rows are refused, [`sync`] acts on it.

pub mod client;
pub mod refusals;
pub mod sync;
pub mod verdict;

/// SQL that prepares a Supabase project, fresh or the old bot's; may be run again and again.
pub const SCHEMA: &str = include_str!("schema.sql");

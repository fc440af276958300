//! bot-kjp: families register for subsidised food over WhatsApp; this is the bot that answers.
//!
//! # The plan of the house
//!
//! One message crosses each arrow once:
//!
//! ```text
//! WhatsApp ─ws/TLS/Noise/Signal─▶ whatsapp::connection ─▶ whatsapp::inbox (bounded, and so is what
//!                                                              │ lies before it: whatsapp::backlog)
//!                                                              │ all that waits, together
//!                                                              ▼
//!                                     reception: ONE SQLite transaction (ledger)
//!                                     │  desk::step          what does this message want?
//!                                     │  ledger::registration  does the day allow it?
//!                                     │  desk::conclude      what is the answer?
//!                                     ▼ durable
//!        receipt to WhatsApp     whatsapp::outbox ─paced─▶ WhatsApp     supabase::sync ─batches─▶ Supabase
//! ```
//!
//! The receipt waits for the commit, so WhatsApp keeps what the box has not. Several waiting
//! messages share one transaction and one flush to flash ([`ledger::database`]). A reply carries
//! a message id derived from the message it answers ([`whatsapp::outbox::reply_id`]), so a reply
//! that is sent twice after a crash is one message on the phone.
//!
//! | room | what lives there | may use |
//! | --- | --- | --- |
//! | [`cli`] | command line, terminal, exit codes, [`cli::install`] | everything |
//! | [`config`] | one TOML file and the environment | – |
//! | [`app`] | builds the rooms, owns the executor, starts and stops in order | everything |
//! | [`registration`] | pure: text → people → verdicts | nothing below |
//! | [`desk`] | pure: conversation and answers; [`desk::wording`] holds every sentence a customer reads | `registration` |
//! | [`reception`] | the one transaction per batch of messages | `desk`, `ledger`, `whatsapp` types |
//! | [`ledger`] | the SQLite file: everything that must survive | `registration` types |
//! | [`pairing`] | where linking to a phone stands, for all who read it; the passkey's answer, checked | – |
//! | [`whatsapp`] | client, session, transport, inbox, outbox | `net`, `ledger`, `pairing` |
//! | [`net`] | names by a ladder of ways ([`net::resolver`]), dialling, TLS, HTTP, is the line up | – |
//! | [`supabase`] | PostgREST client, meaning of its answers, sync | `net`, `ledger` |
//! | [`disk_space`], [`entropy`], [`trusted_clock`], [`service_result`] | what the machine is asked: room on the disk, random numbers soon after a boot, a time to believe, why the process before ended | – |
//! | [`logging`] | stderr and a bounded file: masked, repetitions counted | `outlet` |
//! | [`outlet`] | stdout and stderr, which never make anybody wait for their reader | – |
//! | [`watch`] | what is wrong and who is told: status page, metrics, alerts | reads all, changes nothing |
//! | [`service_manager`] | what systemd, or our own supervisor, hears and wants | – |
//!
//! Never: `registration` or `desk` touching I/O, clocks or randomness; `ledger` knowing WhatsApp;
//! `net` knowing KJP; two owners of one table.
//!
//! # Where is …?
//!
//! * *the reply to a duplicate NIK decided?* The clash is found by [`ledger::registration`] (an
//!   SQLite constraint decides), turned into an answer by [`desk::conclude`], put into words by
//!   [`desk::wording`].
//! * *a rule about a card, NIK, KK, name or date?* [`registration`], one file each.
//! * *decided what follows when WhatsApp hangs up?* The table in `whatsapp::connection::ends`; what is
//!   done about it, in `whatsapp::connection::way`.
//! * *decided what becomes of a reply that WhatsApp refuses, or takes and delivers to nobody?*
//!   [`whatsapp::refusal`]; what is remembered for it, in [`ledger::reachout`].
//! * *decided what an answer of Supabase means?* [`supabase::verdict`]; whose fault it is that rows are refused,
//!   [`supabase::refusals`].
//! * *told how linking stands, and what a passkey has to do with it?* [`pairing`]; what is done about it at
//!   WhatsApp, in `whatsapp::connection::linking`.
//! * *decided whose reply is next, and what need not be said any more?* [`ledger::outbox`].
//! * *decided that WhatsApp has to wait?* [`whatsapp::backlog`], asked by [`whatsapp::transport`].
//! * *decided that something is wrong?* The registry in [`watch::warning`]; who is told of it and how
//!   often: [`watch::alert`]; in which words: [`watch::wording`].
//! * *decided that nobody waits for a log that nobody reads?* [`outlet`].
//! * *decided that the disk has no room for registrations?* [`disk_space::Limits`]; what is answered then,
//!   in [`reception`].
//! * *decided which time it is?* [`trusted_clock`]; the day of a registration, [`desk::step`].
//! * *decided who is asked to send a message again, and when?* [`whatsapp::missing_messages`]; how often, in
//!   [`reception`].
//! * *decided that two addresses are one person?* [`ledger::person`].
//! * *looked at when somebody asks what to repair?* [`cli::doctor`]: findings as data, words apart.
//! * *said which of many findings is the cause?* [`cli::doctor`], in its `causes`.
//! * *decided that large packets vanish on the line?* [`net::segment`], told by [`net::dial`].
//! * *what lies on the box?* `rootfs/`, carried by the program and installed by [`cli::install`].
//! * *decided when a bot that ended is started again?* Outside of it: the unit and
//!   `usr/local/lib/bot-kjp/retry` for systemd, `usr/local/lib/bot-kjp/supervise` elsewhere.
//!
//! # Threads and memory
//!
//! One thread runs everything, SQLite included ([`app`]), and waits for sockets and timers ([`reactor`]); async-io's
//! reactor, for what is rare, is the second;
//! blocking HTTP, heavy key generation and the first question for random numbers ([`entropy`]) borrow a
//! third that exists only while it works ([`worker`]). Every queue and cache has a bound, a named constant
//! beside it says why; [`bounds`] lists what a stranger can make grow. Every table is bounded by age or by number (`tests/growth.rs` lives through years of it), except for registrations
//! that Supabase does not have: those stay until it does.

pub mod app;
pub mod bell;
pub mod bounds;
pub mod cli;
pub mod clock;
pub mod config;
pub mod desk;
pub mod disk_space;
pub mod entropy;
pub mod executor;
pub mod ledger;
pub mod logging;
pub mod net;
pub mod outlet;
pub mod pairing;
pub mod persistence;
pub mod personal;
pub mod reactor;
pub mod reception;
pub mod registration;
pub mod service_manager;
pub mod service_result;
pub mod supabase;
pub mod trusted_clock;
pub mod watch;
pub mod whatsapp;
pub mod worker;

/// Says so where somebody runs plain `cargo test`, which leaves out what needs the test bed.
#[cfg(all(test, not(feature = "danger-accept-test-bed")))]
#[test]
#[ignore = "they need a bot that accepts the test bed: scripts/test runs all of them, scripts/test NAME… some"]
fn end_to_end_tests() {}

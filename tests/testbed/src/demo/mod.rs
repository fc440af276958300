//! `testbed demo`: the whole bot on one machine, without a phone and without the internet, played
//! as short scenes with a commentary.
//!
//! Everything is real but WhatsApp's server and the phones, which are the test bed's: bot-kjp is the
//! program that ships, Supabase is PostgreSQL with PostgREST. Each scene states what must come true
//! and the program fails when something does not, so that a test can run it too.

mod scenes;
mod screen;
mod stage;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;

use crate::interrupt;
use screen::Screen;
use stage::Stage;

const HELP: &str = "\
Plays the bot on one machine: customers, WhatsApp, bot-kjp, Supabase.

testbed demo --bot PATH [--fast]

  --bot PATH   bot-kjp, built with --features danger-accept-test-bed
  --fast       without pauses for reading

Needs PostgreSQL (Debian: postgresql) and `npm ci` in tests/npm (PostgREST). Ends with an error when
anything does not come as announced.";

/// The program; `arguments` are those behind `testbed demo`.
///
/// # Errors
/// When something cannot be started, or does not come as a scene announces.
pub fn run(mut arguments: lexopt::Parser) -> Result<()> {
    let mut bot: Option<PathBuf> = None;
    let mut fast = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("bot") => bot = Some(arguments.value()?.into()),
            Long("fast") => fast = true,
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let bot = bot.with_context(|| format!("--bot PATH is missing\n\n{HELP}"))?;
    interrupt::watch()?;
    perform(Stage::build(&bot, Screen::of_stdout(), fast)?)
}

/// Plays everything without pauses and writes the commentary to `out`: for tests.
///
/// # Errors
/// As [`run`].
pub fn rehearse(bot: &Path, out: Box<dyn Write>) -> Result<()> {
    perform(Stage::build(bot, Screen::plain(out), true)?)
}

fn perform(mut stage: Stage) -> Result<()> {
    scenes::play(&mut stage)?;
    stage.close()
}

//! `testbed bench crowd`: more people at once than replies can leave.
//!
//! Everybody sends all they have as fast as the phones can. What the bot takes of memory above its idle state,
//! how long a family waits that writes in the middle, and that everybody is answered in order. Replies leave as
//! fast as the settings allow, so that it is the way in that is measured. (What has gathered while no bot was
//! there: [`morning`](super::morning).)
//!
//! The run fails when an answer is missing, out of order, or the connection did not hold.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

use super::process::{Peak, Snapshot};
use super::{OPENING, SETTLE, progress};
use crate::bot::{Bot, Settings};
use crate::customers::Person;
use crate::interrupt::{self, wait_until};
use crate::{Handset, Options, WhatsApp};

const HELP: &str = "\
Measures bot-kjp while more people write than replies can leave.

testbed bench crowd --bot PATH [--phones N] [--each N] [--folder DIR]

  --bot PATH       bot-kjp, built with --release --features danger-accept-test-bed
  --phones N       who writes (default 500)
  --each N         messages of each of them (default 40, at least 12)
  --folder DIR     where the bot keeps its data (default: a temporary folder)";

/// Aims of the project.
const AIM_MEMORY_MB: f64 = 4.0;
const AIM_MIDDLE: Duration = Duration::from_secs(10);

/// Longest wait for everybody's answers.
const RUSH_END: Duration = Duration::from_secs(10 * 60);

/// People whom each phone registers during the rush; the rest is talk.
const PEOPLE_IN_RUSH: usize = 5;

const KIB_PER_MB: f64 = super::report::KIB_PER_MB;

pub(super) fn run(mut parser: lexopt::Parser) -> Result<()> {
    let (mut bot, mut folder) = (None::<PathBuf>, None::<PathBuf>);
    let (mut phones, mut each) = (500, 40);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bot") => bot = Some(parser.value()?.into()),
            Long("folder") => folder = Some(parser.value()?.into()),
            Long("phones") => phones = parser.value()?.parse()?,
            Long("each") => each = parser.value()?.parse()?,
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("{}\n\n{HELP}", other.unexpected()),
        }
    }
    let program = bot.context("--bot PATH is missing")?;
    ensure!(phones > 0, "nobody writes");
    ensure!(each >= OPENING.len() + 2 * PEOPLE_IN_RUSH, "--each is too little");
    interrupt::watch()?;
    let own_folder;
    let folder = match &folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            folder.as_path()
        }
        None => {
            own_folder = tempfile::Builder::new().prefix("bot-kjp-crowd-").tempdir()?;
            own_folder.path()
        }
    };
    rush(&program, folder, phones, each)
}

/// WhatsApp's side, and a bot that is online.
struct Stage {
    server: WhatsApp,
    account: Handset,
    bot: Bot,
    _home: tempfile::TempDir,
}

impl Stage {
    fn new(program: &Path, folder: &Path, per_chat_per_second: u32, total_per_second: u32) -> Result<Self> {
        let server = WhatsApp::start(Options::default())?;
        let account = server.phone("bot-kjp")?;
        let home = tempfile::Builder::new().prefix("crowd").tempdir_in(folder)?;
        let settings = Settings {
            whatsapp_url: server.url(),
            per_chat_per_second,
            total_per_second,
            log_level: "warn",
            supabase: None,
        };
        let mut bot = Bot::new(program, home.path(), &settings)?;
        bot.pair(&account)?;
        bot.start(&server, account.number())?;
        // Its screen is nobody's business here, and would only take time.
        account.set_online(false);
        interrupt::pause(SETTLE)?;
        Ok(Self { server, account, bot, _home: home })
    }

    fn say(&self, phone: &Handset, text: &str) -> Result<()> {
        interrupt::check()?;
        phone.send_text(self.account.number(), text)?;
        Ok(())
    }
}

fn phones(server: &WhatsApp, count: usize) -> Result<Vec<Handset>> {
    (0..count).map(|n| server.phone(&format!("Keluarga {n}"))).collect()
}

/// The `n`th person of a family.
fn person(family: usize, n: usize) -> Person {
    Person::nth(1, u32::try_from(family * 10 + n).unwrap_or_default())
}

fn rush(program: &Path, folder: &Path, count: usize, each: usize) -> Result<()> {
    let stage = Stage::new(program, folder, super::PER_CHAT_PER_SECOND, super::TOTAL_PER_SECOND)?;
    let writers = phones(&stage.server, count)?;
    let middle = stage.server.phone("Di tengah")?;
    let pid = stage.bot.pid()?;
    let logins = stage.server.logins(stage.account.number())?;
    let idle = Snapshot::of(pid)?;
    progress(&format!("rush: {} messages from {count} phones", count * each));

    let peak = Peak::watch(pid);
    let sent_half = AtomicBool::new(false);
    let started = Instant::now();
    let (sending, answered, in_the_middle) = std::thread::scope(|scope| -> Result<_> {
        let family = scope.spawn(|| -> Result<Duration> {
            wait_until("half of the messages", RUSH_END, || {
                Ok(sent_half.load(Ordering::Relaxed).then_some(()))
            })?;
            let asked = Instant::now();
            stage.say(&middle, "halo")?;
            middle.wait_for(|_| true, RUSH_END)?;
            Ok(asked.elapsed())
        });
        let told = (|| {
            let mut people = vec![0; count];
            for n in 0..each {
                for (family, phone) in writers.iter().enumerate() {
                    let is_person = n >= OPENING.len() && (n - OPENING.len()).is_multiple_of(2);
                    let text = match OPENING.get(n) {
                        Some(text) => (*text).to_owned(),
                        None if is_person && people[family] < PEOPLE_IN_RUSH => {
                            people[family] += 1;
                            person(family, people[family] - 1).lines()
                        }
                        None => format!("terima kasih banyak, ini pesan {n}"),
                    };
                    stage.say(phone, &text)?;
                }
                if n == each / 2 {
                    sent_half.store(true, Ordering::Relaxed);
                }
            }
            let sending = started.elapsed();
            for (family, phone) in writers.iter().enumerate() {
                let last = person(family, PEOPLE_IN_RUSH - 1).nama;
                phone.wait_for(|shown| shown.text.contains(&last), RUSH_END)?;
            }
            wait_until("the bot to acknowledge every message", RUSH_END, || {
                Ok((stage.server.queue_len(stage.account.number())? == 0).then_some(()))
            })?;
            Ok::<_, anyhow::Error>((sending, started.elapsed()))
        })();
        sent_half.store(true, Ordering::Relaxed);
        let in_the_middle = family.join().expect("a family does not panic");
        let (sending, answered) = told?;
        Ok((sending, answered, in_the_middle?))
    })?;
    let mut replies = 0;
    for (family, phone) in writers.iter().enumerate() {
        replies += in_order(family, phone)?;
    }
    ensure!(
        stage.server.logins(stage.account.number())? == logins,
        "the connection was made anew during the rush"
    );
    let above = peak.end().saturating_sub(idle.anonymous_kib) as f64 / KIB_PER_MB;
    let seconds = |time: Duration| time.as_secs_f64();
    println!("rush: {} messages from {count} phones, sent within {:.0} s", count * each, seconds(sending));
    println!("  anonymous memory, idle         {:6.1} MB", idle.anonymous_kib as f64 / KIB_PER_MB);
    println!("  anonymous memory above idle    {above:6.1} MB   (aim: at most {AIM_MEMORY_MB})");
    println!(
        "  answer to a family in between  {:6.1} s    (aim: at most {})",
        seconds(in_the_middle),
        AIM_MIDDLE.as_secs()
    );
    println!(
        "  everything answered after      {:6.0} s    in {replies} replies, in order",
        seconds(answered)
    );
    println!("  connection                     held");
    ensure!(in_the_middle <= AIM_MIDDLE, "the family in between waited too long");
    ensure!(above <= AIM_MEMORY_MB, "too much memory");
    Ok(())
}

/// Every person was told of, once, in the order in which they were sent. Gives the number of replies.
fn in_order(family: usize, phone: &Handset) -> Result<usize> {
    let shown = phone.shown();
    let story: String = shown.iter().map(|shown| format!("{}\n", shown.text)).collect();
    let places: Vec<Option<usize>> =
        (0..PEOPLE_IN_RUSH).map(|n| story.find(&person(family, n).nama)).collect();
    ensure!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "family {family} was not answered in order: {places:?}"
    );
    let ids: HashSet<&str> = shown.iter().map(|shown| shown.id.as_str()).collect();
    ensure!(ids.len() == shown.len(), "family {family} has a message twice");
    Ok(shown.len())
}

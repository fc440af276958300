//! Nobody reads what the bot prints: its streams are closed, their reader is gone, or stands still. The bot serves
//! all the same, and nothing that it opens takes a stream's place.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, Command};
use std::time::Duration;

use bot_kjp::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::bot::{DEADLINE, command};
use super::guest::Guest;
use super::scene::Scene;

/// Longest time until a registration is answered: the bot lets a reader stand still for a second, once.
const SOON: Duration = Duration::from_secs(5);

/// A bot of which nobody reads anything.
struct Unheard(Child);

impl Unheard {
    fn start(scene: &Scene, mut command: Command) -> Self {
        let bot = Self(command.spawn().expect("the bot starts"));
        scene.server.wait_online(scene.operator.number(), DEADLINE).expect("the bot comes online");
        bot
    }

    /// Where a stream leads.
    fn stream(&self, number: u32) -> String {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", self.0.id())).expect("an open stream");
        link.display().to_string()
    }

    /// SIGTERM; how it ended.
    fn terminate(mut self) -> std::process::ExitStatus {
        let told = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.0.id().to_string()]).status();
        assert!(told.expect("sh runs").success());
        self.0.wait().expect("it ends")
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that a bot does for people, each time soon.
fn serves(scene: &Scene) {
    let mut ani = Guest::new(scene, 0);
    for _ in 0..3 {
        let asked = clock::now();
        ani.register_and_wait(scene);
        assert!(clock::since(asked) < SOON, "answered after {:?}", clock::since(asked));
    }
}

/// Waits for something to read, or for room to write.
fn ready(stream: BorrowedFd<'_>, wanted: PollFlags, time: Duration) -> bool {
    let time = Timespec::try_from(time).expect("a time");
    poll(&mut [PollFd::new(&stream, wanted)], Some(&time)).expect("poll") > 0
}

/// A pipe into which nothing more goes, and how much is in it.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    const PAGE: [u8; 4096] = [b'\n'; 4096];
    let (reader, mut writer) = pipe().expect("a pipe");
    let mut inside = 0;
    while ready(writer.as_fd(), PollFlags::OUT, Duration::ZERO) {
        writer.write_all(&PAGE).expect("it is filled");
        inside += PAGE.len();
    }
    (reader, writer, inside)
}

#[test]
fn streams_that_are_closed_are_nobodys_and_no_database_takes_their_place() {
    let scene = Scene::new();
    let bot = scene.home.command(&["run"]);
    let mut closed = command("sh", None);
    closed.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(bot.get_program()).args(bot.get_args());
    closed.envs(bot.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let bot = Unheard::start(&scene, closed);
    for number in 0..3 {
        assert_eq!(bot.stream(number), "/dev/null");
    }
    serves(&scene);
    assert!(bot.terminate().success());
    assert!(scene.home.ledger().count("SELECT count(*) FROM registration") > 0);
}

#[test]
fn a_reader_that_is_gone_costs_nothing_but_the_log() {
    let scene = Scene::new();
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = scene.home.command(&["run"]);
    command.stdout(writer.try_clone().expect("another end")).stderr(writer);
    let bot = Unheard::start(&scene, command);
    drop(reader);
    serves(&scene);
    assert!(bot.terminate().success());
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up_and_is_told_later_what_it_missed() {
    let scene = Scene::new();
    let (mut reader, writer, inside) = full_pipe();
    let mut command = scene.home.command(&["run"]);
    command.stdout(writer.try_clone().expect("another end")).stderr(writer);
    let bot = Unheard::start(&scene, command);
    serves(&scene);
    // It reads again.
    reader.read_exact(&mut vec![0; inside]).expect("what was there before");
    scene.on_the_bot(testbed::Fault::Drop);
    let mut text = String::new();
    let said = |text: &str| text.contains(" lines were lost: nobody read them") && text.contains("terhubung");
    while !said(&text) {
        let mut bytes = [0; 4096];
        assert!(ready(reader.as_fd(), PollFlags::IN, DEADLINE), "the bot prints no more: {text}");
        let read = reader.read(&mut bytes).expect("the bot prints");
        assert!(read > 0, "the bot ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(bot.terminate().success());
}

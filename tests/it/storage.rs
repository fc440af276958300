//! Disks that refuse to write: nothing is lost, and the bot goes on by itself.

use std::process::{Command, Stdio};

use super::bot::Bot;
use super::guest::{Guest, check};
use super::scene::{Scene, until};

/// A bot that goes on when the kernel refuses a file that grows too long, as on a full disk. There,
/// no signal comes with it.
fn run_where_the_disk_can_fill(scene: &Scene) -> Bot {
    run_by(scene, "trap '' XFSZ; exec \"$0\" \"$@\"")
}

/// Runs the bot by a line of shell, in which it is `"$0" "$@"`.
fn run_by(scene: &Scene, shell: &str) -> Bot {
    let plain = scene.home.command(&["run"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", shell])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Bot::start(command)
}

/// Lets the bot write no file beyond so many bytes (`None`: as many as it likes).
fn limit_files(bot: &Bot, bytes: Option<u64>) {
    let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", bot.pid()))
        .arg(format!("--fsize={limit}:unlimited"))
        .status()
        .expect("prlimit runs");
    assert!(status.success(), "{status}");
}

#[test]
fn messages_that_come_while_the_disk_refuses_are_registered_when_it_takes_them_again() {
    let scene = Scene::new();
    let bot = run_where_the_disk_can_fill(&scene);
    let mut ani = Guest::new(&scene, 0);
    let mut budi = Guest::new(&scene, 1);
    ani.register_and_wait(&scene);

    limit_files(&bot, Some(1));
    ani.register(&scene);
    budi.register(&scene);
    bot.wait_for_line("not written, tried again until it is");
    // Somebody who never wrote before: the first message of a session.
    let (_, citras) = scene.customer(2);
    scene.say(&citras, "1");
    let waiting = || scene.server.queue_len(scene.operator.number()).expect("a queue");
    until(|| (waiting() == 3).then_some(())).expect("none of the three is acknowledged");

    limit_files(&bot, None);
    scene.answer_after(&citras, 0);
    check(&scene, bot, &mut [ani, budi]);
}

#[test]
fn a_kill_while_the_disk_refuses_loses_nothing() {
    let scene = Scene::new();
    let bot = run_where_the_disk_can_fill(&scene);
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    limit_files(&bot, Some(1));
    ani.register(&scene);
    bot.wait_for_line("not written, tried again until it is");
    bot.kill();
    check(&scene, scene.run(), &mut [ani]);
}

#[test]
fn a_full_log_does_not_stop_the_bot() {
    let scene = Scene::new();
    let bot = run_by(&scene, "exec \"$0\" \"$@\" 2>/dev/full");
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani]);
}

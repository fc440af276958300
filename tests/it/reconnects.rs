//! Ten thousand reconnects: what a connection leaves behind would show.

use testbed::Fault;

use super::bot::Bot;
use super::guest::{Guest, check};
use super::scene::{Scene, until};

/// How much faster than the clock on the wall the bot lives: a second's wait is ten milliseconds, and
/// a time limit of seconds is still long for a server on the same machine.
const SPEED: &str = "100";

/// Until SQLite's page cache holds the tables that a connection writes to.
const WARM_UP: usize = 2_500;

const RECONNECTS: usize = 10_000;

/// Most that memory may grow, in KiB: less than seven bytes for each reconnect, so that nothing can
/// have been left behind by all of them, neither a task nor a timer.
const GROWTH_KIB: u64 = 64;

/// What a process holds.
#[derive(Debug)]
struct Holdings {
    /// Anonymous memory, in KiB.
    memory: u64,
    threads: u64,
    /// Files, sockets, pipes.
    descriptors: usize,
}

impl Holdings {
    fn of(bot: &Bot) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", bot.pid())).expect("the bot runs").count();
        Self { memory: bot.status("RssAnon"), threads: bot.status("Threads"), descriptors }
    }
}

#[test]
fn ten_thousand_reconnects_leave_nothing_behind() {
    let mut scene = Scene::with(
        "[connection]\nbackoff = [\"1s\"]\nstable = \"1s\"\nattempts_per_hour = 3600\n[log]\nlevel = \"error\"\n",
    );
    scene.home.secret(bot_kjp::clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    let logins = || scene.server.logins(scene.operator.number()).expect("an account");
    let reconnect = || {
        let before = logins();
        scene.on_the_bot(Fault::Drop);
        until(|| (logins() > before).then_some(())).unwrap_or_else(|| panic!("offline:\n{}", bot.output()));
    };
    for _ in 0..WARM_UP {
        reconnect();
    }
    let before = Holdings::of(&bot);
    for _ in 0..RECONNECTS {
        reconnect();
    }
    // A registration's way in and out, as the last thing before either count.
    ani.register_and_wait(&scene);
    let settled = |after: &Holdings| {
        after.memory <= before.memory + GROWTH_KIB
            && after.threads <= before.threads
            && after.descriptors <= before.descriptors
    };
    until(|| settled(&Holdings::of(&bot)).then_some(())).unwrap_or_else(|| {
        panic!("before {before:?}, after {RECONNECTS} reconnects {:?}", Holdings::of(&bot))
    });
    check(&scene, bot, &mut [ani]);
}

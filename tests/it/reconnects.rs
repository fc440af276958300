//! Ten thousand reconnects: what a connection leaves behind would show.

use testbed::Fault;

use super::bot::Bot;
use super::guest::{Guest, check};
use super::health::Page;
use super::scene::{Scene, until};

/// How much faster than the clock on the wall the bot lives: a second's wait is ten milliseconds, and
/// a time limit of seconds is still long for a server on the same machine.
const SPEED: &str = "100";

/// Until every table, cache and buffer that a connection needs has been used.
const WARM_UP: usize = 2_500;

const RECONNECTS: usize = 10_000;

/// Most that the heap may grow, in bytes: less than seven for each reconnect, so that nothing can have
/// been left behind by all of them, neither a task nor a timer.
const HEAP_GROWTH: f64 = 64.0 * 1024.0;

/// Most that resident memory may grow, in KiB. It also keeps what the busiest moment needed, SQLite's page
/// cache and the gaps between what is in use, and how busy that moment is depends on the machine.
const RESIDENT_GROWTH_KIB: u64 = 256;

/// What a process holds.
#[derive(Debug)]
struct Holdings {
    /// Bytes of the heap in use.
    heap: f64,
    /// Anonymous memory, in KiB.
    resident: u64,
    threads: u64,
    /// Files, sockets, pipes.
    descriptors: usize,
}

impl Holdings {
    fn of(bot: &Bot, page: &Page) -> Self {
        let heap = page.metrics()["bot_kjp_heap_bytes"];
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", bot.pid())).expect("the bot runs").count();
        Self { heap, resident: bot.status("RssAnon"), threads: bot.status("Threads"), descriptors }
    }
}

#[test]
fn ten_thousand_reconnects_leave_nothing_behind() {
    let page = Page::new();
    let mut scene = Scene::with(&format!(
        "[connection]\nbackoff = [\"1s\"]\nstable = \"1s\"\nattempts_per_hour = 3600\n[log]\nlevel = \"error\"\n{}",
        page.configuration(),
    ));
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
    ani.register_and_wait(&scene);
    let before = Holdings::of(&bot, &page);
    for _ in 0..RECONNECTS {
        reconnect();
    }
    // A registration's way in and out, as the last thing before either count.
    ani.register_and_wait(&scene);
    let settled = |after: &Holdings| {
        after.heap <= before.heap + HEAP_GROWTH
            && after.resident <= before.resident + RESIDENT_GROWTH_KIB
            && after.threads <= before.threads
            && after.descriptors <= before.descriptors
    };
    until(|| settled(&Holdings::of(&bot, &page)).then_some(())).unwrap_or_else(|| {
        panic!("before {before:?}, after {RECONNECTS} reconnects {:?}", Holdings::of(&bot, &page))
    });
    println!("before {before:?}, after {RECONNECTS} reconnects {:?}", Holdings::of(&bot, &page));
    check(&scene, bot, &mut [ani]);
}

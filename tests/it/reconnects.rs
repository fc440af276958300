//! Ten thousand reconnects: what a connection leaves behind would show.

use super::bot::Home;
use super::guest::{Guest, check};
use super::scene::{Scene, until};
use testbed::Fault;

/// How much faster than the clock on the wall the bot lives: a second's wait is ten milliseconds, and
/// a time limit of seconds is still long for a server on the same machine.
const SPEED: &str = "100";

/// Reconnects until everything that is kept for the next connection is there.
const WARM_UP: usize = 1_000;

const RECONNECTS: usize = 10_000;

/// Most that memory may have grown, in KiB: less than seven bytes for each reconnect.
const GROWTH_KIB: u64 = 64;

#[test]
fn ten_thousand_reconnects_leave_nothing_behind() {
    let n: usize = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(RECONNECTS);
    let mut scene = Scene::with(
        "[connection]\nbackoff = [\"1s\"]\nstable = \"1s\"\nattempts_per_hour = 3600\n\n[health]\nlisten = \"off\"\n",
    );
    scene.home.secret(bot_kjp::clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    let begin = std::time::Instant::now();
    let drop_once = || {
        let logins = || scene.server.logins(scene.operator.number()).expect("an account");
        let before = logins();
        scene.on_the_bot(Fault::Drop);
        until(|| (logins() > before).then_some(())).expect("logged in again");
    };
    for i in 0..n {
        drop_once();
        if i % 100 == 0 {
            eprintln!("{i} {:?} anon {} rss {} fds {}", begin.elapsed(), bot.status("RssAnon"), bot.status("VmRSS"),
                std::fs::read_dir(format!("/proc/{}/fd", bot.pid())).unwrap().count());
        }
    }
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani]);
}

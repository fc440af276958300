//! A box without a clock of its own: it boots in 1970 or in the future, and NTP moves the clock while
//! people register. The day comes from WhatsApp, and nothing is forgotten because of it.

use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::registration::day;

use super::bot::Bot;
use super::guest::{Guest, check};
use super::scene::{Scene, until};

const DAY: i64 = 86_400;

/// A scene whose bot's clock can be set.
struct Wrong {
    scene: Scene,
    error: tempfile::NamedTempFile,
}

impl Wrong {
    fn new() -> Self {
        let error = tempfile::NamedTempFile::new().expect("a file");
        let mut scene = Scene::new();
        scene.home.secret(clock::ERROR_VARIABLE, &error.path().display().to_string());
        Self { scene, error }
    }

    /// The bot's clock differs from the server's by so many seconds from now on.
    fn set(&self, seconds: i64) {
        std::fs::write(self.error.path(), seconds.to_string()).expect("the clock is set");
    }

    /// Days on which people are registered, the earliest first.
    fn days(&self) -> Vec<String> {
        self.scene.home.ledger().texts("SELECT DISTINCT day FROM registration ORDER BY day")
    }
}

/// The server's day when its clock is so many seconds ahead.
fn day_ahead(seconds: i64) -> String {
    day::of(clock::unix_seconds() + seconds).to_string()
}

/// Back to 1970, which a clock cannot go behind.
fn to_1970() -> i64 {
    -clock::unix_seconds()
}

/// 2045.
fn to_the_future() -> i64 {
    19 * 365 * DAY
}

/// Registers people with a clock that is wrong by `first` at the start and by `then` later, and checks that
/// everybody stands on the day on which they wrote.
fn registers_on_the_right_day(first: i64, then: i64) {
    super::scene::enough_of_today();
    let wrong = Wrong::new();
    wrong.set(first);
    let bot = wrong.scene.run();
    let mut ani = Guest::new(&wrong.scene, 0);
    ani.register_and_wait(&wrong.scene);
    let today = day_ahead(0);
    assert_eq!(wrong.days(), [&*today]);
    // NTP arrives.
    wrong.set(then);
    ani.register_and_wait(&wrong.scene);
    assert_eq!(wrong.days(), [&*today]);
    // A day later, by WhatsApp's clock alone.
    wrong.scene.server.set_clock_ahead(DAY);
    ani.say(&wrong.scene, "1");
    ani.wait_answered();
    ani.say(&wrong.scene, "3");
    ani.wait_answered();
    ani.register_and_wait(&wrong.scene);
    assert_eq!(wrong.days(), [today, day_ahead(DAY)]);
    check(&wrong.scene, bot, &mut [ani]);
}

#[test]
fn a_boot_in_1970_registers_on_the_right_day_and_ntp_changes_nothing() {
    registers_on_the_right_day(to_1970(), 0);
}

#[test]
fn a_boot_in_2045_registers_on_the_right_day_and_ntp_changes_nothing() {
    registers_on_the_right_day(to_the_future(), 0);
}

#[test]
fn a_clock_that_becomes_wrong_while_people_register_changes_nothing() {
    registers_on_the_right_day(0, to_the_future());
}

#[test]
fn no_clock_makes_the_bot_forget_anything_and_the_time_is_known_in_its_next_life() {
    let wrong = Wrong::new();
    let bot = wrong.scene.run();
    let mut ani = Guest::new(&wrong.scene, 0);
    ani.register_and_wait(&wrong.scene);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    let rows = || {
        let count = |table: &str| wrong.scene.home.ledger().count(&format!("SELECT count(*) FROM {table}"));
        ["inbound_message", "conversation", "registration", "wa_session", "wa_identity", "wa_lid_mapping"]
            .map(|table| (table, count(table)))
    };
    let before = rows();
    let known = || wrong.scene.home.ledger().count("SELECT coalesce(max(at), 0) FROM known_time");
    let mut latest = 0;
    for error in [to_the_future(), to_1970(), -400 * DAY, 400 * DAY] {
        wrong.set(error);
        let bot: Bot = wrong.scene.run();
        bot.wait_for_line("terhubung ke WhatsApp");
        ani.say(&wrong.scene, "2");
        ani.wait_answered();
        let (status, _) = bot.terminate();
        assert!(status.success(), "{status}");
        for ((table, now), (_, before)) in rows().into_iter().zip(before) {
            assert!(now >= before, "{table}: {now} of {before} rows");
        }
        until(|| (known() >= latest).then_some(())).expect("the time never steps back");
        latest = known();
        assert!(latest.abs_diff(clock::unix_seconds()) < Duration::from_secs(300).as_secs(), "{latest}");
    }
    wrong.set(0);
    check(&wrong.scene, wrong.scene.run(), &mut [ani]);
}

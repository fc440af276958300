//! A box that has no random numbers yet when the bot starts, as after power-on where no generator and no boot loader
//! gives the kernel any.

use testbed::machine::Machine;

use super::scene::{Scene, until};
use super::systemd::Serving;

/// How long the service manager of the test allows for a start, and the seconds for which there are no random numbers:
/// more than that, and more than one word of the bot puts off.
const START_SECONDS: u32 = 10;
const WITHOUT: f64 = 75.0;

/// The bot may not ask the kernel directly, so it looks whether there is something to be read at /dev/random, which is
/// a pipe here. Nobody writes to it until the test does.
const RANDOM: &str = "/run/random";

fn uptime(machine: &Machine) -> f64 {
    let up = machine.print("cut -d' ' -f1 /proc/uptime").expect("the box answers");
    up.trim().parse().expect("seconds")
}

#[test]
fn a_kernel_without_a_seed_makes_random_numbers_because_the_bot_waits_for_them() {
    let scene = Scene::with_busybox();
    let machine = scene.switch_on_without_seed();
    machine.wait_booted().expect("the box boots");
    for part in ["the kernel has no random numbers yet", "the kernel has random numbers, after"] {
        until(part, || machine.console().contains(part).then_some(()));
    }
    scene.pair(&machine);
    scene.register_the_first();
}

#[test]
fn systemd_waits_for_a_bot_that_waits_for_random_numbers_and_says_why() {
    let serving = Serving::new();
    let (server, scene) = (&serving.server, &serving.server.scene);
    server.print(&format!("mkfifo -m 644 {RANDOM}; mkdir -p /run/systemd/system/bot-kjp.service.d"));
    let drop_in = format!(
        "[Service]\nTimeoutStartSec={START_SECONDS}\nWatchdogSec=15\nSystemCallFilter=~getrandom\n\
         BindPaths={RANDOM}:/dev/random\n"
    );
    let file = "/run/systemd/system/bot-kjp.service.d/random.conf";
    server.machine.write(file, drop_in.as_bytes(), 0o644).expect("written");
    server.print("systemctl daemon-reload; systemctl reset-failed; systemctl restart --no-block bot-kjp");
    scene.wait_offline();
    let says_why = || server.property("StatusText").contains("belum punya bilangan acak").then_some(());
    until("the bot to say what it waits for", says_why);
    let (begun, pid) = (uptime(&server.machine), server.property("MainPID"));
    until("enough time", || (uptime(&server.machine) > begun + WITHOUT).then_some(()));
    let stands = ["ActiveState", "NRestarts", "MainPID"].map(|name| server.property(name));
    assert_eq!(stands, ["activating", "0", &pid], "{}", server.journal());

    // What is written stays there to be read.
    server.print(&format!("setsid sh -c 'echo random; exec sleep 1000' >{RANDOM} 2>/dev/null &"));
    server.wait_for("ActiveState", "active");
    assert_eq!(server.property("MainPID"), pid);
    scene.wait_online();
    serving.register(1);
    let journal = server.journal();
    assert!(journal.contains("the kernel has random numbers, after"), "{journal}");
}

//! A box is switched on, and that is all that anybody does.

use bot_kjp::clock;
use bot_kjp::registration::day;
use testbed::machine::Machine;

use super::scene::{Scene, until};

#[test]
fn a_box_that_is_switched_on_pairs_serves_and_comes_back_when_the_bot_is_killed() {
    let scene = Scene::with_busybox();
    let machine = scene.switch_on();
    machine.wait_booted().expect("the box boots");
    println!("booted after {:?}", machine.uptime());
    scene.pair(&machine);

    let (ani, phone) = scene.register_the_first();
    scene.wait_for_rows("SELECT count(*) FROM data_harian", "1");

    // It runs as its own user, and its data is its own.
    let of_bot = |command: &str| machine.print(command).expect("the box answers").trim().to_owned();
    let pid = || of_bot("cat /run/bot-kjp/bot-kjp.pid");
    let first = pid();
    assert_eq!(of_bot(&format!("stat -c %U /proc/{first}")), "bot-kjp");
    assert_eq!(of_bot("stat -c '%U %a' /var/lib/bot-kjp"), "bot-kjp 700");
    assert!(of_bot("mount | grep ' /var/lib '").contains("data=writeback"));

    machine.print(&format!("kill -9 {first}")).expect("the bot is killed");
    scene.wait_offline();
    scene.wait_online();
    assert_ne!(pid(), first, "the supervisor started another one");
    let answer = scene.ask(&phone, &ani.registration_text(1));
    assert!(answer.contains("berhasil"), "{answer}");
    scene.wait_for_rows("SELECT count(*) FROM data_harian", "2");

    let status = machine.run("/etc/init.d/bot-kjp status").expect("the box answers");
    assert_eq!(status.code, 0, "{}", status.text);
    let log = machine.console();
    assert!(log.contains("Bot terhubung ke WhatsApp"), "the console shows the bot's log:\n{log}");
    for n in 0..2 {
        let person = ani.person(n);
        for number in [&person.nik, &person.kjp, &person.kk] {
            assert!(!log.contains(number.as_str()), "the log shows {number}");
        }
    }

    // Switched off in good order and on again.
    machine.shut_down().expect("the box shuts down");
    scene.wait_offline();
    let machine = scene.switch_on();
    scene.wait_online();
    println!("served {:?} after it was switched on", machine.uptime());
    let list = scene.ask(&phone, "2");
    assert!(list.contains(&ani.person(0).nama) && list.contains(&ani.person(1).nama), "{list}");
    assert_eq!(phone.failed_decryptions(), 0);
    machine.shut_down().expect("the box shuts down");
    assert_eq!(scene.registrations(), 2);
}

#[test]
fn a_box_that_boots_in_1970_serves_the_right_day_and_loses_nothing_when_its_disk_becomes_read_only() {
    let scene = Scene::with_busybox();
    let machine = scene.switch_on_at("1970-01-01T00:00:00");
    machine.wait_booted().expect("the box boots");
    let year = |machine: &Machine| machine.print("date -u +%Y").expect("the box answers").trim().to_owned();
    assert_eq!(year(&machine), "1970");
    scene.pair(&machine);

    let (ani, phone) = scene.customer(0);
    let begun = day::of(clock::unix_seconds()).to_string();
    scene.ask(&phone, "1");
    scene.ask(&phone, "3");
    let answer = scene.ask(&phone, &ani.registration_text(0));
    assert!(answer.contains("berhasil"), "{answer}");
    // NTP arrives.
    machine.print(&format!("date -u -s @{}", clock::unix_seconds())).expect("the clock is set");
    assert_ne!(year(&machine), "1970");
    let answer = scene.ask(&phone, &ani.registration_text(1));
    assert!(answer.contains("berhasil"), "{answer}");
    scene.wait_for_rows("SELECT count(*) FROM data_harian", "2");
    let ended = day::of(clock::unix_seconds()).to_string();
    let days = scene.supabase.query("SELECT DISTINCT processing_day_key FROM data_harian").expect("rows");
    assert!(days.iter().all(|day| [&begun, &ended].contains(&&day[0])), "{days:?}");

    // As the kernel does it when it finds an error on it.
    machine.print("mount -o remount,abort /var/lib || true").expect("the box answers");
    until("the disk to be read-only", || {
        (machine.run("touch /var/lib/x").expect("the box answers").code != 0).then_some(())
    });
    let shown = phone.shown().len();
    phone.send_text(scene.operator.number(), &ani.registration_text(2)).expect("the message is sent");
    until("the bot to say that it cannot write", || {
        machine.console().contains("not written, tried again until it is").then_some(())
    });
    let waiting = scene.server.queue_len(scene.operator.number()).expect("a queue");
    assert_eq!((waiting, phone.shown().len()), (1, shown), "neither acknowledged nor answered");

    machine.power_cut().expect("the power goes");
    scene.wait_offline();
    let machine = scene.switch_on();
    machine.wait_booted().expect("the box boots");
    let answer = until("the answer to what came meanwhile", || phone.shown().get(shown).cloned());
    assert!(answer.text.contains("berhasil"), "{answer:?}");
    assert_ne!(year(&machine), "1970");
    machine.shut_down().expect("the box shuts down");
    assert_eq!(scene.registrations(), 3);
}

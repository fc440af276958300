//! More people than replies can leave: everybody is answered in turn and in order, nobody's flood is another
//! one's wait, and what cannot be kept waits at WhatsApp.
//!
//! The same in full size is `scripts/bench crowd`.

use std::fs;
use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::ledger::outbox::{CROWDED, MOST_PER_CHAT};
use bot_kjp::whatsapp::backlog::{LONGEST_HOLD, MOST_LIVE};
use testbed::Handset;
use testbed::customers::Person;

use super::bot::Bot;
use super::health::Page;
use super::scene::{Scene, until};

/// Sets how fast replies may leave, per chat and in all; the other tests' bots answer as fast as they can.
fn at_pace(scene: &Scene, per_chat: u32, total: u32) {
    let file = scene.home.path().join("config.toml");
    let config = fs::read_to_string(&file).expect("the configuration");
    let fast = "per_chat_per_second = 100\ntotal_per_second = 100\n";
    assert!(config.contains(fast), "{config}");
    let pace = format!("per_chat_per_second = {per_chat}\ntotal_per_second = {total}\n");
    fs::write(&file, config.replacen(fast, &pace, 1)).expect("the configuration is written");
}

fn phones(scene: &Scene, count: usize) -> Vec<Handset> {
    (0..count).map(|n| scene.server.phone(&format!("Keluarga {n}")).expect("a phone")).collect()
}

/// The `n`th person of a family.
fn person(family: usize, n: usize) -> Person {
    Person::nth(3, u32::try_from(family * 10 + n).expect("few families"))
}

/// Whether the phone shows both people of a family, the first one first.
fn told_of_both(phone: &Handset, family: usize) -> bool {
    let story: String = phone.shown().into_iter().map(|shown| shown.text + "\n").collect();
    let places = [0, 1].map(|n| story.find(&person(family, n).nama));
    assert!(places[1].is_none() || places.is_sorted(), "family {family} was answered out of order: {story}");
    places[1].is_some()
}

/// Waits until everybody has what `answered` looks for.
fn wait_for_all(phones: &[Handset], bot: &Bot, mut answered: impl FnMut(&Handset, usize) -> bool) {
    let mut open: Vec<usize> = (0..phones.len()).collect();
    until(|| {
        open.retain(|family| !answered(&phones[*family], *family));
        open.is_empty().then_some(())
    })
    .unwrap_or_else(|| panic!("families {open:?} have no last answer; the bot printed:\n{}", bot.output()));
}

fn logins(scene: &Scene) -> u64 {
    scene.server.logins(scene.operator.number()).expect("an account")
}

#[test]
fn who_floods_holds_three_replies_and_a_family_is_answered_in_its_turn() {
    const PHONES: usize = 30;
    const EACH: usize = 60;
    let scene = Scene::new();
    at_pace(&scene, 1, 5);
    let bot = scene.run();
    bot.wait_for_line("terhubung ke WhatsApp");
    let flooding = phones(&scene, PHONES);
    let family = scene.server.phone("Keluarga").expect("a phone");
    for n in 0..EACH {
        for phone in &flooding {
            scene.say(phone, &format!("terima kasih, pesan ke-{n}"));
        }
    }
    let received = || scene.home.ledger().count("SELECT count(*) FROM inbound_message");
    until(|| (received() >= (PHONES * EACH) as i64).then_some(())).expect("all is received");
    let held = "SELECT max(held) FROM (SELECT count(*) AS held FROM outbox GROUP BY chat)";
    let most = scene.home.ledger().count(held);
    assert!((1..=MOST_PER_CHAT as i64).contains(&most), "a chat holds {most} replies");
    let asked = clock::now();
    scene.ask(&family, "halo");
    // One round of all that wait takes six seconds; one reply for each of their messages, six minutes.
    assert!(clock::since(asked) < Duration::from_secs(20), "{:?}", clock::since(asked));
    until(|| (scene.home.ledger().count("SELECT count(*) FROM outbox") == 0).then_some(()))
        .expect("all replies leave");
    for phone in &flooding {
        assert!(phone.shown().len() < EACH / 2 && phone.shown().iter().all(|shown| shown.copies == 1));
    }
}

#[test]
fn a_busy_morning_takes_about_one_reply_for_each_family_and_no_verdict_is_lost_in_a_power_cut() {
    const FAMILIES: usize = 140;
    let scene = Scene::new();
    at_pace(&scene, 1, 20);
    let bot = scene.run();
    bot.wait_for_line("terhubung ke WhatsApp");
    let families = phones(&scene, FAMILIES);
    for text in ["halo", "1", "3"] {
        for phone in &families {
            scene.say(phone, text);
        }
    }
    for n in 0..2 {
        for (family, phone) in families.iter().enumerate() {
            scene.say(phone, &person(family, n).lines());
        }
    }
    let registered = || scene.home.ledger().count("SELECT count(*) FROM registration");
    until(|| (registered() == 2 * FAMILIES as i64).then_some(())).expect("everybody is registered");
    assert!(scene.home.ledger().count("SELECT count(*) FROM outbox") > 0, "many still wait");
    bot.kill();
    let bot = scene.run();
    wait_for_all(&families, &bot, told_of_both);
    let shown: Vec<_> = families.iter().flat_map(Handset::shown).collect();
    // Five messages each; before it was crowded, three of the replies waited.
    let most = 2 * FAMILIES + CROWDED as usize;
    assert!(shown.len() <= most, "{} replies for {FAMILIES} families", shown.len());
}

#[test]
fn who_waits_for_long_is_on_the_page_and_the_operator_hears_of_it_before_they_are_served() {
    /// The line has been up for two minutes after 24 seconds; WhatsApp's answers still come in time on a busy machine.
    const SPEED: u32 = 5;
    const FAMILIES: usize = 500;
    /// How far WhatsApp's clock, by which they wait, is set ahead, in seconds.
    const LATE: i64 = 10 * 60;
    let page = Page::new();
    let mut scene = Scene::with(&page.configuration());
    let deputy = scene.server.phone("Wakil").expect("a phone");
    scene.home.add_to_config(&format!("\n[alert]\noperators = [{:?}]\n", deputy.number()));
    at_pace(&scene, 1, 1);
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let families = phones(&scene, FAMILIES);
    for phone in &families {
        scene.say(phone, "halo");
    }
    let bot = scene.run();
    until(|| families.iter().any(|phone| !phone.shown().is_empty()).then_some(())).expect("the first answer");
    scene.server.set_clock_ahead(LATE);
    let told = until(|| deputy.shown().into_iter().find(|shown| shown.text.contains("(outbox.late)")))
        .unwrap_or_else(|| panic!("the operator is not told:\n{}", bot.output()));
    assert!(told.text.contains("orang menunggu balasan"), "{}", told.text);
    let waiting = families.iter().filter(|phone| phone.shown().is_empty()).count();
    assert!(waiting > 50, "only {waiting} families still waited when the operator heard of it");
    let metrics = page.metrics();
    assert!(metrics["bot_kjp_outbox_chats_waiting"] > 0.0);
    assert!(metrics["bot_kjp_outbox_longest_wait_seconds"] > 120.0);
}

#[test]
fn while_the_disk_refuses_what_comes_waits_at_whatsapp_and_the_connection_holds() {
    const PHONES: usize = 20;
    const EACH: usize = 40;
    let page = Page::new();
    let scene = Scene::on_disk(16, &page.configuration());
    let bot = scene.run();
    bot.wait_for_line("terhubung ke WhatsApp");
    let writers = phones(&scene, PHONES);
    for phone in &writers {
        scene.ask(phone, "halo");
    }
    let before = logins(&scene);
    scene.home.disk().fill(0);
    for n in 0..EACH {
        for phone in &writers {
            scene.say(phone, &format!("terima kasih, pesan ke-{n}"));
        }
    }
    bot.wait_for_line("not written, tried again until it is");
    let queued = || scene.server.queue_len(scene.operator.number()).expect("a queue");
    // Longer than whatsapp-rust keeps a connection on which nothing comes.
    let (begun, mut most) = (clock::now(), 0.0_f64);
    let patience = 5 * LONGEST_HOLD;
    while clock::since(begun) < patience {
        most = most.max(page.metrics()["bot_kjp_backlog_messages"]);
        std::thread::sleep(Duration::from_millis(500));
    }
    // One slips past the count, and one is handed over after each hold.
    let allowed = MOST_LIVE + 3 + usize::try_from(patience.as_secs() / LONGEST_HOLD.as_secs()).expect("few");
    assert!(most > MOST_LIVE as f64 - 1.0 && most <= allowed as f64, "{most} messages lay inside");
    let received = "SELECT count(*) FROM inbound_message";
    let durable = usize::try_from(scene.home.ledger().count(received)).expect("a number") - PHONES;
    assert!(durable < PHONES * EACH / 2, "{durable} found room on a full disk");
    assert_eq!(queued(), PHONES * EACH - durable, "none is acknowledged that is not durable");
    scene.home.disk().empty();
    until(|| (queued() == 0).then_some(())).unwrap_or_else(|| panic!("they stay:\n{}", bot.output()));
    assert_eq!(scene.home.ledger().count(received), (PHONES * (EACH + 1)) as i64);
    assert_eq!(logins(&scene), before, "the connection held");
}

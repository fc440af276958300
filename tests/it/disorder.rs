//! Messages that come out of order, twice, again, late or spoiled, and connections that fail at
//! the wrong moment: the right people are registered and every message gets its one answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::ledger::outbox::MAX_ATTEMPTS;

use testbed::{Addressing, Child, Fault};

use super::bot::DEADLINE;
use super::ends::{toll, was_cheap};
use super::guest::{Guest, check, check_all_sent_once, wait_acknowledged};
use super::scene::Scene;
use super::seed;

/// How long the bot waits for an ack on a connection that stands.
const ACK_DEADLINE: Duration = Duration::from_secs(20);

const CUSTOMERS: usize = 10;
const REGISTRATIONS_EACH: usize = 5;

#[test]
fn messages_that_overtake_each_other_are_all_registered() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    scene.on_the_bot(Fault::Reorder { count: Some(2) });
    let ids: Vec<String> = (0..4).map(|_| ani.register(&scene)).collect();
    let ledger = check_all_sent_once(&scene, bot, &mut [ani]);
    let arrived = ledger.texts("SELECT message_id FROM registration ORDER BY id");
    assert_eq!(arrived, [1, 0, 3, 2].map(|n: usize| ids[n].clone()), "they did overtake each other");
}

#[test]
fn a_message_delivered_twice_is_answered_once() {
    let scene = Scene::new();
    let bot = scene.run();
    scene.on_the_bot(Fault::Duplicate { count: None });
    let mut ani = Guest::new(&scene, 0);
    for _ in 0..3 {
        ani.register(&scene);
    }
    check_all_sent_once(&scene, bot, &mut [ani]);
}

#[test]
fn a_message_replayed_later_changes_nothing() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let id = ani.register_and_wait(&scene);
    scene.on_the_bot(Fault::Replay { id: id.clone() });
    ani.register_and_wait(&scene);
    // Nor when the bot has forgotten everything but its ledger.
    wait_acknowledged(&scene);
    let _ = bot.terminate();
    scene.on_the_bot(Fault::Replay { id });
    check_all_sent_once(&scene, scene.run(), &mut [ani]);
}

#[test]
fn messages_that_waited_while_the_bot_was_off_are_all_answered() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut guests = [Guest::new(&scene, 0), Guest::new(&scene, 1)];
    wait_acknowledged(&scene);
    let _ = bot.terminate();
    // What waits may be doubled and out of order as well.
    scene.on_the_bot(Fault::Duplicate { count: Some(3) });
    for _ in 0..4 {
        for guest in &mut guests {
            guest.register(&scene);
        }
    }
    assert!(scene.server.queue_len(scene.operator.number()).expect("a queue") >= 8);
    check_all_sent_once(&scene, scene.run(), &mut guests);
}

#[test]
fn messages_that_whatsapp_held_back_are_answered_when_they_come() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    scene.on_the_bot(Fault::HoldOffline);
    for _ in 0..3 {
        ani.register(&scene);
    }
    assert_eq!(scene.server.queue_len(scene.operator.number()).expect("a queue"), 3);
    scene.server.clear_faults();
    check_all_sent_once(&scene, bot, &mut [ani]);
}

#[test]
fn a_message_that_cannot_be_decrypted_is_asked_for_again_and_answered() {
    let scene = Scene::new();
    let bot = scene.run();
    // The very first message sets up the session; it is spoiled like the later ones.
    scene.on_the_bot(Fault::Corrupt { count: Some(1) });
    let mut ani = Guest::new(&scene, 0);
    // Twice: the repetition is spoiled too.
    for times in [1, 2] {
        scene.on_the_bot(Fault::Corrupt { count: Some(times) });
        let id = ani.register_and_wait(&scene);
        assert!(ani.phone.asked_again(&id), "the bot asked for a retry");
    }
    check_all_sent_once(&scene, bot, &mut [ani]);
}

#[test]
fn an_answer_that_cannot_be_decrypted_is_sent_again_when_the_phone_asks() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    scene.server.fault_on(ani.phone.number(), Fault::Corrupt { count: Some(1) }).expect("the fault is set");
    ani.register_and_wait(&scene);
    assert_eq!(ani.phone.failed_decryptions(), 1);

    // The phone forgets its sessions between the message and the answer, as by a reinstallation.
    scene.on_the_bot(Fault::HoldOffline);
    ani.register(&scene);
    ani.phone.forget_sessions(scene.operator.number()).expect("the sessions are forgotten");
    scene.server.clear_faults();
    ani.wait_answered();
    assert_eq!(ani.phone.failed_decryptions(), 2);
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_connection_that_drops_in_mid_conversation_loses_no_message_and_no_answer() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    ani.register(&scene);
    scene.on_the_bot(Fault::Drop);
    ani.register(&scene);
    bot.wait_for_line("connection: lost");
    ani.register_and_wait(&scene);
    scene.on_the_bot(Fault::Drop);
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_receipt_that_is_lost_with_the_connection_is_given_again_on_the_next_one() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let mut lose_the_receipt = || {
        let connections = scene.server.connections();
        scene.on_the_bot(Fault::LoseReceipts { count: Some(1) });
        let id = ani.register_and_wait(&scene);
        ani.phone.wait_delivered(&id, DEADLINE).expect("the customer sees two ticks");
        assert!(scene.server.connections() > connections, "the receipt was lost with its connection");
        id
    };
    lose_the_receipt();
    // The same with a message that had to be asked for again.
    scene.on_the_bot(Fault::Corrupt { count: Some(1) });
    let id = lose_the_receipt();
    assert!(ani.phone.asked_again(&id), "the bot asked for a retry");
    check(&scene, bot, &mut [ani]);
}

#[test]
fn an_answer_whose_ack_is_lost_with_the_connection_is_sent_again_at_once_under_the_same_id() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    // whatsapp-rust announces only the first of these losses.
    for (end, resent) in [(Fault::Drop, 1), (Fault::stream_error(515), 2)] {
        scene.on_the_bot(Fault::SwallowAcks { class: "message".into(), count: Some(1) });
        ani.register_and_wait(&scene);
        assert_eq!(scene.server.resent(), resent - 1);
        let lost = clock::now();
        scene.on_the_bot(end);
        ani.register_and_wait(&scene);
        assert_eq!(scene.server.resent(), resent);
        assert!(clock::since(lost) < ACK_DEADLINE, "it was sent again after {:?}", clock::since(lost));
    }
    check(&scene, bot, &mut [ani]);
}

#[test]
fn an_answer_whose_ack_never_comes_is_sent_again_under_the_same_id() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    scene.on_the_bot(Fault::SwallowAcks { class: "message".into(), count: Some(1) });
    ani.register_and_wait(&scene);
    // The next answer waits its turn until the bot's patience with the first one ends.
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani]);
    assert_eq!(scene.server.resent(), 1);
}

#[test]
fn an_answer_is_not_given_up_for_a_line_that_goes_dead_under_it_however_often() {
    const LOST: u32 = MAX_ATTEMPTS + 5;
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, "40");
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let before = scene.server.logins(scene.operator.number()).expect("an account");
    scene.on_the_bot(Fault::LoseMessages { count: Some(LOST) });
    ani.register_and_wait(&scene);
    let logins = scene.server.logins(scene.operator.number()).expect("an account") - before;
    assert!(logins >= u64::from(LOST), "{logins} logins: each of {LOST} connections died with the answer");
    check(&scene, bot, &mut [ani]);
}

#[test]
fn an_answer_that_is_never_acknowledged_is_given_up_in_the_end_and_the_next_one_passes() {
    let mut scene = Scene::new();
    // Faster, and on a busy machine WhatsApp's side is slow enough to be taken for dead.
    scene.home.secret(clock::SPEED_VARIABLE, "100");
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    scene.on_the_bot(Fault::SwallowAcks { class: "message".into(), count: None });
    scene.ask(&phone, &ani.registration_text(0));
    // That takes ten thousand seconds of its life, on a line that carries nothing else.
    let deadline = clock::now() + 3 * DEADLINE;
    while !bot.output().contains("given up: too many attempts") {
        assert!(clock::now() < deadline, "not given up:\n{}", bot.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    scene.server.clear_faults();
    let answer = scene.ask(&phone, &ani.registration_text(1));
    assert!(answer.contains(&ani.person(1).nama), "{answer}");
    assert!(scene.server.resent() + 1 >= u64::from(MAX_ATTEMPTS), "{} times", scene.server.resent() + 1);
    let _ = bot.terminate();
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL"), 1);
}

#[test]
fn an_answer_that_whatsapp_refuses_for_good_is_given_up_visibly_and_the_next_one_passes() {
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    let before = toll(&scene, &bot);
    // At each of the two addresses of a person.
    scene.on_the_bot(Fault::RejectMessages { code: 479, count: Some(2) });
    scene.say(&phone, &ani.registration_text(0));
    bot.wait_for_line("given up");
    let answer = scene.ask(&phone, &ani.registration_text(1));
    assert!(answer.contains(&ani.person(1).nama), "{answer}");
    assert_eq!(phone.shown().len(), 3, "two choices and the second registration");
    was_cheap(&scene, &bot, before, 0);

    let _ = bot.terminate();
    let ledger = scene.home.ledger();
    assert_eq!(ledger.count("SELECT count(*) FROM registration"), 2, "both people are registered");
    assert_eq!(ledger.count("SELECT count(*) FROM outbox"), 1);
    let reasons = ledger.texts("SELECT failed_reason FROM outbox WHERE failed_at IS NOT NULL");
    assert!(reasons.len() == 1 && reasons[0].contains("479"), "{reasons:?}");
}

#[test]
fn connections_handshakes_and_logins_that_fail_are_tried_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    for fault in [
        Fault::Refuse { count: Some(1) },
        Fault::RefuseHandshake { count: Some(1) },
        Fault::FailLogin { reason: 503, attrs: BTreeMap::new(), count: Some(1) },
    ] {
        scene.server.fault(fault).expect("the fault is set");
    }
    scene.on_the_bot(Fault::Drop);
    ani.register_and_wait(&scene);
    bot.wait_until_online_again();
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_handshake_that_stalls_is_given_up_and_tried_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    scene.server.fault(Fault::StallHandshake { count: Some(1) }).expect("the fault is set");
    scene.on_the_bot(Fault::Drop);
    ani.register_and_wait(&scene);
    bot.wait_until_online_again();
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_connection_that_is_dead_but_open_is_replaced() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    // The bot still waits for the ack of this answer when the line goes dead.
    scene.on_the_bot(Fault::SwallowAcks { class: "message".into(), count: Some(1) });
    ani.register_and_wait(&scene);
    scene.on_the_bot(Fault::Mute);
    // Either whatsapp-rust misses the answer to a ping, or the transport misses everything.
    bot.wait_until_online_again();
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani]);
    assert_eq!(scene.server.resent(), 1, "the answer without an ack was sent again");
}

#[test]
fn groups_statuses_newsletters_and_own_messages_are_ignored() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let (budi, budis) = scene.customer(1);
    let say = |phone: &testbed::Handset, to: &str, n: usize| {
        phone.send_text(to, &budi.registration_text(n)).expect("the message is sent")
    };
    for addressing in [Addressing::Pn, Addressing::Lid] {
        let group = scene.server.group("Sembako", &[&budis, &scene.operator], addressing).expect("a group");
        say(&budis, &group, 0);
        say(&scene.operator, &group, 1);
    }
    // The operator writes to itself and to people.
    say(&scene.operator, scene.operator.number(), 4);
    say(&scene.operator, budis.number(), 5);
    // Those see it that Budi has written with: the operator.
    say(&budis, "status@broadcast", 2);
    let newsletter = Fault::Send {
        tag: "message".into(),
        attrs: [
            ("from", "120363000000000001@newsletter"),
            ("id", "N1"),
            ("server_id", "1"),
            ("type", "text"),
            ("t", "1750000000"),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into(),
        // A protobuf message whose text is "1".
        child: Some(Child { tag: "plaintext".into(), attrs: BTreeMap::new(), text: Some("\n\u{1}1".into()) }),
        close: false,
    };
    scene.on_the_bot(newsletter);

    ani.register_and_wait(&scene);
    let operators = scene.operator.number();
    assert!(budis.shown().iter().all(|shown| shown.from != operators || !shown.text.contains("berhasil")));
    check_all_sent_once(&scene, bot, &mut [ani]);
    assert_eq!(scene.home.ledger().count("SELECT count(DISTINCT sender) FROM inbound_message"), 1);
}

#[test]
fn any_mixture_of_faults_ends_in_the_right_registrations() {
    let mut random = seed::announce("disorder");
    let scene = Scene::new();
    let bot = scene.run();
    let mut guests: Vec<Guest> = (0..CUSTOMERS).map(|n| Guest::new(&scene, n)).collect();
    let mut left: Vec<usize> =
        (0..CUSTOMERS).flat_map(|guest| std::iter::repeat_n(guest, REGISTRATIONS_EACH)).collect();
    while !left.is_empty() {
        let guest = left.swap_remove(random.below(left.len()));
        match random.below(12) {
            0..3 => scene.on_the_bot(Fault::Duplicate { count: Some(1) }),
            3..5 => scene.on_the_bot(Fault::Reorder { count: Some(1) }),
            5..7 => scene.on_the_bot(Fault::Corrupt { count: Some(1) }),
            7 => {
                scene.on_the_bot(Fault::SwallowAcks { class: "message".into(), count: Some(1) });
                // Whoever has that answer counts as one who waits for it.
                guests.iter_mut().for_each(|guest| guest.piled = true);
            }
            8 => scene.on_the_bot(Fault::Drop),
            9 => scene
                .server
                .fault_on(guests[guest].phone.number(), Fault::Corrupt { count: Some(1) })
                .expect("the fault is set"),
            _ => {}
        }
        guests[guest].register(&scene);
        // Now and then the bot gets the time to answer.
        if random.below(4) == 0 {
            guests[guest].wait_answered();
        }
    }
    scene.server.clear_faults();
    check(&scene, bot, &mut guests);
}

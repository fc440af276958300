//! Disks that refuse to write: nothing is lost, and the bot goes on by itself.

use std::process::{Command, Stdio};

use std::time::Duration;

use bot_kjp::clock;
use testbed::customers::Customer;
use testbed::{Fault, Handset, SendAs, text_message};

use super::bot::{Bot, Ledger};
use super::guest::{Guest, check};
use super::scene::{Scene, until};
use super::seed::{self, Random};

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

/// Registrations of one customer, each answered before the next is sent, and what the answers said.
struct Registrant {
    customer: Customer,
    phone: Handset,
    asked: usize,
}

impl Registrant {
    fn new(scene: &Scene, n: usize) -> Self {
        let (customer, phone) = scene.customer(n);
        scene.choose_foodstation(&phone);
        Self { customer, phone, asked: 0 }
    }

    fn ask(&mut self, scene: &Scene) {
        scene.say(&self.phone, &self.customer.registration_text(self.asked));
        self.asked += 1;
    }

    fn is_answered(&self) -> bool {
        // Two choices came first.
        self.phone.shown().len() >= self.asked + 2
    }

    /// The answers to the registrations, once all are there.
    fn answers(&self, bot: &Bot) -> Vec<String> {
        let answered = || self.is_answered().then(|| self.phone.shown());
        let shown = until(answered).unwrap_or_else(|| {
            panic!(
                "{} asked {} times in vain; the bot printed:\n{}",
                self.phone.name(),
                self.asked,
                bot.output()
            )
        });
        assert_eq!(shown.len(), self.asked + 2, "{shown:#?}");
        assert!(shown.iter().all(|shown| shown.copies == 1), "{shown:#?}");
        shown.into_iter().skip(2).map(|shown| shown.text).collect()
    }

    /// Everybody whom an answer called registered is, and nobody else; returns how many those are.
    fn check(&self, answers: &[String], ledger: &Ledger) -> usize {
        let mut registered = 0;
        for (n, answer) in answers.iter().enumerate() {
            let person = self.customer.person(n);
            let rows =
                ledger.count(&format!("SELECT count(*) FROM registration WHERE no_ktp = '{}'", person.nik));
            let refused = answer.contains("belum terdaftar");
            assert!(refused || answer.contains(&person.nama), "{answer}");
            assert_eq!(rows, i64::from(!refused), "{answer}");
            registered += usize::from(!refused);
        }
        registered
    }
}

/// Fills the disk at one moment after the other while people register, with now more and now less room
/// left, kills the bot in every third round, and gives the room back.
#[test]
fn a_full_disk_loses_nothing_at_whatever_moment_it_fills() {
    const ROUNDS: u64 = 9;
    /// The redo log has 256 blocks, and each message takes one or more.
    const MOST_ASKED: usize = 200;
    let scene = Scene::on_disk(16, "");
    let mut bot = scene.run();
    let mut people: Vec<Registrant> = (0..3).map(|n| Registrant::new(&scene, n)).collect();
    let mut random = seed::announce("a full disk");
    for round in 0..ROUNDS {
        // No room at all in every third round, in which the disk must refuse.
        let refuses = round % 3 == 0;
        if refuses {
            // After a clean end SQLite's journal has no blocks to go on in.
            let (status, _) = bot.terminate();
            assert!(status.success(), "{status}");
            bot = scene.run();
            bot.wait_for_line("terhubung ke WhatsApp");
        }
        // While messages are under way: some are written before, some after.
        for person in &mut people {
            person.ask(&scene);
        }
        let pause = |random: &mut Random, most| {
            std::thread::sleep(Duration::from_millis(random.below(most) as u64));
        };
        pause(&mut random, 30);
        // A message, or the record of a reply.
        let refused = |bot: &Bot| bot.output().matches("could not write to disk").count();
        let before = refused(&bot);
        scene.home.disk().fill(if refuses { 0 } else { random.below(40) as u64 * 4096 });
        for person in &mut people {
            person.ask(&scene);
        }
        // The redo log goes on in blocks of its own for as long as it has some.
        while refuses && refused(&bot) == before {
            let answered = || people.iter().all(Registrant::is_answered);
            until(|| (refused(&bot) > before || answered()).then_some(()))
                .unwrap_or_else(|| panic!("neither an answer nor a refusal:\n{}", bot.output()));
            if refused(&bot) == before {
                assert!(people[0].asked < MOST_ASKED, "the disk never refuses:\n{}", bot.output());
                people.iter_mut().for_each(|person| person.ask(&scene));
            }
        }
        if round % 3 == 2 {
            pause(&mut random, 700);
            bot.kill();
            scene.home.disk().empty();
            bot = scene.run();
            // Before it takes signals, one would end it like a crash.
            bot.wait_for_line("terhubung ke WhatsApp");
        } else {
            pause(&mut random, 300);
            scene.home.disk().empty();
        }
        for person in &people {
            person.answers(&bot);
        }
    }
    let answers: Vec<_> = people.iter().map(|person| person.answers(&bot)).collect();
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    let ledger = scene.home.ledger();
    let registered: usize =
        people.iter().zip(&answers).map(|(person, answers)| person.check(answers, &ledger)).sum();
    assert!(registered >= people.len() * ROUNDS as usize / 2, "{registered}");
    assert_eq!(ledger.count("SELECT count(*) FROM registration"), registered as i64);
    assert_eq!(ledger.texts("PRAGMA integrity_check"), ["ok"]);
    assert_eq!(scene.server.queue_len(scene.operator.number()).expect("a queue"), 0, "all is acknowledged");
}

#[test]
fn what_the_disk_refuses_stays_with_whatsapp_however_often_it_complains() {
    let mut scene = Scene::new();
    scene.home.secret(clock::SPEED_VARIABLE, "20");
    let bot = run_where_the_disk_can_fill(&scene);
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    limit_files(&bot, Some(1));
    scene.on_the_bot(Fault::Owed { id: "OWED".into() });
    let named = SendAs { id: Some("OWED".into()), ..SendAs::default() };
    phone.send(scene.operator.number(), text_message("3"), named).expect("the message is sent");
    bot.wait_for_line("not written, tried again until it is");
    scene.on_the_bot(Fault::Drop);
    bot.wait_for_line("ends the connection again for message OWED");
    bot.wait_for_line("message OWED is not durable yet");
    assert_eq!(scene.server.queue_len(scene.operator.number()).expect("a queue"), 1);

    limit_files(&bot, None);
    scene.answer_after(&phone, 1);
    bot.wait_for_line("message OWED was answered");
    let waiting = || scene.server.queue_len(scene.operator.number()).expect("a queue");
    until(|| (waiting() == 0).then_some(())).expect("WhatsApp has its answer");
    assert!(phone.shown().len() == 2 && phone.shown().iter().all(|shown| shown.copies == 1));
}

#[test]
fn below_the_hard_limit_registrations_are_refused_politely_until_there_is_room_again() {
    let scene = Scene::on_disk(64, "");
    let bot = scene.run();
    let mut ani = Registrant::new(&scene, 0);
    let logins = scene.server.logins(scene.operator.number()).expect("an account");
    // A twentieth of the disk are three megabytes; there is room for everything else.
    scene.home.disk().fill(2 << 20);
    ani.ask(&scene);
    let answer = ani.answers(&bot).remove(0);
    assert!(answer.contains("penyimpanan kami penuh") && answer.contains("belum terdaftar"), "{answer}");
    // Nobody is cut off, and everything but registering goes on.
    assert!(scene.ask(&ani.phone, "MENU").contains("1"));
    scene.home.disk().empty();
    scene.choose_foodstation(&ani.phone);
    let answer = scene.ask(&ani.phone, &ani.customer.registration_text(0));
    assert!(answer.contains(&ani.customer.person(0).nama), "{answer}");
    bot.wait_for_line("registrations are refused until there is more");
    bot.wait_for_line("registrations are taken");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
    assert_eq!(scene.server.logins(scene.operator.number()).expect("an account"), logins, "it stayed online");
}

/// As `errors=remount-ro` does it when a card fails: the process lives on, and nothing can be written.
#[test]
fn a_disk_that_fails_under_the_bot_loses_nothing_that_was_acknowledged() {
    let scene = Scene::on_disk(16, "");
    let bot = scene.run();
    let mut ani = Registrant::new(&scene, 0);
    ani.ask(&scene);
    ani.answers(&bot);
    scene.home.disk().fail();
    ani.ask(&scene);
    bot.wait_for_line("not written, tried again until it is");
    let waiting = || scene.server.queue_len(scene.operator.number()).expect("a queue");
    until(|| (waiting() == 1).then_some(())).expect("it stays with WhatsApp");
    bot.kill();
    scene.home.disk().mount_again();
    let bot = scene.run();
    let answers = ani.answers(&bot);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    assert_eq!(ani.check(&answers, &scene.home.ledger()), 2);
}

/// The message is decrypted, its copy is refused, and the connection is gone: it comes again, and its key
/// is used up.
#[test]
fn a_line_that_is_cut_while_the_disk_refuses_loses_nothing() {
    let scene = Scene::new();
    let bot = run_where_the_disk_can_fill(&scene);
    let mut ani = Guest::new(&scene, 0);
    let mut budi = Guest::new(&scene, 1);
    ani.register_and_wait(&scene);
    limit_files(&bot, Some(1));
    ani.register(&scene);
    bot.wait_for_line("not written, tried again until it is");
    let logins = scene.server.logins(scene.operator.number()).expect("an account");
    scene.on_the_bot(Fault::Drop);
    let again = || scene.server.logins(scene.operator.number()).expect("an account") > logins;
    until(|| again().then_some(())).unwrap_or_else(|| panic!("no second login:\n{}", bot.output()));
    budi.register(&scene);
    limit_files(&bot, None);
    ani.wait_answered();
    check(&scene, bot, &mut [ani, budi]);
}

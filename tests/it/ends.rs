//! The ends of a connection that WhatsApp brings about: what the bot says, and that it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bot_kjp::clock;
use testbed::{Child, Fault, Options, WhatsApp};

use super::bot::{Bot, Home};
use super::guest::{Guest, check};
use super::scene::{Scene, until};

/// How long the bot waits after a refusal that names no time.
const RETRY: Duration = Duration::from_secs(60);

fn attributes(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The next login is answered with `<failure reason>`.
fn failure(reason: u16, attrs: &[(&str, &str)]) -> Fault {
    Fault::FailLogin { reason, attrs: attributes(attrs), count: Some(1) }
}

/// A stanza from the server, which does not hang up after it.
fn stanza(tag: &str, attrs: &[(&str, &str)], child: Option<&str>) -> Fault {
    let child = child.map(|tag| Child { tag: tag.into(), attrs: BTreeMap::new(), text: None });
    Fault::Send { tag: tag.into(), attrs: attributes(attrs), child, close: false }
}

/// What is made anew at once is there again after this, on a machine that is busy: a pause of a second, a
/// name, a handshake.
const AT_ONCE: Duration = Duration::from_secs(30);

/// The half of a minute until the next ping, 20 s for its answer, and then at once: half-open connections
/// are found within a minute.
const UNANSWERED_PING: Duration = Duration::from_secs(60 + 30);

/// Processor time that an end and what follows it may cost.
const CPU: Duration = Duration::from_secs(1);

/// Memory that it may cost, in KiB.
const MEMORY_KIB: u64 = 1024;

/// What a bot has spent so far: tries to connect, processor time, anonymous memory in KiB.
pub fn toll(scene: &Scene, bot: &Bot) -> (i64, Duration, u64) {
    let tries = scene.home.ledger().count("SELECT coalesce(max(id), 0) FROM connection_attempt");
    (tries, bot.cpu_time(), bot.status("RssAnon"))
}

/// Since `before`, one try to connect was made for each of `ends`, and little was spent.
pub fn was_cheap(scene: &Scene, bot: &Bot, before: (i64, Duration, u64), ends: i64) {
    let now = toll(scene, bot);
    assert_eq!(now.0 - before.0, ends, "tries to connect; the bot printed:\n{}", bot.output());
    assert!(now.1 - before.1 <= CPU, "{before:?} {now:?}");
    assert!(now.2 <= before.2 + MEMORY_KIB, "{before:?} {now:?}");
}

/// What is said when the connection is ended by `fault` is answered on the next one, which is the
/// next try to connect and is there `within` this time.
fn comes_back_after(fault: Fault, within: Duration) {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let before = toll(&scene, &bot);
    let ended = clock::now();
    scene.on_the_bot(fault);
    ani.register(&scene);
    bot.wait_until_online_again();
    let away = clock::since(ended);
    assert!(away <= within, "back after {away:?}; the bot printed:\n{}", bot.output());
    ani.wait_answered();
    was_cheap(&scene, &bot, before, 1);
    check(&scene, bot, &mut [ani]);
}

/// The bot's next login is refused: it says so, stays away for `pause` and comes back.
fn waits_after(refusal: Fault, sentence: &str, pause: Duration) {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let before = toll(&scene, &bot);
    scene.on_the_bot(refusal);
    scene.on_the_bot(Fault::Drop);
    bot.wait_for_line(sentence);
    let refused = clock::now();
    ani.register(&scene);
    bot.wait_until_online_again();
    // What the bot prints is read a moment after it happened, at either end.
    let away = clock::since(refused) + Duration::from_secs(1);
    assert!(away >= pause && away <= pause + AT_ONCE, "{sentence}: back after {away:?}");
    // The line that was cut, and the login that was refused.
    ani.wait_answered();
    was_cheap(&scene, &bot, before, 2);
    check(&scene, bot, &mut [ani]);
}

/// The session is void: the bot says so, keeps what it has, offers a code and serves again.
///
/// `tries`: connections from then on, the one that learns of it (if it is a login), the one that pairs and
/// the one after that.
fn pairs_again_after(end: &[Fault], tries: i64) {
    let scene = Scene::new();
    let bot = scene.run();
    let (ani, phone) = scene.customer(0);
    scene.choose_foodstation(&phone);
    scene.ask(&phone, &ani.registration_text(0));
    let before = toll(&scene, &bot);
    for fault in end {
        scene.on_the_bot(fault.clone());
    }
    bot.wait_for_line("dikeluarkan");
    let qr = bot.wait_for_qr();
    let registered = || scene.home.ledger().count("SELECT count(*) FROM registration");
    assert_eq!(registered(), 1, "the registration is kept");
    scene.operator.scan_qr(&qr).expect("the phone accepts the new code");
    bot.wait_until_online_again();
    let answer = scene.ask(&phone, &ani.registration_text(1));
    assert!(answer.contains(&ani.person(1).nama), "{answer}");
    assert_eq!(registered(), 2);
    was_cheap(&scene, &bot, before, tries);
}

/// The ends that the bot waits after for up to a minute, all at the same time.
#[test]
fn the_bot_comes_back_after_every_end_that_takes_its_time() {
    // Longer than the usual pause, so that the ban and not the habit decides.
    let ban = Duration::from_secs(65);
    let banned = failure(402, &[("code", "101"), ("expire", "65")]);
    let slowed_down = stanza("stream:error", &[("code", "429")], None);
    std::thread::scope(|scope| {
        let at_once = |name: &str, end: Box<dyn FnOnce() + Send>| {
            // A failure names its thread.
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn_scoped(scope, end).expect("a thread");
        };
        at_once("banned", Box::new(move || waits_after(banned, "diblokir sementara oleh WhatsApp", ban)));
        for reason in [409, 429, 499] {
            let refused = move || waits_after(failure(reason, &[]), "menolak sambungan", RETRY);
            at_once(&format!("login failure {reason}"), Box::new(refused));
        }
        at_once(
            "stream error 429 and no hang-up",
            Box::new(|| comes_back_after(slowed_down, RETRY + AT_ONCE)),
        );
        at_once(
            "replaced by another client",
            Box::new(|| comes_back_after(Fault::replaced(), RETRY + AT_ONCE)),
        );
        // Up to 30 s until the next ping, 20 s for its answer.
        at_once(
            "pings without an answer",
            Box::new(|| comes_back_after(Fault::IgnorePings, UNANSWERED_PING)),
        );
    });
}

#[test]
fn a_bot_that_is_outdated_says_so_and_looks_for_the_version_again() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let looked_up = || {
        let sql = "SELECT json_extract(body, '$.app_version_last_fetched_ms') FROM wa_device";
        scene.home.ledger().count(sql)
    };
    until(|| (looked_up() > 0).then_some(())).expect("the version was looked up");
    let before = toll(&scene, &bot);
    scene.on_the_bot(failure(405, &[]));
    scene.on_the_bot(Fault::Drop);
    bot.wait_for_line("menolak versi bot ini");
    until(|| (looked_up() == 0).then_some(())).expect("the version is forgotten");
    ani.register(&scene);
    was_cheap(&scene, &bot, before, 1);
    // It would try again in a quarter of an hour; whoever updates it does not wait so long.
    let (status, took) = bot.terminate();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(2), "SIGTERM took {took:?}");
    let bot = scene.run();
    ani.wait_answered();
    until(|| (looked_up() > 0).then_some(())).expect("the version was looked up again");
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_login_refused_as_logged_out_keeps_all_data_and_offers_a_code() {
    pairs_again_after(&[failure(401, &[]), Fault::Drop], 3);
}

#[test]
fn stream_error_516_keeps_all_data_and_offers_a_code() {
    pairs_again_after(&[stanza("stream:error", &[("code", "516")], None)], 2);
}

#[test]
fn the_bot_comes_back_after_stream_error_515() {
    comes_back_after(Fault::stream_error(515), AT_ONCE);
}

#[test]
fn the_bot_comes_back_after_stream_error_503() {
    comes_back_after(Fault::stream_error(503), AT_ONCE);
}

#[test]
fn the_bot_comes_back_after_stream_error_429() {
    comes_back_after(Fault::stream_error(429), RETRY + AT_ONCE);
}

#[test]
fn the_bot_comes_back_after_a_stream_that_was_not_well_formed() {
    comes_back_after(stanza("stream:error", &[], Some("xml-not-well-formed")), AT_ONCE);
}

#[test]
fn the_bot_comes_back_after_the_end_of_the_stream() {
    comes_back_after(stanza("xmlstreamend", &[], None), AT_ONCE);
}

#[test]
fn a_question_that_whatsapp_never_answers_does_not_keep_back_an_answer_for_good() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    // To write to somebody new, the bot asks which devices they have.
    scene.on_the_bot(Fault::Iq { xmlns: "usync".into(), code: None, count: Some(1) });
    let mut budi = Guest::new(&scene, 1);
    bot.wait_for_line("not acknowledged, sent again later");
    budi.register_and_wait(&scene);
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani, budi]);
}

#[test]
fn without_a_line_the_bot_says_why_and_says_it_once() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    drop(server);
    let bot = home.start(&["run"]);
    bot.wait_for("third attempt", |lines| {
        (lines.iter().filter(|line| line.contains("next try in")).count() >= 3).then_some(())
    });
    let output = bot.output();
    let reasons: Vec<&str> = output.lines().filter(|line| line.contains("no line to WhatsApp")).collect();
    assert!(matches!(reasons[..], [only] if only.contains("Connection refused")), "{output}");
}

/// Pings are answered, and no message ever comes: only a fresh connection shows that.
#[test]
fn a_deaf_connection_is_told_from_a_silent_one_and_made_anew() {
    /// Faster than the clock on the wall, so that the least silence that can be set passes in seconds.
    const SPEED: &str = "20";
    /// Noon in Jakarta, when people write.
    const NOON: i64 = 5 * 3600;
    let mut scene = Scene::with("[connection]\nlongest_silence = \"1m\"\nattempts_per_hour = 3600\n");
    let error = tempfile::NamedTempFile::new().expect("a file");
    let to_noon = (NOON - clock::unix_seconds()).rem_euclid(24 * 3600);
    std::fs::write(error.path(), to_noon.to_string()).expect("the clock is set");
    scene.server.set_clock_ahead(to_noon);
    scene.home.secret(clock::ERROR_VARIABLE, &error.path().display().to_string());
    scene.home.secret(clock::SPEED_VARIABLE, SPEED);
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let logins = || scene.server.logins(scene.operator.number()).expect("an account");

    let before = logins();
    until(|| (logins() > before).then_some(())).expect("a fresh connection after a minute's silence");
    let deaf = "the last connection was deaf";
    assert!(!bot.output().contains(deaf), "it was only silent:\n{}", bot.output());

    scene.on_the_bot(Fault::Deaf);
    ani.register_and_wait(&scene);
    bot.wait_for_line(deaf);
    check(&scene, bot, &mut [ani]);
}

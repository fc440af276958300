//! What the line and its DNS can do to the bot, one test per row. Each says how often the bot may try
//! to connect, how soon it must be back, what that may cost, and that no registration is lost.

use std::net::Ipv4Addr;
use std::time::Duration;

use testbed::dns::{Fault as Dns, Scope, Transport};
use testbed::proxy::{Fault as Tcp, When, Whom};

use super::bot::Bot;
use super::guest::{Guest, check};
use super::line_scene::{LineScene, RESOLVERS, Toll};
use super::scene::until;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The connection is kept, and the log written, as on every box.
const SHIPPED: &str = "[connection]\n[log]\n";

/// Memory that an outage may cost, in KiB.
const MEMORY_KIB: u64 = 1024;

/// Some server's address that is not WhatsApp's: its certificate is for another name.
const ANOTHER_SERVER: Ipv4Addr = RESOLVERS[0];

/// What one row of the table allows.
struct Row {
    /// How much faster than the clock on the wall the bot lives.
    speed: u32,
    /// How long the fault lasts, in the bot's life.
    lasts: Duration,
    /// Most tries to connect while it lasts.
    attempts: i64,
    /// How soon the bot is online when it is over, in the bot's life.
    back_within: Duration,
}

/// A bot that is online, and a customer who has registered somebody.
struct Begun {
    scene: LineScene,
    bot: Bot,
    ani: Guest,
    before: Toll,
}

impl Begun {
    fn new(speed: u32) -> Self {
        Self::with(speed, SHIPPED)
    }

    fn with(speed: u32, more: &str) -> Self {
        let scene = LineScene::new(speed, more);
        let bot = scene.run();
        let mut ani = Guest::new(&scene.scene, 0);
        ani.register_and_wait(&scene.scene);
        let before = scene.toll(&bot);
        Self { scene, bot, ani, before }
    }

    /// What was spent since the beginning, with the price of each checked. Each try that is allowed may cost as
    /// much processor time as the bot took to start, to log in and to register somebody, on this machine and
    /// in this build: a guard against storms, which keep the processor busy all the time. What an outage costs
    /// the shipped build is for `scripts/bench storm` to say.
    fn price(&self, attempts: i64) -> Toll {
        let now = self.scene.toll(&self.bot);
        let output = || self.bot.output();
        let made = now.attempts - self.before.attempts;
        assert!(made <= attempts, "{made} tries to connect; the bot printed:\n{}", output());
        let cpu = now.cpu.saturating_sub(self.before.cpu);
        let grown = now.memory.saturating_sub(self.before.memory);
        println!("spent: {made} tries to connect, {cpu:?} of processor time, {grown} KiB");
        let allowed = self.before.cpu * (1 + u32::try_from(attempts).expect("not so many"));
        assert!(
            cpu <= allowed,
            "{cpu:?} of processor time, {allowed:?} allowed; the bot printed:\n{}",
            output()
        );
        assert!(grown <= MEMORY_KIB, "{grown} KiB more; the bot printed:\n{}", output());
        now
    }

    /// Nothing was lost, nothing came twice.
    fn end(mut self) {
        self.ani.register_and_wait(&self.scene.scene);
        check(&self.scene.scene, self.bot, &mut [self.ani]);
    }
}

/// The bot is cut off while the fault lasts, whatever it does, and comes back after it.
fn outage(row: &Row, begin: impl FnOnce(&LineScene), end: impl FnOnce(&LineScene)) -> Begun {
    let mut begun = Begun::new(row.speed);
    let Begun { scene, ani, .. } = &mut begun;
    begin(scene);
    ani.register(&scene.scene);
    scene.let_pass(row.lasts);
    let during = begun.price(row.attempts);
    end(&begun.scene);
    let took = begun.scene.wait_for_login(during.logins, &begun.bot);
    assert!(took <= row.back_within, "back after {took:?}; the bot printed:\n{}", begun.bot.output());
    begun.ani.wait_answered();
    begun
}

/// The connection is cut while the fault is there, and the bot comes back all the same.
fn overcome(back_within: Duration, attempts: i64, begin: impl FnOnce(&LineScene)) -> Begun {
    let mut begun = Begun::new(1);
    let Begun { scene, ani, before, bot } = &mut begun;
    begin(scene);
    scene.cut();
    ani.register(&scene.scene);
    let took = scene.wait_for_login(before.logins, bot);
    assert!(took <= back_within, "back after {took:?}; the bot printed:\n{}", bot.output());
    ani.wait_answered();
    begun.price(attempts);
    begun
}

/// Everything that names can be asked of fails in this way, and where WhatsApp was before it is no
/// longer.
fn no_names(scene: &LineScene, fault: &Dns) {
    scene.everywhere(fault);
    scene.move_whatsapp();
    scene.cut();
}

fn names_again(scene: &LineScene) {
    for server in scene.servers() {
        server.clear_faults().expect("no faults");
    }
}

/// Ten minutes of it.
fn names_fail(fault: &Dns) -> Begun {
    // 60 s of waiting at most, and the time of the test's own machine, twenty times as long for the bot.
    let row = Row { speed: 20, lasts: 10 * MINUTE, attempts: 40, back_within: 120 * SECOND };
    outage(&row, |scene| no_names(scene, fault), names_again)
}

fn printed(bot: &Bot, part: &str) {
    assert!(bot.output().contains(part), "{part} is missing; the bot printed:\n{}", bot.output());
}

// Names

#[test]
fn an_hour_of_nxdomain_costs_next_to_nothing() {
    let row = Row { speed: 60, lasts: 60 * MINUTE, attempts: 130, back_within: 240 * SECOND };
    outage(&row, |scene| no_names(scene, &Dns::Nxdomain), names_again).end();
}

#[test]
fn an_hour_without_any_dns_costs_next_to_nothing() {
    let row = Row { speed: 60, lasts: 60 * MINUTE, attempts: 130, back_within: 240 * SECOND };
    outage(&row, |scene| no_names(scene, &Dns::Silence), names_again).end();
}

#[test]
fn servfail_is_waited_out() {
    names_fail(&Dns::Servfail).end();
}

#[test]
fn dns_that_is_gone_is_waited_out() {
    names_fail(&Dns::Refuse).end();
}

/// The text that a person sees names each rung, what it answered, and what to do.
#[test]
fn when_every_rung_lies_the_error_names_each_and_says_what_to_do() {
    let lie = Dns::Lie { addresses: vec![Ipv4Addr::new(10, 10, 10, 10).into()], alias: None, ttl: None };
    let begun = names_fail(&lie);
    // On a busy machine a try before it may end with other words: the address that is dead is tried first.
    let parts = ["system 192.168.1.1", "https 1.1.1.1", "tls 9.9.9.9", "public 8.8.8.8", "10.10.10.10"];
    let names_all =
        |line: &&String| line.contains("no line to WhatsApp") && parts.iter().all(|part| line.contains(part));
    let line =
        begun.bot.wait_for("line that names every rung", |lines| lines.iter().find(names_all).cloned());
    assert!(line.contains("network.private_addresses") && line.contains("network.dns"), "{line}");
    begun.end();
}

#[test]
fn dns_that_dies_while_connected_is_noticed_by_nobody() {
    let mut begun = Begun::new(1);
    begun.scene.everywhere(&Dns::Silence);
    begun.ani.register_and_wait(&begun.scene.scene);
    let after = begun.price(0);
    assert_eq!(after.logins, begun.before.logins, "the connection is the same");
    begun.end();
}

#[test]
fn with_dns_dead_the_last_known_good_address_brings_the_bot_back() {
    for fault in [Dns::Silence, Dns::Nxdomain, Dns::Servfail] {
        overcome(10 * SECOND, 3, |scene| scene.everywhere(&fault)).end();
    }
}

#[test]
fn answers_after_four_seconds_are_answers() {
    overcome(20 * SECOND, 4, |scene| {
        scene.everywhere(&Dns::Delay { ms: 4000 });
        scene.move_whatsapp();
    })
    .end();
}

#[test]
fn a_private_address_from_the_provider_is_a_lie_that_others_correct() {
    let begun = overcome(15 * SECOND, 4, |scene| {
        let lie = Dns::Lie { addresses: vec![Ipv4Addr::new(10, 10, 10, 10).into()], alias: None, ttl: None };
        scene.router.set_fault(Scope::everywhere(), lie).expect("the fault is set");
        scene.move_whatsapp();
    });
    printed(&begun.bot, "10.10.10.10");
    begun.end();
}

#[test]
fn an_address_with_another_servers_certificate_is_a_lie_that_others_correct() {
    let begun = overcome(15 * SECOND, 4, |scene| {
        let lie = Dns::Lie { addresses: vec![ANOTHER_SERVER.into()], alias: None, ttl: None };
        scene.router.set_fault(Scope::everywhere(), lie).expect("the fault is set");
        scene.move_whatsapp();
    });
    printed(&begun.bot, "certificate");
    begun.end();
}

#[test]
fn a_name_that_the_provider_denies_is_asked_of_others() {
    overcome(15 * SECOND, 4, |scene| {
        scene.router.set_fault(Scope::everywhere(), Dns::Nxdomain).expect("the fault is set");
        scene.move_whatsapp();
    })
    .end();
}

#[test]
fn truncated_datagrams_and_blocked_tcp_leave_https() {
    overcome(15 * SECOND, 4, |scene| {
        for server in scene.servers() {
            let plain = |transport, fault: Dns| {
                server.set_fault(Scope::over(transport), fault).expect("the fault is set");
            };
            plain(Transport::Udp, Dns::Truncate);
            plain(Transport::Tcp, Dns::Stall);
        }
        scene.move_whatsapp();
    })
    .end();
}

#[test]
fn a_resolv_conf_that_is_empty_gone_or_new_is_no_obstacle() {
    // Its connections are short, and no failures.
    let mut begun = Begun::with(1, "[connection]\nstable = \"1s\"\n");
    let file = begun.scene.line.resolv_conf("").expect("a resolv.conf");
    let new = format!("nameserver 192.0.2.1\nnameserver {}\n", RESOLVERS[2]);
    for text in [Some(""), None, Some("\u{0}nameserver\nsearch x"), Some(new.as_str())] {
        let Begun { scene, ani, bot, .. } = &mut begun;
        match text {
            Some(text) => std::fs::write(&file, text).expect("written"),
            None => std::fs::remove_file(&file).expect("removed"),
        }
        scene.move_whatsapp();
        scene.let_pass(SECOND);
        let before = scene.logins();
        scene.cut();
        ani.register(&scene.scene);
        let took = scene.wait_for_login(before, bot);
        assert!(took <= 20 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
        ani.wait_answered();
    }
    begun.price(12);
    begun.end();
}

// The line

#[test]
fn a_fifth_of_all_packets_lost_is_a_slow_line_and_no_outage() {
    let begun = overcome(60 * SECOND, 8, |scene| scene.line.loss(20).expect("a bad line"));
    begun.end();
}

#[test]
fn a_refused_connection_is_waited_out() {
    let row = Row { speed: 20, lasts: 10 * MINUTE, attempts: 40, back_within: 120 * SECOND };
    let refuse = |scene: &LineScene| {
        for proxy in &scene.proxies {
            proxy.set_fault(Whom::All, &Tcp::Refuse).expect("the fault is set");
        }
        scene.cut();
    };
    outage(&row, refuse, LineScene::heal).end();
}

#[test]
fn swallowed_syns_are_waited_out() {
    let row = Row { speed: 20, lasts: 10 * MINUTE, attempts: 40, back_within: 120 * SECOND };
    let swallow = |scene: &LineScene| {
        scene.line.swallow_syn(true).expect("no connection gets through");
        scene.cut();
    };
    outage(&row, swallow, LineScene::heal).end();
}

#[test]
fn tls_that_is_cut_in_the_handshake_is_waited_out() {
    let row = Row { speed: 20, lasts: 10 * MINUTE, attempts: 40, back_within: 120 * SECOND };
    let cut = |scene: &LineScene| {
        for proxy in &scene.proxies {
            proxy.set_fault(Whom::New, &Tcp::Cut { when: When::from_server(100) }).expect("the fault is set");
        }
        scene.cut();
    };
    outage(&row, cut, LineScene::heal).end();
}

#[test]
fn another_servers_certificate_everywhere_is_waited_out() {
    let lie = Dns::Lie { addresses: vec![ANOTHER_SERVER.into()], alias: None, ttl: None };
    names_fail(&lie).end();
}

#[test]
fn a_connection_that_is_reset_every_ten_seconds_still_serves() {
    const SPEED: u32 = 5;
    let mut begun = Begun::new(SPEED);
    let Begun { scene, ani, .. } = &mut begun;
    let reset = Tcp::Reset { when: When::after(10 * SECOND / SPEED) };
    scene.proxies[0].set_fault(Whom::All, &reset).expect("the fault is set");
    for _ in 0..5 {
        ani.register_and_wait(&scene.scene);
        scene.let_pass(MINUTE);
    }
    let during = begun.price(5 * 6);
    assert!(during.logins > begun.before.logins + 3, "it came back each time");
    begun.scene.heal();
    begun.end();
}

#[test]
fn a_half_open_connection_is_found_within_a_minute() {
    let mut begun = Begun::new(1);
    let Begun { scene, ani, before, bot } = &mut begun;
    scene.proxies[0].set_fault(Whom::Open, &Tcp::HalfOpen { when: When::now() }).expect("the fault is set");
    ani.register(&scene.scene);
    let took = scene.wait_for_login(before.logins, bot);
    assert!(took <= 65 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
    ani.wait_answered();
    begun.price(3);
    begun.end();
}

#[test]
fn another_address_of_the_box_is_another_connection_at_once() {
    let mut begun = Begun::new(1);
    let Begun { scene, ani, before, bot } = &mut begun;
    scene.line.change_address(Ipv4Addr::new(192, 168, 1, 77)).expect("another address");
    ani.register(&scene.scene);
    let took = scene.wait_for_login(before.logins, bot);
    assert!(took <= 15 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
    ani.wait_answered();
    begun.price(3);
    begun.end();
}

#[test]
fn an_address_that_is_lost_for_minutes_with_the_cable_in_is_missed_at_once_and_its_return_too() {
    let row = Row { speed: 4, lasts: 3 * MINUTE, attempts: 12, back_within: 20 * SECOND };
    let lose = |scene: &LineScene| scene.line.lose_address().expect("no address");
    let regain = |scene: &LineScene| scene.line.regain_address().expect("the same address");
    let begun = outage(&row, lose, regain);
    printed(&begun.bot, "the box has another network address now");
    begun.end();
}

#[test]
fn a_line_that_dies_and_returns_fifty_times_wears_nobody_out() {
    const TIMES: usize = 50;
    let mut begun = Begun::new(10);
    for time in 0..TIMES {
        let Begun { scene, ani, bot, .. } = &mut begun;
        let before = scene.logins();
        scene.line.down().expect("no line");
        scene.cut();
        if time % 10 == 0 {
            ani.register(&scene.scene);
        }
        scene.let_pass(20 * SECOND);
        scene.line.up().expect("a line");
        scene.wait_for_login(before, bot);
    }
    begun.ani.wait_answered();
    begun.price(4 * TIMES as i64);
    begun.end();
}

#[test]
fn the_lines_return_is_noticed_in_the_middle_of_a_wait() {
    const ROUNDS: usize = 5;
    // The kernel tells of the cable, the DNS probe of everything else.
    type Act = fn(&LineScene);
    let weathers: [(&str, Act, Act); 3] = [
        ("cable", |scene| scene.line.down().unwrap(), |scene| scene.line.up().unwrap()),
        ("black hole", |scene| scene.line.black_hole(true).unwrap(), |scene| scene.line.heal().unwrap()),
        ("names", |scene| no_names(scene, &Dns::Silence), names_again),
    ];
    std::thread::scope(|scope| {
        let all: Vec<_> = weathers
            .into_iter()
            .map(|(name, begin, end)| {
                let thread = std::thread::Builder::new().name(name.into());
                thread.spawn_scoped(scope, move || back_after(ROUNDS, begin, end)).expect("a thread")
            })
            .collect();
        let mut times: Vec<Duration> =
            all.into_iter().flat_map(|thread| thread.join().expect("a test")).collect();
        times.sort();
        assert!(times[times.len() / 2] <= 10 * SECOND, "the median of {times:?}");
    });
}

/// How long it took, each time, from the end of an outage of two minutes until the bot was online.
fn back_after(rounds: usize, begin: fn(&LineScene), end: fn(&LineScene)) -> Vec<Duration> {
    let mut begun = Begun::new(4);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let Begun { scene, ani, bot, .. } = &mut begun;
        let before = scene.logins();
        begin(scene);
        scene.cut();
        ani.register(&scene.scene);
        scene.let_pass(2 * MINUTE);
        end(scene);
        times.push(scene.wait_for_login(before, bot));
        ani.wait_answered();
    }
    begun.end();
    times
}

// The clock

#[test]
fn a_clock_that_jumps_fifty_years_confuses_nobody() {
    const FIFTY_YEARS: i64 = 50 * 365 * 86_400;
    let error = tempfile::NamedTempFile::new().expect("a file");
    // Its connections are short, and no failures.
    let mut scene = LineScene::new(1, "[connection]\nstable = \"1s\"\n");
    scene.scene.home.secret(bot_kjp::clock::ERROR_VARIABLE, &error.path().display().to_string());
    let bot = scene.run();
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    let before = scene.toll(&bot);
    for seconds in [FIFTY_YEARS, -FIFTY_YEARS, 0] {
        std::fs::write(error.path(), seconds.to_string()).expect("the clock is set");
        ani.register_and_wait(&scene.scene);
        scene.let_pass(SECOND);
        let logins = scene.logins();
        scene.cut();
        ani.register(&scene.scene);
        let took = scene.wait_for_login(logins, &bot);
        assert!(took <= 20 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
        ani.wait_answered();
    }
    let after = scene.toll(&bot);
    assert!(after.attempts - before.attempts <= 3 * 4, "{before:?} {after:?}");
    ani.register_and_wait(&scene.scene);
    check(&scene.scene, bot, &mut [ani]);
}

/// Nobody has told this bot the time, so the certificates are judged by the clock that is set back.
#[test]
fn a_clock_that_is_set_back_between_two_packets_of_a_handshake_keeps_nobody_offline() {
    let error = tempfile::NamedTempFile::new().expect("a file");
    let mut scene = LineScene::new(1, SHIPPED);
    scene.scene.home.secret(bot_kjp::clock::ERROR_VARIABLE, &error.path().display().to_string());
    let proxy = &scene.proxies[0];
    let before = (scene.logins(), proxy.counts().bytes_to_client);
    // In the middle of the server's first word, before its certificate.
    proxy.set_fault(Whom::New, &Tcp::HalfOpen { when: When::from_server(40) }).expect("the fault is set");
    let bot = scene.scene.run();
    until(|| (proxy.counts().bytes_to_client >= before.1 + 40).then_some(())).expect("a handshake");
    let to_1970 = -bot_kjp::clock::unix_seconds();
    std::fs::write(error.path(), to_1970.to_string()).expect("the clock is set");
    scene.heal();
    let took = scene.wait_for_login(before.0, &bot);
    assert!(took <= 15 * SECOND, "online after {took:?}; the bot printed:\n{}", bot.output());
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    check(&scene.scene, bot, &mut [ani]);
}

//! Faults of the line that look like something else. The bot overcomes them by itself, and `doctor` names
//! the cause before anything that follows from it, with one sentence on what to do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::supabase::SCHEMA;
use testbed::dns::{self, Fault as Dns, Scope, Transport};
use testbed::line::{Publication, ROUTER6};
use testbed::proxy::{self, Fault as Tcp, Proxy, Tls, Whom};
use testbed::{DnsServer, Supabase};

use super::bot::Bot;
use super::guest::{Guest, check};
use super::health::doctor;
use super::line_scene::{BEHIND, HTTPS, LineScene, NAME, WHATSAPP};
use super::scene::wait_for_rows;

const SECOND: Duration = Duration::from_secs(1);

/// Longer than an address is used without asking once it was proved (`net::resolver::known`).
const FRESH: Duration = Duration::from_secs(310);

/// The connection is kept, and the log written, as on every box.
const SHIPPED: &str = "[connection]\n[log]\n";

/// Where a censor sends people.
const CENSOR: Ipv4Addr = Ipv4Addr::new(36, 86, 63, 182);

/// Starts the bot; returns how long it took until it was online.
fn run(scene: &LineScene) -> (Bot, Duration) {
    let begun = clock::now();
    let bot = scene.run();
    (bot, clock::since(begun))
}

/// What the doctor complains of first, and how often it complains.
fn complaints(scene: &LineScene) -> (String, usize) {
    let (code, text) = doctor(&scene.scene.home);
    assert_eq!(code, Some(1), "{text}");
    let mut all = text.split("✖ ").skip(1);
    let first = all.next().unwrap_or_default().to_owned();
    // The last sentence, which tells how many there are, shows the sign too.
    (first, all.count().saturating_sub(1))
}

/// The doctor has nothing to complain of, and does not speak of `part`.
fn is_well(scene: &LineScene, part: &str) {
    let (code, text) = doctor(&scene.scene.home);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains(part), "{text}");
}

#[test]
fn a_line_of_the_hosts_file_that_leads_astray_is_one_way_of_many_and_named_by_the_doctor() {
    const BEFORE: &str = "127.0.0.1 localhost\n";
    const ADVICE: &str = "→ Hapus baris 2 itu: sudo nano +2 /etc/hosts";
    let mut scene = LineScene::new(1, SHIPPED);
    let hosts = scene.scene.home.hosts_file(BEFORE);
    let mut guest: Option<Guest> = None;
    scene.line.host(CENSOR).expect("a host");
    scene.line.swallow_host(CENSOR.into()).expect("it is dead");
    let stale = |address: &str| format!("/etc/hosts baris 2 memberi {NAME} alamat yang salah: {address} ");
    for (address, within, sentence) in [
        ("0.0.0.0", 10 * SECOND, None),
        ("::", 10 * SECOND, None),
        // Another server's, whose certificate is for another name.
        ("1.1.1.1", 10 * SECOND, Some("yang menjawab bukan server aslinya")),
        ("36.86.63.182", 15 * SECOND, Some("tidak menjawab.")),
    ] {
        std::fs::write(&hosts, format!("{BEFORE}{address} {NAME} # lama\n")).expect("written");
        if let Some(why) = sentence {
            let (first, more) = complaints(&scene);
            assert!(first.starts_with(&(stale(address) + why)), "{first}");
            assert!(first.contains(ADVICE), "{first}");
            assert_eq!(more, 0, "{first}");
        } else {
            let (code, text) = doctor(&scene.scene.home);
            assert_eq!(code, Some(0), "{text}");
            let passed_over = format!(
                "! /etc/hosts baris 2 memblokir {NAME} ({address} bukan alamat); bot mengabaikan baris itu. {ADVICE}"
            );
            assert!(text.contains(&passed_over), "{text}");
        }

        let (bot, took) = run(&scene);
        println!("{address}: online after {took:?}");
        assert!(took <= within, "online after {took:?}; the bot printed:\n{}", bot.output());
        let told = format!("/etc/hosts line 2 gives {address} for");
        assert_eq!(bot.output().contains(&told), sentence.is_some(), "{}", bot.output());
        let ani = guest.get_or_insert_with(|| Guest::new(&scene.scene, 0));
        ani.register_and_wait(&scene.scene);
        // The line is still there, and is not followed again.
        let before = scene.logins();
        scene.cut();
        ani.register(&scene.scene);
        let took = scene.wait_for_login(before, &bot);
        assert!(took <= 6 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
        ani.wait_answered();
        let (ended, _) = bot.terminate();
        assert!(ended.success());
    }
    // Gone, it is no longer spoken of.
    std::fs::write(&hosts, BEFORE).expect("written");
    is_well(&scene, "/etc/hosts");
    let (bot, _) = run(&scene);
    let mut ani = guest.expect("a guest");
    ani.register_and_wait(&scene.scene);
    check(&scene.scene, bot, &mut [ani]);
}

#[test]
fn large_packets_that_vanish_are_avoided_with_whatsapp_and_supabase_and_the_doctor_says_mtu() {
    const PROJECT: &str = "project.supabase.co";
    let cloud = IpAddr::from([104, 18, 0, 10]);
    let supabase = Supabase::start().expect("Supabase starts");
    supabase.apply(SCHEMA).expect("the schema is installed");
    let more = format!("{SHIPPED}[supabase]\nurl = \"https://{PROJECT}\"\ninterval = \"100ms\"\n");
    let mut scene = LineScene::new(1, &more);
    scene.scene.home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    scene.line.host(cloud).expect("a host");
    let tls = Tls { authority: scene.authority.clone(), names: vec![PROJECT.into()] };
    let server = supabase.url().trim_start_matches("http://").parse().expect("an address");
    let publication = Publication { server, at: SocketAddr::new(cloud, HTTPS), tls: Some(tls) };
    let _published = scene.line.publish(publication).expect("Supabase is on the internet");
    for dns in scene.servers() {
        dns.set_host(PROJECT, &[cloud], 30).expect("a host");
    }
    is_well(&scene, "MTU");

    scene.line.swallow_larger_than(1400).expect("large packets vanish");
    let (bot, took) = run(&scene);
    println!("online after {took:?}");
    assert!(took <= 10 * SECOND, "online after {took:?}; the bot printed:\n{}", bot.output());
    bot.wait_for_line("large packets seem to vanish on this line");
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    wait_for_rows(&supabase, "SELECT count(*) FROM data_harian", "1", &bot);
    // Once known it costs nothing.
    let before = scene.logins();
    scene.cut();
    ani.register(&scene.scene);
    let took = scene.wait_for_login(before, &bot);
    println!("back after {took:?}");
    assert!(took <= 5 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
    ani.wait_answered();
    wait_for_rows(&supabase, "SELECT count(*) FROM data_harian", "2", &bot);

    let (first, more) = complaints(&scene);
    let sentence = format!(
        "Paket besar hilang di jalan (MTU terlalu besar): {NAME} hanya terjangkau dengan paket kecil. → Di modem, \
         menu WAN atau PPPoE, kecilkan MTU menjadi 1400, lalu nyalakan ulang modem; sementara itu bot memakai \
         paket kecil."
    );
    assert!(first.starts_with(&sentence), "{first}");
    assert_eq!(more, 0, "{first}");
    // What the advice does, done at home.
    scene.line.set_mtu(1280).expect("a smaller MTU");
    is_well(&scene, "MTU");
    check(&scene.scene, bot, &mut [ani]);
}

/// A server at `address` that takes every connection and never says a word.
fn swallower(scene: &LineScene, address: Ipv4Addr) -> Proxy {
    scene.line.host(address).expect("a host");
    let at = SocketAddr::new(address.into(), HTTPS);
    let options = proxy::Options { listen: at, ..proxy::Options::to(at) };
    let server = scene.line.internet(|| Proxy::start(options)).unwrap().expect("a server");
    server.set_fault(Whom::New, &Tcp::BlackHole).expect("it is silent");
    server
}

/// Every name has these addresses, as Indonesian providers do it: whoever is asked in the clear, they answer.
fn poison(scene: &LineScene, addresses: Vec<IpAddr>) {
    let lie = Dns::Lie { addresses, alias: None, ttl: None };
    for server in scene.servers() {
        for transport in [Transport::Udp, Transport::Tcp] {
            server.set_fault(Scope::over(transport), lie.clone()).expect("the fault is set");
        }
    }
}

#[test]
fn eight_addresses_that_swallow_everything_cost_two_attempts_at_most() {
    const SPEED: u32 = 5;
    let scene = LineScene::new(SPEED, SHIPPED);
    let addresses = (0..8).map(|last| Ipv4Addr::new(36, 86, 63, 180 + last));
    let all: Vec<Proxy> = addresses.clone().map(|address| swallower(&scene, address)).collect();
    poison(&scene, addresses.map(IpAddr::from).collect());
    let attempts = || scene.scene.home.ledger().count("SELECT coalesce(max(id), 0) FROM connection_attempt");
    let of_pairing = attempts();
    let (bot, took) = run(&scene);
    println!("online after {:?} of the bot's life", took * SPEED);
    // Two attempts of 18 s, the wait between them, and a start at the speed of the clock on the wall.
    assert!(took * SPEED <= 60 * SECOND, "{:?}; the bot printed:\n{}", took * SPEED, bot.output());
    let made = attempts() - of_pairing;
    assert!(made <= 2, "{made} attempts; the bot printed:\n{}", bot.output());
    let tried: u64 = all.iter().map(|server| server.counts().accepted).sum();
    println!("{tried} connections in vain");
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    let before = scene.logins();
    scene.cut();
    ani.register(&scene.scene);
    let took = scene.wait_for_login(before, &bot);
    assert!(took <= 20 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
    check(&scene.scene, bot, &mut [ani]);
}

#[test]
fn a_name_poisoned_to_an_address_that_swallows_everything_costs_seconds_and_then_none_for_an_hour() {
    const SPEED: u32 = 5;
    let scene = LineScene::new(SPEED, SHIPPED);
    let censor = swallower(&scene, CENSOR);
    poison(&scene, vec![CENSOR.into()]);

    let (bot, took) = run(&scene);
    println!("online after {:?} of the bot's life", took * SPEED);
    // The processes have to start as well, at the speed of the clock on the wall.
    assert!(
        took * SPEED <= 40 * SECOND,
        "online after {:?}; the bot printed:\n{}",
        took * SPEED,
        bot.output()
    );
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    let tried = censor.counts().accepted;
    // WhatsApp's page with its version is asked for beside the connection.
    assert!((1..=6).contains(&tried), "{tried} connections; the bot printed:\n{}", bot.output());

    // Time and again what is known is no longer fresh, the name is asked for, and the provider lies.
    for _ in 0..2 {
        scene.let_pass(FRESH);
        let before = scene.logins();
        scene.cut();
        ani.register(&scene.scene);
        let took = scene.wait_for_login(before, &bot);
        println!("back after {took:?}");
        assert!(took <= 20 * SECOND, "back after {took:?}; the bot printed:\n{}", bot.output());
        ani.wait_answered();
        assert_eq!(censor.counts().accepted, tried, "the bot printed:\n{}", bot.output());
    }

    let (first, more) = complaints(&scene);
    let sentence = "DNS dari ISP/modem (192.168.1.1) menjawab salah: 36.86.63.182 tidak pernah menjawab";
    assert!(first.starts_with(sentence), "{first}");
    assert!(
        first.contains("→ Ganti DNS di modem (atau di perangkat ini) menjadi 1.1.1.1 atau 8.8.8.8"),
        "{first}"
    );
    assert_eq!(more, 0, "{first}");
    for server in scene.servers() {
        server.clear_faults().expect("no faults");
    }
    is_well(&scene, "36.86.63.182");
    check(&scene.scene, bot, &mut [ani]);
}

#[test]
fn an_address_behind_a_prefix_that_an_ipv6_only_line_announces_is_no_lie() {
    // The network's own prefix fd00:64::/96, and behind it WhatsApp and the two that announce it (RFC 7050).
    let behind = |ip: Ipv4Addr| {
        let [a, b, c, d] = ip.octets();
        let pair = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfd00, 0x64, 0, 0, 0, 0, pair(a, b), pair(c, d))
    };
    let translated = behind(WHATSAPP);
    let scene = LineScene::new(1, SHIPPED);
    scene.line.host(translated).expect("a host");
    scene.line.ipv6_only().expect("a line of IPv6 alone");
    // What translates hands on to IPv4.
    let listen = SocketAddr::new(translated.into(), HTTPS);
    let options = proxy::Options { listen, ..proxy::Options::to(SocketAddr::new(BEHIND.into(), HTTPS)) };
    let _translator = scene.line.internet(|| Proxy::start(options)).unwrap().expect("a translator");
    let start = || DnsServer::start(dns::Options::router(&[ROUTER6.into()]));
    let dns64 = scene.line.internet(start).unwrap().expect("a DNS server");
    dns64.set_host(NAME, &[WHATSAPP.into(), translated.into()], 30).expect("a host");
    scene.line.resolv_conf(&format!("nameserver {ROUTER6}\n")).expect("a resolv.conf");
    // As long as nobody announces the prefix, that address may be anybody's.
    let (code, text) = doctor(&scene.scene.home);
    assert_eq!(code, Some(1), "{text}");

    let well_known = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
    let announced: Vec<IpAddr> =
        well_known.iter().flat_map(|ip| [(*ip).into(), behind(*ip).into()]).collect();
    dns64.set_host("ipv4only.arpa", &announced, 30).expect("a host");
    let (bot, took) = run(&scene);
    println!("online after {took:?}");
    assert!(took <= 15 * SECOND, "online after {took:?}; the bot printed:\n{}", bot.output());
    let mut ani = Guest::new(&scene.scene, 0);
    ani.register_and_wait(&scene.scene);
    assert!(!bot.output().contains("is lying"), "{}", bot.output());
    let (code, text) = doctor(&scene.scene.home);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("✔ DNS dari ISP/modem ({ROUTER6}): ")), "{text}");
    assert!(text.contains(&format!("✔ [{translated}]:443: tersambung, sertifikat benar")), "{text}");
    check(&scene.scene, bot, &mut [ani]);
}

#[test]
fn a_line_that_is_dead_behind_the_modem_is_one_complaint_and_not_ten_about_dns() {
    let scene = LineScene::new(1, SHIPPED);
    scene.line.black_hole(true).expect("a black hole");
    let (first, more) = complaints(&scene);
    assert!(first.starts_with("Internet tidak sampai: tidak satu pun dari "), "{first}");
    assert!(first.contains("→ Nyalakan ulang modem atau coba jaringan lain (mis. hotspot HP)."), "{first}");
    // And that WhatsApp could not be tried.
    assert_eq!(more, 1, "{first}");
    scene.line.heal().expect("fair weather");
    is_well(&scene, "Internet tidak sampai");
}

//! What others see of the bot: the status page, `status` and `doctor`, and the messages to those who
//! are told when something needs help. Each thing is told once, and nobody's numbers are in it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::supabase::SCHEMA;
use testbed::dns::{Fault as Dns, Scope};
use testbed::supabase::Fault as Answer;
use testbed::{Fault, Handset, Options, Supabase, WhatsApp};

use super::bot::{Bot, Home};
use super::guest::Guest;
use super::line_scene::{LineScene, RESOLVERS};
use super::scene::{Scene, until, wait_for, wait_for_rows};

/// How much faster than the clock on the wall these bots live: the five minutes after which something
/// counts as over are fifteen seconds.
const SPEED: u32 = 20;

/// Time between two looks of the watch, in the bot's life.
const LOOK: Duration = Duration::from_secs(10);

/// Longest wait for an answer of the page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a call to a hook that are read.
const MAX_CALL_BYTES: u64 = 64 * 1024;

/// An ntfy topic and a healthchecks check on this machine: remembers who called.
struct Hooks {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

#[derive(Debug, Clone)]
struct Call {
    path: String,
    /// The header field `Title`, which ends with the code of the cause.
    title: String,
    body: String,
}

impl Hooks {
    /// Serves as long as the test program runs.
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let hooks = Self { address: listener.local_addr().expect("an address"), calls: Arc::default() };
        let calls = hooks.calls.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(call) = take_call(stream) {
                    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                }
            }
        });
        hooks
    }

    /// Lines of configuration that make the bot call here.
    fn configuration(&self, operators: &[&Handset]) -> String {
        let numbers: Vec<&str> = operators.iter().map(|phone| phone.number()).collect();
        format!(
            "\n[alert]\noperators = {numbers:?}\nntfy = \"http://{0}/topic\"\n\
             healthchecks = \"http://{0}/check\"\nhealthchecks_interval = \"60s\"\n",
            self.address
        )
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages to the topic about a cause, in order.
    fn notes(&self, code: &str) -> Vec<String> {
        let about = |call: &Call| call.path == "/topic" && call.title.ends_with(code);
        self.calls().into_iter().filter(about).map(|call| call.body).collect()
    }

    /// How often the check was called at a path.
    fn checks(&self, path: &str) -> usize {
        self.calls().iter().filter(|call| call.path == path).count()
    }

    /// Waits for the `count`th message about a cause.
    fn wait_for_note(&self, code: &str, count: usize, bot: &Bot) -> String {
        until(|| self.notes(code).get(count - 1).cloned()).unwrap_or_else(|| {
            panic!(
                "no message {count} about {code} in {:#?}; the bot printed:\n{}",
                self.calls(),
                bot.output()
            )
        })
    }
}

fn take_call(stream: TcpStream) -> std::io::Result<Call> {
    stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
    let mut reader = BufReader::new(stream.take(MAX_CALL_BYTES));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let (mut title, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "title" => title = value.to_owned(),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut stream = reader.into_inner().into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(Call { path, title, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A port that nobody has, below those that the kernel gives out by itself (32768 and up).
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test programs at the same time begin at different ports.
    let first = (std::process::id() % 100) as u16 * 100;
    let candidates = || 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    std::iter::repeat_with(candidates)
        .take(1_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}

/// A bot's status page.
pub struct Page {
    port: u16,
}

impl Page {
    pub fn new() -> Self {
        Self { port: free_port() }
    }

    /// The lines of configuration that put the page there.
    pub fn configuration(&self) -> String {
        format!("[health]\nlisten = \"127.0.0.1:{}\"\n", self.port)
    }

    fn ask_as(&self, host: &str, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PAGE_TIMEOUT))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Ok((status.unwrap_or_default(), body.to_owned()))
    }

    fn ask(&self, path: &str) -> std::io::Result<(u16, String)> {
        self.ask_as("localhost", path)
    }

    /// Waits until `/health` answers so, with something in it; returns it.
    pub fn wait_for(&self, status: u16, part: &str, bot: &Bot) -> serde_json::Value {
        let health = || {
            let (found, body) = self.ask("/health").ok()?;
            (found == status && body.contains(part)).then_some(body)
        };
        let body = until(health).unwrap_or_else(|| {
            panic!("no {status} with {part}: {:?}; the bot printed:\n{}", self.ask("/health"), bot.output())
        });
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until a warning is shown.
    fn wait_for_warning(&self, code: &str, bot: &Bot) {
        let shown = format!("bot_kjp_warning{{code=\"{code}\"}} 1\n");
        until(|| self.ask("/metrics").ok()?.1.contains(&shown).then_some(())).unwrap_or_else(|| {
            panic!("no {code}: {:?}; the bot printed:\n{}", self.ask("/health"), bot.output())
        });
    }

    /// The page for Prometheus: every series with its value.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, page) = self.ask("/metrics").expect("a page");
        assert_eq!(status, 200);
        let mut series = BTreeMap::new();
        let mut families = Vec::new();
        for line in page.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let [keyword, name, rest] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                match keyword {
                    "HELP" => {}
                    "TYPE" if matches!(rest, "counter" | "gauge") => families.push(name.to_owned()),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let family = name.split('{').next().unwrap_or_default();
            assert!(families.iter().any(|known| known == family), "{family} has no type");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "{name} twice");
        }
        series
    }
}

/// Runs a command beside the bot, at the speed of the clock on the wall.
fn command(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        home.command(arguments).env_remove(clock::SPEED_VARIABLE).output().expect("it runs");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), words(&stdout) + &words(&stderr))
}

/// What `doctor` prints, with each sentence on one line, and its exit code.
pub fn doctor(home: &Home) -> (Option<i32>, String) {
    let (code, text) = command(home, &["doctor"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    (code, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Checks that a text for strangers holds none of these people's numbers.
fn nobody_is_in(text: &str, scene: &Scene, people: &[&Handset], guests: &[&Guest]) {
    let phones =
        guests.iter().map(|guest| &guest.phone).chain(people.iter().copied()).chain([&scene.operator]);
    for phone in phones {
        for number in [phone.number(), phone.lid()] {
            assert!(!text.contains(number), "a number of {} in {text}", phone.name());
        }
    }
    for guest in guests {
        let person = guest.customer.person(0);
        for secret in [&person.nik, &person.nama] {
            assert!(!text.contains(secret.as_str()), "{secret} in {text}");
        }
    }
}

/// The messages on a phone about a cause.
fn shown(phone: &Handset, code: &str) -> Vec<String> {
    let all = phone.shown().into_iter().map(|message| message.text);
    all.filter(|text| text.contains(&format!("({code})"))).collect()
}

/// Lets the watch look some more times, to see that it says nothing more.
fn let_it_look(times: u32) {
    std::thread::sleep(times * LOOK / SPEED);
}

#[test]
fn an_outage_is_a_503_with_a_code_and_each_who_is_told_hears_of_it_once() {
    let (hooks, page) = (Hooks::start(), Page::new());
    let mut scene = Scene::with(&format!(
        "{}[connection]\nattempts_per_hour = 3600\ntold_after = 3\nbackoff = [\"10s\"]\n",
        page.configuration()
    ));
    let deputy = scene.server.phone("Wakil").expect("a phone");
    scene.home.add_to_config(&hooks.configuration(&[&deputy]));
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let bot = scene.run();

    let health = page.wait_for(200, "whatsapp.online", &bot);
    assert_eq!(health["state"], "healthy", "{health}");
    let (code, healthy) = command(&scene.home, &["status"]);
    assert_eq!(code, Some(0), "{healthy}");
    assert!(healthy.starts_with("Semua baik.\n"), "{healthy}");
    let metrics = page.metrics();
    assert_eq!(metrics["bot_kjp_whatsapp_phase{phase=\"online\"}"], 1.0);
    assert!(metrics["bot_kjp_whatsapp_attempts_total"] >= 1.0);
    assert!(metrics.contains_key("bot_kjp_dns_servers{rung=\"system\",condition=\"lying\"}"));
    until(|| (hooks.checks("/check") > 0).then_some(())).expect("the check is called");
    assert_eq!(hooks.checks("/check/fail"), 0, "{:#?}", hooks.calls());
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);

    scene.server.fault(Fault::Refuse { count: None }).expect("the fault is set");
    scene.on_the_bot(Fault::Drop);
    let health = page.wait_for(503, "whatsapp.offline", &bot);
    let warnings = health["warnings"].as_array().expect("warnings");
    let warning = warnings.iter().find(|warning| warning["code"] == "whatsapp.offline").expect("the code");
    // Without the count it would be a blip for three minutes.
    assert!(warning["since_seconds"].as_u64() < Some(180), "{warning}");
    let during = page.metrics();
    assert!(during["bot_kjp_whatsapp_failures"] >= 3.0, "{during:#?}");
    assert_eq!(during["bot_kjp_unhealthy"], 1.0);
    let (code, unhealthy) = command(&scene.home, &["status"]);
    assert_eq!(code, Some(1), "{unhealthy}");
    assert!(unhealthy.starts_with("Ada gangguan yang perlu dibantu.\n"), "{unhealthy}");
    let raised = hooks.wait_for_note("whatsapp.offline", 1, &bot);
    assert!(raised.contains("WhatsApp terputus"), "{raised}");
    until(|| (hooks.checks("/check/fail") > 0).then_some(())).expect("the check is told");
    assert_eq!(shown(&deputy, "whatsapp.offline"), [""; 0], "nothing can be sent");

    scene.server.clear_faults();
    page.wait_for(200, "whatsapp.online", &bot);
    let told = wait_for(&deputy, |_| shown(&deputy, "whatsapp.offline").first().cloned());
    assert!(told.contains("sudah pulih: WhatsApp terputus"), "{told}");
    let recovered = hooks.wait_for_note("whatsapp.offline", 2, &bot);
    assert!(recovered.contains("sudah pulih"), "{recovered}");
    let_it_look(3);
    assert_eq!(hooks.notes("whatsapp.offline").len(), 2, "{:#?}", hooks.calls());
    assert_eq!(shown(&deputy, "whatsapp.offline").len(), 1);
    assert_eq!(hooks.checks("/check/fail"), 1, "{:#?}", hooks.calls());

    let texts = [page.ask("/health").unwrap().1, page.ask("/metrics").unwrap().1, healthy, unhealthy];
    let alerts = hooks.calls().into_iter().map(|call| call.body).chain(shown(&deputy, "whatsapp.offline"));
    for text in texts.into_iter().chain(alerts) {
        nobody_is_in(&text, &scene, &[&deputy], &[&ani]);
    }
    let (ended, _) = bot.terminate();
    assert!(ended.success());
    let (code, gone) = command(&scene.home, &["status"]);
    assert_eq!(code, Some(69), "{gone}");
    assert!(gone.contains("Bot tidak berjalan. Nyalakan dengan: sudo systemctl start bot-kjp"), "{gone}");
}

#[test]
fn a_session_that_the_phone_ended_is_told_to_the_webhook_by_its_cause_alone() {
    let (hooks, page) = (Hooks::start(), Page::new());
    let mut scene = Scene::with(&page.configuration());
    scene.home.add_to_config(&hooks.configuration(&[]));
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let bot = scene.run();
    page.wait_for(200, "whatsapp.online", &bot);
    scene.operator.unlink_companions();
    page.wait_for(503, "whatsapp.logged_out", &bot);
    let told = hooks.wait_for_note("whatsapp.logged_out", 1, &bot);
    assert!(told.contains("bot-kjp pair"), "{told}");
    // Longer than what follows from it takes to be seen.
    let_it_look(30);
    assert_eq!(hooks.notes("whatsapp.logged_out").len(), 1, "{:#?}", hooks.calls());
    for consequence in ["whatsapp.not_paired", "whatsapp.offline"] {
        assert_eq!(hooks.notes(consequence), [""; 0], "{:#?}", hooks.calls());
    }
    assert_eq!(command(&scene.home, &["status"]).0, Some(1));
}

#[test]
fn a_bot_that_dies_again_and_again_is_told_of_once() {
    let (hooks, page) = (Hooks::start(), Page::new());
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let mut home = Home::with(&server, &(page.configuration() + &hooks.configuration(&[])));
    home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    for _ in 0..6 {
        let bot = home.start(&["run"]);
        until(|| page.ask("/health").ok()).unwrap_or_else(|| panic!("no page: {}", bot.output()));
        bot.kill();
    }
    assert_eq!(hooks.notes("process.restarts"), [""; 0], "five restarts are none too many");
    let dies = || {
        let bot = home.start(&["run"]);
        page.wait_for_warning("process.restarts", &bot);
        hooks.wait_for_note("process.restarts", 1, &bot);
        let_it_look(3);
        assert_eq!(hooks.notes("process.restarts").len(), 1, "{:#?}", hooks.calls());
        bot.kill();
    };
    dies();
    // The next process knows what the one before it has told.
    dies();
}

#[test]
fn a_key_that_supabase_refuses_is_told_of_once_and_so_is_its_end() {
    let (hooks, page) = (Hooks::start(), Page::new());
    let supabase = Supabase::start().expect("Supabase starts");
    supabase.apply(SCHEMA).expect("the schema");
    let mut scene = Scene::with(&page.configuration());
    let deputy = scene.server.phone("Wakil").expect("a phone");
    scene.home.add_to_config(&hooks.configuration(&[&deputy]));
    scene.home.secret("SUPABASE_URL", &supabase.url());
    scene.home.secret("SUPABASE_SECRET_KEY", "sb_secret_wrong0000000000000000000000");
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    page.wait_for(503, "supabase.refused", &bot);
    let raised = hooks.wait_for_note("supabase.refused", 1, &bot);
    assert!(raised.contains("kunci Supabase salah"), "{raised}");
    wait_for(&deputy, |_| shown(&deputy, "supabase.refused").first().cloned());
    let (code, text) = doctor(&scene.home);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("✖ Bot sedang berjalan. Katanya: Ada gangguan yang perlu dibantu."), "{text}");
    let refused = "✖ Supabase menolak data: kunci Supabase salah atau tidak berlaku lagi.";
    assert_eq!(text.matches(refused).count(), 2, "by the bot and by the doctor: {text}");
    assert!(text.contains("→ Pasang kunci rahasia proyek (sb_secret_…) di SUPABASE_SECRET_KEY"), "{text}");
    nobody_is_in(&text, &scene, &[&deputy], &[&ani]);

    let (ended, _) = bot.terminate();
    assert!(ended.success());
    scene.home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    let (_, text) = doctor(&scene.home);
    assert!(text.contains("✔ Menerima data dari bot"), "{text}");
    assert!(text.contains("! Bot tidak berjalan."), "{text}");
    let bot = scene.run();
    wait_for_rows(&supabase, "select count(*) from data_harian", "1", &bot);
    let recovered = hooks.wait_for_note("supabase.refused", 2, &bot);
    assert!(recovered.contains("sudah pulih: Supabase menolak data"), "{recovered}");
    wait_for(&deputy, |_| shown(&deputy, "supabase.refused").get(1).cloned());
    let_it_look(3);
    assert_eq!(hooks.notes("supabase.refused").len(), 2, "{:#?}", hooks.calls());
    assert_eq!(shown(&deputy, "supabase.refused").len(), 2);
    for call in hooks.calls() {
        nobody_is_in(&call.body, &scene, &[&deputy], &[&ani]);
    }
    nobody_is_in(&page.ask("/health").unwrap().1, &scene, &[&deputy], &[&ani]);
}

#[test]
fn a_setting_by_which_supabase_refuses_everything_is_named_as_such_and_parks_nobody() {
    let (hooks, page) = (Hooks::start(), Page::new());
    let supabase = Supabase::start().expect("Supabase starts");
    supabase.apply(SCHEMA).expect("the schema");
    // PostgREST makes small letters of it, and PostgreSQL knows no "16mb".
    supabase.apply("alter role service_role set work_mem = '16MB'").expect("the setting");
    let mut scene = Scene::with(&page.configuration());
    scene.home.add_to_config(&hooks.configuration(&[]));
    scene.home.secret("SUPABASE_URL", &supabase.url());
    scene.home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    page.wait_for(503, "supabase.refused", &bot);
    let raised = hooks.wait_for_note("supabase.refused", 1, &bot);
    assert!(raised.contains("semua permintaan ditolak, apa pun isinya"), "{raised}");
    let mut budi = Guest::new(&scene, 1);
    budi.register_and_wait(&scene);
    let (code, text) = doctor(&scene.home);
    assert_eq!(code, Some(1), "{text}");
    let refused = "✖ Supabase menolak data: semua permintaan ditolak, apa pun isinya";
    assert_eq!(text.matches(refused).count(), 2, "by the bot and by the doctor: {text}");
    assert!(text.contains("→ Jalankan di SQL Editor Supabase: alter role service_role reset all;"), "{text}");
    assert!(!text.contains("sync.parked") && !text.contains("Ada data yang ditolak"), "{text}");
    assert_eq!(
        scene.home.ledger().count("SELECT count(*) FROM registration WHERE sync_state = 'pending'"),
        2
    );

    supabase.apply("alter role service_role reset all; notify pgrst, 'reload schema';").expect("the advice");
    wait_for_rows(&supabase, "select count(*) from data_harian", "2", &bot);
    let recovered = hooks.wait_for_note("supabase.refused", 2, &bot);
    assert!(recovered.contains("sudah pulih: Supabase menolak data"), "{recovered}");
    page.wait_for(200, "supabase.working", &bot);
    assert!(hooks.notes("sync.parked").is_empty(), "{:#?}", hooks.calls());
    let (_, text) = doctor(&scene.home);
    assert!(text.contains("✔ Menerima data dari bot"), "{text}");
}

#[test]
fn the_doctor_names_what_supabase_answers_first_and_what_to_do_about_it() {
    let supabase = Supabase::start().expect("Supabase starts");
    supabase.apply(SCHEMA).expect("the schema");
    let mut scene = Scene::new();
    // WhatsApp's server is at 127.0.0.1.
    scene.home.secret("SUPABASE_URL", &supabase.url().replace("127.0.0.1", "localhost"));
    scene.home.secret("SUPABASE_SECRET_KEY", supabase.secret_key());
    let reached = format!("✔ 127.0.0.1:{}: tersambung", supabase.port());
    let page = "<html><head><title>502 Bad Gateway</title></head></html>";
    let unpaid = r#"{"message":"Service for this project is restricted due to the following violations: overdue_payment."}"#;
    // More than the doctor asks.
    const ALWAYS: usize = 20;
    for (times, status, body, sentence, advice) in [
        (
            1,
            402,
            unpaid,
            "✖ Supabase menolak data: proyeknya dibatasi karena kuota habis atau tagihan belum dibayar.",
            "→ Buka dasbor Supabase, Billing: bayar tagihannya",
        ),
        (
            1,
            403,
            "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head></html>",
            "✖ Jalan ke Supabase terhalang: yang menjawab bukan Supabase, tetapi halaman lain",
            "→ Buka situs apa saja dari internet yang sama dan masuk (login) bila diminta",
        ),
        (
            1,
            502,
            page,
            "✖ Supabase tidak dapat dihubungi (HTTP 502, no JSON).",
            "→ Buka dasbor Supabase: bila proyek dijeda (paused), aktifkan lagi.",
        ),
        (
            ALWAYS,
            404,
            "{}",
            "✖ Supabase menolak data: tabel atau fungsi bot belum dipasang.",
            "→ Jalankan SQL dari perintah bot-kjp schema di SQL Editor Supabase.",
        ),
    ] {
        let answer = || Answer::Answer { status, retry_after: None, body: body.into() };
        supabase.fail_next(std::iter::repeat_with(answer).take(times));
        let (code, text) = doctor(&scene.home);
        supabase.fail_no_more();
        assert_eq!(code, Some(1), "{text}");
        let (Some(cause), Some(way)) = (text.find(sentence), text.find(&reached)) else {
            panic!("{sentence}: {text}")
        };
        assert!(text.contains(advice), "{advice}: {text}");
        assert!(cause < way, "the address before the cause: {text}");
        assert!(text.contains("Ada 1 hal bertanda ✖"), "nothing beside the cause: {text}");
    }
    // While the schema is read anew nothing is wrong.
    let empty = || Answer::Answer { status: 404, retry_after: None, body: "{}".into() };
    supabase.fail_next([empty(), empty()]);
    let (code, text) = doctor(&scene.home);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("✔ Menerima data dari bot"), "{text}");
}

#[test]
fn a_port_in_use_does_not_stop_the_bot_and_strangers_hosts_are_refused() {
    let page = Page::new();
    let mut scene = Scene::with(&page.configuration());
    scene.home.secret(clock::SPEED_VARIABLE, &SPEED.to_string());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, page.port)).expect("the port");
    let bot = scene.run();
    bot.wait_for_line("no status page");
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    drop(taken);
    page.wait_for(200, "whatsapp.online", &bot);
    for (host, status) in [("evil.example", 403), ("127.0.0.1.evil.example", 403), ("127.0.0.1", 200)] {
        assert_eq!(page.ask_as(host, "/health").expect("an answer").0, status, "{host}");
    }
}

#[test]
fn the_doctor_names_the_dns_that_lies_and_what_to_do_about_it() {
    let scene = LineScene::new(1, "");
    let home = &scene.scene.home;
    home.add_to_config(&Hooks::start().configuration(&[]));
    let bot = scene.run();
    let (code, text) = doctor(home);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "✔ Bot sedang berjalan (proses ",
        "✔ Ada alamat (192.168.1.2) dan jalan ke internet.",
        "✔ DNS dari ISP/modem (192.168.1.1): 157.240.0.60",
        "✔ DNS lewat HTTPS (1.1.1.1): 157.240.0.60",
        "✔ DNS lewat TLS (9.9.9.9): 157.240.0.60",
        "✔ DNS umum (8.8.8.8): 157.240.0.60",
        "✔ 157.240.0.60:443: tersambung, sertifikat benar",
        "✔ Jam benar (selisih ",
        "✔ Halaman versi terbaca",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (ended, _) = bot.terminate();
    assert!(ended.success());

    let what_to_do = "→ Ganti DNS di modem (atau di perangkat ini) menjadi 1.1.1.1 atau 8.8.8.8";
    let lie = |address| Dns::Lie { addresses: vec![address], alias: None, ttl: None };
    for (fault, sentence) in [
        (
            Dns::Nxdomain,
            "✖ DNS dari ISP/modem (192.168.1.1) menjawab salah: katanya web.whatsapp.com tidak ada",
        ),
        (lie([10, 10, 10, 10].into()), "✖ DNS dari ISP/modem (192.168.1.1) menjawab salah: 10.10.10.10,"),
        (
            lie(RESOLVERS[0].into()),
            "✖ DNS dari ISP/modem (192.168.1.1) menjawab salah: 1.1.1.1 bukan server web.whatsapp.com",
        ),
        (Dns::Silence, "✖ DNS dari ISP/modem (192.168.1.1) tidak menjawab."),
    ] {
        scene.router.set_fault(Scope::everywhere(), fault).expect("the fault is set");
        let (code, text) = doctor(home);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(sentence) && text.contains(what_to_do), "{sentence}: {text}");
        assert!(text.contains("✔ DNS lewat HTTPS (1.1.1.1): 157.240.0.60"), "{text}");
        assert!(text.contains("! Bot tidak berjalan."), "{text}");
        scene.router.clear_faults().expect("no faults");
    }

    // Without any line it ends all the same, in time, and names the line.
    scene.line.black_hole(true).expect("a black hole");
    let begun = clock::now();
    let (code, text) = doctor(home);
    assert!(clock::since(begun) < Duration::from_secs(32), "{:?}", clock::since(begun));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("→ Nyalakan ulang modem atau coba jaringan lain"), "{text}");
    assert!(text.contains("✖ Tidak ada alamat yang dapat dicoba."), "{text}");
}

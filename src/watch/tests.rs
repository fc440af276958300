use super::*;
use crate::disk_space::Limits;
use crate::executor;
use crate::whatsapp::connection::standing::{LastEnd, Phase};
use futures_lite::future::or;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A watch whose connection to WhatsApp is what the test makes it.
struct Bench {
    watch: Watch,
    database: Database,
    standing: Arc<Mutex<Standing>>,
}

impl Bench {
    fn new(operators: &[&str], listen: Option<SocketAddr>) -> Self {
        let database = Database::in_memory().unwrap();
        Self::on(database, operators, listen)
    }

    fn on(database: Database, operators: &[&str], listen: Option<SocketAddr>) -> Self {
        let mut standing = Standing::new(clock::now(), 130);
        standing.enter(Phase::Online, clock::now());
        standing.paired = true;
        let standing = Arc::new(Mutex::new(standing));
        let source = standing.clone();
        let watch = Watch::new(Parts {
            database: database.clone(),
            disk_space: DiskSpace::new("/".into(), Limits { warn_below: 0, stop_below: 0 }),
            sources: Sources {
                whatsapp: Arc::new(move || source.lock().unwrap().clone()),
                dns: Arc::new(Vec::new),
                supabase: None,
                backlog: Arc::new(|| 0),
                inbox: Arc::new(|| 0),
                server_time: Arc::new(|| Some(clock::unix_seconds())),
            },
            outbox_bell: Bell::default(),
            agent: Agent::new_with_defaults(),
            settings: Settings {
                persistence: crate::persistence::Persistence::Lasting,
                bounds: Bounds { told_after: 5, longest_silence: Duration::from_secs(86_400) },
                listen,
                operators: operators.iter().map(|number| PhoneNumber::new(*number)).collect(),
                ntfy: None,
                healthchecks: None,
                healthchecks_interval: Duration::from_secs(300),
                start: None,
            },
        });
        Self { watch, database, standing }
    }

    fn end(&self, code: &'static str) {
        let mut standing = self.standing.lock().unwrap();
        standing.last_end = Some(LastEnd { code, detail: "ended".into(), at: clock::now() });
        standing.enter(Phase::Offline, clock::now());
    }

    /// One look, as if it were made so much later.
    fn look_after(&self, time: Duration) {
        let mut view = self.watch.look(Duration::ZERO);
        view.facts.now += time;
        view.facts.unix += i64::try_from(time.as_secs()).unwrap();
        let sightings = self.watch.state().sightings.clone();
        view.visible = warning::visible(&view.conditions, &sightings, view.facts.now);
        smol::block_on(self.watch.tell(&view));
    }

    /// The texts that wait in the outbox, with their chats.
    fn waiting(&self) -> Vec<(String, String)> {
        self.database
            .read(|conn| {
                let mut statement = conn.prepare("SELECT chat, text FROM outbox ORDER BY id")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok::<_, LedgerError>(rows.collect::<Result<_, _>>()?)
            })
            .unwrap()
    }
}

const OPERATOR: &str = "6280000000001";

#[test]
fn every_operator_gets_one_message_about_a_cause() {
    let bench = Bench::new(&[OPERATOR, "6280000000002"], None);
    bench.look_after(Duration::ZERO);
    assert_eq!(bench.waiting(), []);
    bench.standing.lock().unwrap().phone_seen = Some(0);
    bench.look_after(Duration::ZERO);
    for _ in 0..3 {
        bench.look_after(Duration::from_secs(60));
    }
    let waiting = bench.waiting();
    assert_eq!(waiting.len(), 2);
    assert_eq!(waiting[0].0, "6280000000001@s.whatsapp.net");
    assert!(waiting[0].1.contains("HP operator lama tidak aktif"), "{}", waiting[0].1);
}

#[test]
fn after_a_day_without_a_line_the_operator_finds_one_message() {
    let bench = Bench::new(&[OPERATOR], None);
    bench.end("replaced");
    bench.look_after(Duration::ZERO);
    bench.look_after(Duration::from_secs(86_400));
    assert_eq!(bench.waiting(), []);
    bench.standing.lock().unwrap().enter(Phase::Online, clock::now());
    for seconds in [90_000, 90_010, 90_300] {
        bench.look_after(Duration::from_secs(seconds));
    }
    let waiting = bench.waiting();
    assert!(waiting.len() == 1 && waiting[0].1.starts_with('✅'), "{waiting:?}");
    assert!(waiting[0].1.contains("selama 1 hari 1 jam"), "{}", waiting[0].1);
}

#[test]
fn a_message_that_was_not_sent_makes_room_for_the_next_one_about_its_cause() {
    let bench = Bench::new(&[OPERATOR], None);
    bench.standing.lock().unwrap().phone_seen = Some(0);
    bench.look_after(Duration::ZERO);
    bench.look_after(Duration::from_secs(60));
    bench.look_after(Duration::from_secs(86_500));
    let waiting = bench.waiting();
    assert!(waiting.len() == 1 && waiting[0].1.starts_with('⏰'), "{waiting:?}");
}

#[test]
fn another_process_on_the_same_ledger_repeats_nothing_and_tells_the_end() {
    let first = Bench::new(&[OPERATOR], None);
    first.end("banned");
    first.look_after(Duration::ZERO);
    assert_eq!(first.database.read(ledger::alert::all).unwrap().len(), 1);

    let second = Bench::on(first.database.clone(), &[OPERATOR], None);
    second.watch.restore();
    second.end("banned");
    second.look_after(Duration::ZERO);
    assert_eq!(second.waiting(), []);
    second.standing.lock().unwrap().enter(Phase::Online, clock::now());
    second.look_after(Duration::ZERO);
    second.look_after(Duration::from_secs(300));
    assert_eq!(second.waiting().len(), 1);
    let told = second.database.read(ledger::alert::all).unwrap();
    assert_eq!(told, []);
}

#[test]
fn without_anybody_to_tell_nothing_is_put_into_the_outbox() {
    let bench = Bench::new(&[], None);
    bench.end("banned");
    bench.look_after(Duration::ZERO);
    assert_eq!(bench.waiting(), []);
    assert_eq!(bench.database.read(ledger::alert::all).unwrap().len(), 1);
}

#[test]
fn ids_are_the_same_for_the_same_news_and_tell_causes_and_chats_apart() {
    let message = |cause, kind| Message { cause, kind, since: 7, detail: warning::Detail::None };
    let raised = message(Cause::Offline, Kind::Raised);
    let (prefix, id) = message_id(&raised, "a");
    assert_eq!(message_id(&raised, "a"), (prefix.clone(), id.clone()));
    assert!(id.starts_with(&prefix) && id.len() == 22, "{id}");
    let (same_prefix, other) = message_id(&message(Cause::Offline, Kind::Recovered), "a");
    assert!(same_prefix == prefix && other != id);
    assert_ne!(message_id(&raised, "b").0, prefix);
    assert_ne!(message_id(&message(Cause::Storm, Kind::Raised), "a").0, prefix);
}

#[test]
fn the_page_shows_what_is_wrong_and_the_metrics_count_it() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let bench = Bench::new(&[], Some(port));
    let executor = executor::new();
    let running = bench.watch.clone().run(executor);
    let ask = |path: &'static str| async move {
        let mut stream = loop {
            match smol::net::TcpStream::connect(port).await {
                Ok(stream) => break stream,
                Err(_) => clock::sleep(Duration::from_millis(5)).await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {port}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let asked = async {
        let answer = ask("/health").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        bench.end("banned");
        let answer = ask("/health").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let report: Report = serde_json::from_str(body).unwrap();
        assert_eq!(report.warnings[0].code, "whatsapp.banned");
        let answer = ask("/metrics").await;
        assert!(answer.contains("\nbot_kjp_warning{code=\"whatsapp.banned\"} 1\n"), "{answer}");
        assert!(answer.contains("\nbot_kjp_unhealthy 1\n"));
    };
    let run = async {
        running.await;
    };
    smol::block_on(executor.run(or(asked, run)));
}

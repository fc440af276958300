//! What the bot may find when it is started: no folder, no rights, no room, a damaged database, another
//! bot. Each gives a clear error or mends itself, and nothing that is there is lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bot_kjp::cli::exit_code::ExitCode;
use bot_kjp::clock;
use bot_kjp::ledger::{Database, inbound};
use testbed::{Options, WhatsApp};

use super::bot::{Bot, Home, command, program};
use super::disk::Disk;
use super::guest::{Guest, check};
use super::health::Page;
use super::scene::{Scene, until};

const LEDGER: &str = "bot-kjp.db";

/// Messages that make a database of some megabytes.
const REMEMBERED: u64 = 40_000;

/// Runs a command that ends by itself: its code and what it printed.
fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = home.command(arguments).output().expect("it runs");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), words(&stdout) + &words(&stderr))
}

/// Checks that a bot ends with this code, and says these things.
fn ends_with(home: &Home, arguments: &[&str], code: ExitCode, parts: &[&str]) {
    let (found, said) = run(home, arguments);
    assert_eq!(found, Some(code as i32), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    // An error for the engineer, and a sentence for the operator.
    assert!(said.contains("bot-kjp: "), "{said}");
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the mode is set");
}

fn server() -> WhatsApp {
    WhatsApp::start(Options::default()).expect("WhatsApp's side starts")
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let home = Home::new(&server());
    let nowhere = home.path().join("nowhere");
    let folder = nowhere.display().to_string();
    let arguments = ["run", "--data", &folder];
    ends_with(&home, &arguments, ExitCode::Missing, &["does not exist", &folder, "data.folder"]);
    assert!(!nowhere.exists());
}

#[test]
fn a_folder_into_which_others_may_write_is_refused_with_the_command_that_mends_it() {
    let home = Home::new(&server());
    set_mode(home.path(), 0o777);
    let mend = format!("chmod 700 {}", home.path().display());
    ends_with(&home, &["run"], ExitCode::NotPermitted, &["others may write", &mend]);
    assert!(!home.path().join(LEDGER).exists());
}

#[test]
fn a_data_folder_in_memory_is_refused_unless_told_and_the_page_goes_on_saying_so() {
    let (server, page) = (server(), Page::new());
    let home = Home::with(&server, &page.configuration());
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let (file, folder) =
        (home.path().join("config.toml"), format!("{:?}", memory.path().display().to_string()));
    let usual = format!("{:?}", home.path().display().to_string());
    let config = fs::read_to_string(&file).expect("the configuration").replacen(&usual, &folder, 1);
    fs::write(&file, &config).expect("the configuration is written");
    for command in ["run", "pair"] {
        let parts = ["is in memory", "data.volatile = true", "hanya di memori", "overlayroot"];
        ends_with(&home, &[command], ExitCode::Configuration, &parts);
    }
    let (code, said) = run(&home, &["doctor"]);
    assert_eq!(code, Some(ExitCode::Unhealthy as i32), "{said}");
    assert!(said.contains("✖ Data hanya di memori"), "{said}");
    assert_eq!(memory.path().read_dir().expect("the folder").count(), 0, "something was written");

    fs::write(&file, config.replacen("[data]", "[data]\nvolatile = true", 1)).expect("it is written");
    let operator = server.phone("Operator").expect("a phone");
    home.pair(&operator);
    let bot = home.start(&["run"]);
    let health = page.wait_for(200, "whatsapp.online", &bot);
    let warnings = health["warnings"].as_array().expect("warnings");
    assert!(warnings.iter().any(|warning| warning["code"] == "data.volatile"), "{health}");
}

/// Covers the folder `$0` with an overlay whose upper layer is in `$1`: in memory if `$2` says so.
const OVERLAY: &str = r#"
[ -z "$2" ] || mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$0,upperdir=$1/upper,workdir=$1/work" "$0"
shift 2
exec "$@"
"#;

#[test]
fn an_overlay_is_judged_by_its_upper_layer() {
    let home = Home::new(&server());
    let layers = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder that lasts");
    for (memory, is_told) in [("yes", true), ("", false)] {
        let mut covered = command("unshare", None);
        covered.args(["--mount", "--", "sh", "-ec", OVERLAY]).arg(home.path()).arg(layers.path()).arg(memory);
        covered.arg(program()).args(["doctor", "--config"]).arg(home.path().join("config.toml"));
        let Output { stdout, stderr, .. } = covered.output().expect("it runs");
        let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
        assert!(said.contains("dapat ditulisi"), "{said}");
        assert_eq!(said.contains("✖ Data hanya di memori"), is_told, "{said}");
        assert!(!said.contains("berada di overlay"), "{said}");
    }
}

#[test]
fn files_that_others_could_read_are_closed_to_them() {
    let scene = Scene::new();
    let files: Vec<PathBuf> =
        [LEDGER, "bot-kjp.db-wal"].iter().map(|name| scene.home.path().join(name)).collect();
    fs::write(&files[1], "").expect("an empty journal");
    for file in &files {
        set_mode(file, 0o666);
    }
    let bot = scene.run();
    bot.wait_for_line("others could read");
    bot.wait_for_line("terhubung ke WhatsApp");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

/// `sudo ./bot-kjp pair` in root's home, where files that are copied to a box lie, for the folder of the
/// service's user; and then a stranger.
#[test]
fn what_root_makes_in_somebody_elses_folder_is_theirs_and_a_stranger_is_told() {
    const SERVICE: u32 = 64_321;
    const STRANGER: u32 = 64_322;
    let server = server();
    let home = Home::new(&server);
    std::os::unix::fs::chown(home.path(), Some(SERVICE), Some(SERVICE)).expect("run the tests as root");
    let private = tempfile::tempdir().expect("a temporary folder");
    let copy = private.path().join("bot-kjp");
    // By another process: what a test writes itself, a child of another test may hold open (ETXTBSY).
    let copied = Command::new("cp").arg(program()).arg(&copy).status().expect("cp runs");
    assert!(copied.success());
    let arguments = |command: &str| [command.into(), "--config".into(), home.path().join("config.toml")];

    set_mode(&copy, 0o700);
    let output = command(&copy, None).args(arguments("pair")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(ExitCode::NotPermitted as i32), "{said}");
    assert!(said.contains("/bot-kjp: ") && said.contains("chmod 755"), "{said}");

    set_mode(&copy, 0o755);
    set_mode(private.path(), 0o700);
    let mut pairing = command(&copy, None);
    pairing.args(arguments("pair"));
    let mut bot = Bot::start(pairing);
    bot.wait_for_qr();
    let children = format!("/proc/{0}/task/{0}/children", bot.pid());
    let children = fs::read_to_string(children).expect("it lives");
    let child = children.trim();
    let about = |file: &str| fs::read_to_string(format!("/proc/{child}/{file}")).expect("it lives");
    assert_eq!(about("comm").trim(), "bot-kjp");
    assert!(about("cmdline").starts_with(&copy.display().to_string()), "{}", about("cmdline"));
    let told = Command::new("sh").args(["-c", "kill \"$0\"", child]).status();
    assert!(told.expect("sh runs").success());
    bot.wait();
    for file in [LEDGER, "bot-kjp.db-wal"] {
        let about = home.path().join(file).metadata().expect("it is there");
        assert_eq!((about.uid(), about.gid()), (SERVICE, SERVICE), "{file}");
    }

    set_mode(home.path(), 0o755);
    set_mode(private.path(), 0o755);
    let mut stranger = Command::new("setpriv");
    let user = STRANGER.to_string();
    stranger.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    stranger.arg(&copy).args(arguments("run")).env_clear();
    let Output { status, stderr, .. } = stranger.output().expect("it runs");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(ExitCode::NotPermitted as i32), "{said}");
    assert!(said.contains("Permission denied") && said.contains("check owner and mode"), "{said}");
}

#[test]
fn a_second_bot_is_refused_and_never_disturbs_the_first() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    let logins = || scene.server.logins(scene.operator.number()).expect("an account");
    let before = logins();
    for arguments in [["run"], ["pair"], ["set-aside"]] {
        ends_with(&scene.home, &arguments, ExitCode::Temporary, &["in use by another process"]);
        ani.register_and_wait(&scene);
    }
    assert_eq!(logins(), before, "nobody else has logged in");
    check(&scene, bot, &mut [ani]);
}

#[test]
fn a_damaged_database_is_kept_and_a_new_one_begun_only_when_told() {
    let scene = Scene::new();
    let bot = scene.run();
    Guest::new(&scene, 0).register_and_wait(&scene);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    let file = scene.home.path().join(LEDGER);
    let mut bytes = fs::read(&file).expect("the database");
    // Every page but the first, as a card that mixes up its blocks would leave it.
    for byte in &mut bytes[4096..] {
        *byte ^= 0x5A;
    }
    fs::write(&file, &bytes).expect("it is damaged");
    for _ in 0..2 {
        ends_with(&scene.home, &["run"], ExitCode::DamagedDatabase, &["is damaged", "bot-kjp set-aside"]);
        assert!(fs::read(&file).expect("it is kept") == bytes, "nothing was changed");
    }
    let (code, said) = run(&scene.home, &["set-aside"]);
    assert_eq!(code, Some(0), "{said}");
    let aside = said.lines().map(str::trim).find(|line| line.contains("/rusak-")).expect("a folder");
    assert!(fs::read(Path::new(aside).join(LEDGER)).expect("it is kept") == bytes);
    assert!(!file.exists());

    // From the beginning: a new pairing, and people are served.
    scene.home.pair(&scene.operator);
    let bot = scene.run();
    let mut budi = Guest::new(&scene, 1);
    budi.register_and_wait(&scene);
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    assert_eq!(scene.home.ledger().count("SELECT count(*) FROM registration"), 1);
    let (code, said) = run(&scene.home, &["set-aside"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("tidak rusak") && file.exists(), "{said}");
}

#[test]
fn a_database_that_is_damaged_under_the_bot_is_not_written_on_and_nothing_more_is_acknowledged() {
    let scene = Scene::new();
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    for _ in 0..3 {
        ani.register_and_wait(&scene);
    }
    let (status, _) = bot.terminate();
    assert!(status.success(), "{status}");
    // More than the bot keeps in memory.
    let database = Database::open(&scene.home.path().join(LEDGER)).expect("the database");
    let filled = database.write_now(|tx| {
        (0..REMEMBERED).try_for_each(|n| {
            let chat = format!("{:015}@lid", n * 7_919 % REMEMBERED * (1_000_000_000_000_000 / REMEMBERED));
            inbound::remember(tx, &chat, &chat, &format!("3EB0{n:016X}"), clock::unix_seconds()).map(drop)
        })
    });
    filled.expect("messages are remembered");
    database.finish().expect("they are written");
    drop(database);
    // Behind the journal's back, once the bot has looked through the file: what is not in its cache is
    // read again, and is nonsense.
    let bot = scene.run();
    bot.wait_for_line("terhubung ke WhatsApp");
    let file = scene.home.path().join(LEDGER);
    let length = file.metadata().expect("the database").len();
    let damage = vec![0x5A_u8; usize::try_from(length - 4096).expect("small")];
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|file| file.write_all_at(&damage, 4096))
        .expect("damage");
    let strangers: Vec<_> = (1..40).map(|n| scene.customer(n).1).collect();
    for stranger in &strangers {
        scene.say(stranger, "MENU");
    }
    bot.wait_for_line("the file is damaged");
    let waiting = || scene.server.queue_len(scene.operator.number()).expect("a queue");
    until(|| (waiting() > 0).then_some(())).expect("messages stay with WhatsApp");
    drop(bot);
    ends_with(&scene.home, &["run"], ExitCode::DamagedDatabase, &["is damaged"]);
}

#[test]
fn a_read_only_disk_and_a_full_one_are_named_when_the_bot_is_started() {
    let home = Home::on_disk(&server(), Disk::new(16), "");
    home.disk().fill(0);
    ends_with(&home, &["run"], ExitCode::CannotCreate, &["disk is full"]);
    home.disk().empty();
    home.disk().mount_read_only();
    ends_with(&home, &["run"], ExitCode::CannotCreate, &["disk is read-only"]);
}

#[test]
fn a_bot_that_has_its_database_starts_on_a_full_disk_and_recovers_by_itself() {
    let scene = Scene::on_disk(16, "");
    scene.home.disk().fill(0);
    let bot = scene.run();
    // The client does not dial before its store has taken a trial.
    bot.wait_for_line("registrations are refused until there is more");
    scene.home.disk().empty();
    bot.wait_for_line("terhubung ke WhatsApp");
    let mut ani = Guest::new(&scene, 0);
    ani.register_and_wait(&scene);
    check(&scene, bot, &mut [ani]);
}

/// What `status` says of the start.
fn started_because(bot: &Bot) -> String {
    bot.wait_for_line("app: started (before: ")
}

#[test]
fn the_cause_of_a_restart_is_known() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut scene = Scene::new();
    scene.home.secret("RUNTIME_DIRECTORY", &folder.path().display().to_string());
    let begun = |cause: &str| {
        let bot = scene.run();
        assert!(started_because(&bot).contains(&format!("(before: {cause})")), "{}", bot.output());
        bot
    };
    let (status, _) = begun("first").terminate();
    assert!(status.success(), "{status}");
    begun("asked").kill();
    begun("crash").kill();
    let said = folder.path().join("service-result");
    fs::write(&said, "watchdog dumped ABRT\n").expect("the unit's word");
    begun("watchdog").kill();
    assert!(!said.exists(), "it is read once");
    begun("crash").kill();
    let restarts = scene.home.ledger().texts("SELECT cause FROM process_start ORDER BY id");
    assert_eq!(restarts, ["first", "asked", "crash", "watchdog", "crash"]);
}

#[test]
fn a_log_file_gets_what_stderr_gets_masked_and_bounded() {
    let log = tempfile::tempdir().expect("a temporary folder");
    let file = log.path().join("bot.log");
    let scene = Scene::with(&format!("[log]\nlevel = \"debug\"\nfile = {file:?}\nfile_size = \"100kB\"\n"));
    let bot = scene.run();
    let mut ani = Guest::new(&scene, 0);
    for _ in 0..5 {
        ani.register_and_wait(&scene);
    }
    let phone = ani.phone.number().to_owned();
    check(&scene, bot, &mut [ani]);
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).expect("a log");
    assert!(text.lines().all(|line| line.contains("+07:00 ")), "{text}");
    assert!(text.contains("app: started"), "{text}");
    assert!(!text.contains(&phone) && !text.contains(scene.operator.number()), "{text}");
    assert!(text.len() <= 50_000);
}

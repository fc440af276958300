//! `install` brings a box into the state that this version wants, keeps what is the operator's, and
//! goes back by itself when the new version is not well; the init script and its supervisor keep the
//! bot running where there is no systemd. On machines of their own, with the real scripts and bot.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use bot_kjp::config;
use bot_kjp::entropy::NO_ENTROPY_VARIABLE;
use testbed::WhatsApp;

use super::bot::{Bot, command, program};
use super::machine::{CARRIED, Machine, Network, Programs};

const PROGRAM: &str = "/usr/local/bin/bot-kjp";
const SCRIPT: &str = "/etc/init.d/bot-kjp";
const SETTINGS: &str = "/etc/bot-kjp/config.toml";
const SECRETS: &str = "/etc/default/bot-kjp";
const LEDGER: &str = "/var/lib/bot-kjp/bot-kjp.db";

/// Statement that every start runs; another word of the same length makes of a good version one that
/// ends as soon as it opens its database.
const GOOD: &[u8] = b"BEGIN EXCLUSIVE; COMMIT";
const BAD: &[u8] = b"BEGIN EXCLUSIVX; COMMIT";

fn newer(program: &mut Vec<u8>) {
    // Behind its end an ELF file may have anything.
    program.extend_from_slice(b"a newer version");
}

fn bad(program: &mut [u8]) {
    let mut found = 0;
    while let Some(at) = program.windows(GOOD.len()).position(|window| window == GOOD) {
        program[at..at + BAD.len()].copy_from_slice(BAD);
        found += 1;
    }
    assert!(found > 0, "the bot's start has changed");
}

/// A machine with the bot installed and running.
fn installed(programs: Programs) -> Machine {
    let machine = Machine::start(programs, Network::Own);
    machine.carry(|_| {});
    machine.done(&[CARRIED, "install"]);
    machine
}

fn ledger_is_a_database(machine: &Machine) -> bool {
    fs::read(machine.path(LEDGER)).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"))
}

#[test]
fn install_brings_everything_once_and_uninstall_takes_only_that() {
    let machine = Machine::start(Programs::Debian, Network::Own);
    machine.carry(|_| {});
    let said = machine.done(&[CARRIED, "install"]);
    assert!(said.contains("✔ Pengguna bot-kjp dibuat.") && said.contains("sudo bot-kjp pair"), "{said}");
    let owner = |path: &str| machine.owner(path);
    let of = |user: &str, group: &str, mode| (user.to_owned(), group.to_owned(), mode);
    assert_eq!(owner(PROGRAM), of("root", "root", 0o755));
    assert_eq!(owner(SETTINGS), of("root", "bot-kjp", 0o640));
    assert_eq!(owner(SECRETS), of("root", "root", 0o600));
    assert_eq!(owner("/var/lib/bot-kjp"), of("bot-kjp", "bot-kjp", 0o700));
    assert_eq!(owner(LEDGER), of("bot-kjp", "bot-kjp", 0o600));
    assert_eq!(machine.read(SETTINGS), config::example());
    let bot = machine.pid("bot-kjp.pid").expect("it runs");
    let status = fs::metadata(machine.path(&format!("/proc/{bot}"))).expect("its process");
    assert_ne!(status.uid(), 0, "the bot runs as root");
    assert!(machine.path("/etc/rc2.d/S01bot-kjp").symlink_metadata().is_ok(), "not started at boot");

    // The units, in a place where all that they name is there.
    let units = "/usr/local/lib/systemd/system";
    let service = format!("{units}/bot-kjp.service");
    let retry = format!("{units}/bot-kjp-retry.service");
    let timer = format!("{units}/bot-kjp-retry.timer");
    let loosen = format!("{units}/bot-kjp-loosen.service");
    machine.done(&["systemd-analyze", "verify", &service, &timer, &retry, &loosen]);
    for unit in [&service, &retry] {
        machine.done(&[
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=16",
            "--no-pager",
            unit,
        ]);
    }

    // A second time.
    let said = machine.done(&[CARRIED, "install"]);
    assert_eq!(said, "Versi 0.1.0 sudah terpasang dan berjalan; tidak ada yang diubah.\n");
    assert_eq!(machine.pid("bot-kjp.pid"), Some(bot));

    // A newer version: settings stay, the version before is kept.
    let mine = "log.level = \"debug\"\n";
    machine.write(SETTINGS, mine);
    machine.write(SECRETS, "# mine\n");
    machine.carry(newer);
    let said = machine.done(&[CARRIED, "install"]);
    assert!(said.contains("sudo /usr/local/bin/bot-kjp.previous install"), "{said}");
    assert_eq!((machine.read(SETTINGS).as_str(), machine.read(SECRETS).as_str()), (mine, "# mine\n"));
    assert!(fs::read(machine.path(PROGRAM)).unwrap().ends_with(b"a newer version"));
    assert_eq!(
        fs::read(machine.path("/usr/local/bin/bot-kjp.previous")).unwrap(),
        fs::read(program()).unwrap()
    );
    let newer_bot = machine.pid("bot-kjp.pid").expect("it runs");
    assert_ne!(newer_bot, bot);

    // And back by hand.
    machine.done(&["/usr/local/bin/bot-kjp.previous", "install"]);
    assert_eq!(fs::read(machine.path(PROGRAM)).unwrap(), fs::read(program()).unwrap());

    let last = machine.pid("bot-kjp.pid").expect("it runs");
    let said = machine.done(&[PROGRAM, "uninstall"]);
    assert!(said.contains("tetap ada"), "{said}");
    assert!(!machine.lives(last));
    for gone in [PROGRAM, SCRIPT, "/usr/local/lib/bot-kjp", "/usr/share/doc/bot-kjp", "/etc/rc2.d/S01bot-kjp"]
    {
        assert!(machine.path(gone).symlink_metadata().is_err(), "{gone} is still there");
    }
    assert!(ledger_is_a_database(&machine) && machine.read(SETTINGS) == mine);
    let said = machine.done(&[CARRIED, "uninstall"]);
    assert_eq!(said, "Bot tidak terpasang; tidak ada yang diubah.\n");

    let (code, _) = machine.tried(&[CARRIED, "uninstall", "--purge", "ya"]);
    assert!(code == 64 && ledger_is_a_database(&machine));
    machine.done(&[CARRIED, "uninstall", "--purge", "hapus-semua-data"]);
    for gone in ["/var/lib/bot-kjp", "/etc/bot-kjp", SECRETS] {
        assert!(machine.path(gone).symlink_metadata().is_err(), "{gone} is still there");
    }
    assert!(!machine.read("/etc/passwd").contains("bot-kjp"));
}

#[test]
fn a_version_that_is_not_well_is_replaced_by_the_one_before() {
    let machine = installed(Programs::Debian);
    let before = machine.pid("bot-kjp.pid").expect("it runs");
    machine.carry(|program| bad(program));
    let (code, said) = machine.tried(&[CARRIED, "install"]);
    assert_eq!(code, 1, "{said}");
    for part in
        ["ended with exit code 74", "Catatan terakhirnya:", "EXCLUSIVX", "Versi sebelumnya sudah dipasang"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(machine.path(PROGRAM)).unwrap(), fs::read(program()).unwrap());
    let after = machine.next_bot(before);
    machine.done(&[SCRIPT, "status"]);
    let (code, said) = machine.tried(&[PROGRAM, "status"]);
    assert_ne!(code, 69, "the page does not answer: {said}");
    assert!(machine.lives(after));
}

#[test]
fn what_cannot_be_installed_changes_nothing() {
    let machine = installed(Programs::Debian);
    let bot = machine.pid("bot-kjp.pid").expect("it runs");
    machine.carry(newer);
    let unchanged = |said: &str| {
        assert_eq!(fs::read(machine.path(PROGRAM)).unwrap(), fs::read(program()).unwrap(), "{said}");
        assert_eq!(machine.pid("bot-kjp.pid"), Some(bot));
        assert!(machine.lives(bot));
    };
    let (code, said) =
        machine.tried(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", CARRIED, "install"]);
    assert!(code == 77 && said.contains("Hanya root"), "{code}: {said}");
    unchanged(&said);

    machine.write(SETTINGS, "inbox.capacity = 0\n");
    let (code, said) = machine.tried(&[CARRIED, "install"]);
    assert!(
        code == 78 && said.contains("inbox.capacity") && said.contains("tidak disentuh"),
        "{code}: {said}"
    );
    unchanged(&said);
    machine.write(SETTINGS, "");

    machine.done(&["mount", "-t", "tmpfs", "tmpfs", "/var/lib"]);
    let (code, said) = machine.tried(&[CARRIED, "install"]);
    assert!(
        code == 78 && said.contains("hanya di memori") && said.contains("Belum ada yang diubah"),
        "{said}"
    );
    machine.done(&["umount", "/var/lib"]);
    unchanged(&said);

    machine.done(&[
        "sh",
        "-c",
        "mount -o remount,size=$(($(du -sk /usr/local | cut -f1) + 2000))k /usr/local",
    ]);
    let (code, said) = machine.tried(&[CARRIED, "install"]);
    assert!(code == 73 && said.contains("Ruang kosong kurang"), "{code}: {said}");
    unchanged(&said);
}

#[test]
fn an_image_is_built_below_a_folder_and_nothing_starts() {
    let machine = Machine::start(Programs::Debian, Network::Own);
    machine.carry(|_| {});
    machine.done(&["mkdir", "-p", "/root/image/etc", "/root/image/usr/lib/systemd"]);
    machine.write("/root/image/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    machine.write("/root/image/etc/group", "root:x:0:\n");
    machine.write("/root/image/usr/lib/systemd/systemd", "");
    let install = [CARRIED, "install", "--root", "/root/image"];
    let said = machine.done(&install);
    assert!(said.contains("Terpasang di /root/image."), "{said}");
    assert!(machine.read("/root/image/etc/passwd").contains("\nbot-kjp:x:999:999:"));
    let data = fs::metadata(machine.path("/root/image/var/lib/bot-kjp")).unwrap();
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o777), (999, 999, 0o700));
    let wanted = "/root/image/etc/systemd/system/multi-user.target.wants/bot-kjp.service";
    let target = fs::read_link(machine.path(wanted)).expect("enabled");
    assert!(machine.path(&format!("/root/image{}", target.display())).is_file());
    assert_eq!(machine.pid("bot-kjp.pid"), None);

    let said = machine.done(&install);
    assert!(said.contains("tidak ada yang diubah"), "{said}");
    machine.done(&[CARRIED, "uninstall", "--root", "/root/image", "--purge", "hapus-semua-data"]);
    let left = machine.done(&["find", "/root/image", "-name", "*bot-kjp*"]);
    assert_eq!(left, "");
    assert_eq!(machine.read("/root/image/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
}

/// Start, status, stop, and everything in between.
fn init_script(programs: Programs) {
    let machine = Machine::start(programs, Network::Own);
    machine.carry(|_| {});
    let said = machine.done(&[CARRIED, "install", "--no-start"]);
    assert!(said.contains("sudo /etc/init.d/bot-kjp start"), "{said}");
    // The pauses of the real scripts, shorter; the last one not shorter than a look at the state takes beside boxes.
    machine.write(SECRETS, "BOT_KJP_TEST_PAUSE=0.1\nBOT_KJP_TEST_RETRY=\"10\"\n");
    let script = |action: &str| machine.tried(&[SCRIPT, action]);
    assert_eq!(script("status").0, 3);
    assert_eq!(script("nonsense").0, 2);
    assert_eq!(script("stop").0, 0);

    assert_eq!(script("start").0, 0, "{}", machine.log());
    let bot = machine.next_bot(0);
    let supervisor = machine.pid("supervise.pid").expect("a supervisor");
    assert_eq!(script("status").0, 0);
    let (code, said) = script("start");
    assert!(code == 0 && said.contains("runs already"), "{said}");
    assert_eq!((machine.pid("bot-kjp.pid"), machine.pid("supervise.pid")), (Some(bot), Some(supervisor)));

    assert_eq!(script("restart").0, 0);
    let mut bot = machine.next_bot(bot);
    // Ten restarts are quick; after the next end it is tried seldom, and visibly failed meanwhile.
    for _ in 0..10 {
        machine.kill("KILL", bot);
        bot = machine.next_bot(bot);
    }
    machine.kill("KILL", bot);
    machine.until("failure", || machine.read("/run/bot-kjp/state").starts_with("failed").then_some(()));
    let (code, said) = script("status");
    assert!(code == 1 && said.contains("killed by signal 9; tried again in 10 s"), "{code} {said}");
    let again = machine.next_bot(bot);
    machine.until("new try", || (script("status").0 == 0).then_some(()));
    // One try, and seldom again.
    machine.kill("KILL", again);
    machine.until("failure", || machine.read("/run/bot-kjp/state").contains("in 10 s").then_some(()));
    // Asked to stop while it rests, it stops at once.
    assert_eq!(script("stop").0, 0);
    assert_eq!(machine.pid("supervise.pid"), None);
    assert_eq!(script("status").0, 3);

    // What a person has to mend shows at the start, and is not tried again at once.
    machine.write(SETTINGS, "inbox.capacity = 0\n");
    let (code, said) = script("start");
    assert!(
        code == 1 && said.contains("exit code 78") && said.contains("tried again in 10 s"),
        "{code} {said}"
    );
    assert_eq!(script("status").0, 1);
    machine.write(SETTINGS, "");
    let bot = machine.next_bot(0);
    assert_eq!(script("status").0, 0);

    // Nobody is left behind when the supervisor is killed.
    let supervisor = machine.pid("supervise.pid").expect("a supervisor");
    machine.kill("KILL", supervisor);
    machine.until("end of the bot", || (!machine.lives(bot)).then_some(()));
    assert_eq!(script("status").0, 1, "died, and left its number");
    assert_eq!(script("start").0, 0);
    machine.next_bot(bot);
    assert_eq!(script("stop").0, 0);
    machine.until("end of all processes", || {
        let lines = machine.done(&["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; :"]);
        (!lines.contains("/usr/local/lib/bot-kjp/supervise")).then_some(())
    });
}

#[test]
fn the_init_script_keeps_the_bot_running_under_debians_programs() {
    init_script(Programs::Debian);
}

#[test]
fn the_init_script_keeps_the_bot_running_under_a_bare_busybox() {
    init_script(Programs::Busybox);
}

#[test]
fn a_box_that_boots_without_random_numbers_waits_for_them_without_systemd_too() {
    let machine = Machine::start(Programs::Debian, Network::Own);
    machine.carry(|_| {});
    machine.done(&[CARRIED, "install", "--no-start"]);
    machine.write("/run/no-random-numbers", "");
    machine.write(SECRETS, &format!("{NO_ENTROPY_VARIABLE}=/run/no-random-numbers\n"));
    machine.done(&[SCRIPT, "start"]);
    let bot = machine.next_bot(0);
    machine.until("word of it in the log", || {
        machine.log().contains("the kernel has no random numbers yet").then_some(())
    });
    machine.done(&[SCRIPT, "status"]);
    assert!(!machine.path(LEDGER).exists(), "nothing has begun");
    machine.done(&["rm", "/run/no-random-numbers"]);
    machine.until("the bot's page", || (machine.tried(&[PROGRAM, "status"]).0 != 69).then_some(()));
    assert_eq!(machine.pid("bot-kjp.pid"), Some(bot), "the same process");
    machine.done(&[SCRIPT, "stop"]);
}

#[test]
fn pairing_on_a_box_pauses_the_service_and_needs_no_key() {
    let server = WhatsApp::start(testbed::Options::default()).expect("WhatsApp's side starts");
    let machine = Machine::start(Programs::Debian, Network::Shared);
    machine.carry(|_| {});
    machine.done(&[CARRIED, "install", "--no-start"]);
    machine.write(
        SETTINGS,
        &format!(
            "whatsapp.url = {:?}\nhealth.listen = \"off\"\nsupabase.url = \"https://kjp.example.supabase.co\"\n",
            server.url()
        ),
    );
    machine.write(SECRETS, "SUPABASE_SECRET_KEY=sb_secret_of_a_test\n");
    machine.done(&[SCRIPT, "start"]);
    let unpaired = machine.next_bot(0);

    let phone = server.phone("Operator").expect("a phone");
    let mut pairing = Bot::start(machine.command(&[PROGRAM, "pair"]));
    let qr = pairing.wait_for_qr();
    assert!(!machine.lives(unpaired), "two bots at once");
    phone.scan_qr(&qr).expect("the phone accepts the QR code");
    let status = pairing.wait();
    assert!(status.success(), "{}", pairing.output());
    let said = pairing.last_words();
    for part in ["Layanan bot dihentikan sebentar", "Berhasil", "Layanan bot dinyalakan lagi"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    machine.next_bot(unpaired);
    let (user, ..) = machine.owner(LEDGER);
    assert_eq!(user, "bot-kjp");
    server.wait_online(phone.number(), super::bot::DEADLINE).expect("the service is online");

    // The service comes back also when nobody scans and the operator gives up.
    let paired = machine.pid("bot-kjp.pid").expect("it runs");
    machine.done(&[SCRIPT, "stop"]);
    machine.done(&["sh", "-c", "rm /var/lib/bot-kjp/bot-kjp.db*"]);
    machine.done(&[SCRIPT, "start"]);
    let unpaired = machine.next_bot(paired);
    let pairing = Bot::start(machine.command(&[PROGRAM, "pair"]));
    pairing.wait_for_qr();
    // Ctrl-C reaches both, the one who paused the service and the one who pairs.
    machine.done(&["sh", "-c", "for p in $(pidof bot-kjp); do kill -INT $p; done"]);
    machine.next_bot(unpaired);
}

#[test]
fn deploy_does_the_same_on_windows() {
    let script = include_str!("../../scripts/deploy");
    let batch = include_str!("../../scripts/deploy.bat");
    let lines: Vec<&str> = batch.split('\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| line.ends_with('\r')), "cmd.exe wants CR LF");
    assert!(batch.is_ascii());
    // What runs on the box is the same text.
    let look = script.lines().find_map(|line| line.strip_prefix("look=\"")?.strip_suffix('"')).unwrap();
    assert!(batch.contains(&format!("\"{look}\"")), "{look}");
    let take = script.lines().find_map(|line| line.strip_prefix("take=\"")?.strip_suffix('"')).unwrap();
    assert!(batch.contains(&format!("\"{}\" <\"%FILE%\"", take.replace("$sum", "%SUM%"))), "{take}");
    let install = script.lines().last().unwrap();
    let (_, install) = install.split_once("\"$box\" ").unwrap();
    assert!(batch.contains(&install.replace("$sum", "%SUM%").replace("\\$", "$")), "{install}");
    assert!(
        batch.contains("\"/usr/local/bin/bot-kjp install\"")
            && script.contains("\"/usr/local/bin/bot-kjp install\"")
    );
    // Both take what lies beside them, as in a folder of downloads.
    assert!(script.contains("[ -f \"$here/bot-kjp\" ]") && batch.contains("if exist \"%~dp0bot-kjp\""));
}

#[test]
fn the_pages_of_a_release_name_every_file_that_it_has() {
    let release = include_str!("../../scripts/release");
    let guide = include_str!("../../rootfs/usr/share/doc/bot-kjp/PANDUAN.md");
    let (_, table) = guide.split_once("## Mengunduh").unwrap();
    let (table, _) = table.split_once("## Memasang").unwrap();
    for file in [
        "bot-kjp",
        "bot-kjp.sha256",
        "bot-kjp-armv7",
        "bot-kjp-armv7.sha256",
        "deploy.bat",
        "deploy",
        "PANDUAN.md",
    ] {
        assert!(table.contains(&format!("`{file}`")), "PANDUAN.md does not say what {file} is");
        let path = if file.starts_with("bot-kjp") { "dist/$name" } else { file };
        assert!(release.contains(path), "scripts/release does not put in {file}");
    }
}

#[test]
fn deploy_says_how_it_is_used_and_touches_nothing_without_a_box() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/deploy");
    for arguments in [&[][..], &["-x"], &["root@a", "root@b"]] {
        let output = Command::new(script).args(arguments).output().expect("sh");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    // 192.0.2.0/24 is nobody's (RFC 5737); without a network it is refused at once.
    let mut lonely = command("unshare", None);
    lonely.args(["--map-root-user", "--net", script, "root@192.0.2.1"]).env("PATH", "/usr/bin:/bin");
    let output = lonely.output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(69) && said.contains("Tidak dapat masuk"), "{said}");
}

//! Debian with systemd: the unit starts at boot, is watched, is not restarted for ever, and does without what the
//! kernel refuses of its sandbox; new versions come over ssh, and bad ones go by themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bot_kjp::clock;
use tempfile::TempDir;
use testbed::Handset;
use testbed::customers::Customer;
use testbed::machine::{Begin, Booted, Hardware, Init, Machine, Parts};

use super::scene::{DEADLINE, Scene, bot, until};

/// sshd of the box.
const SSH: u16 = 22;

/// Starts that systemd makes before it gives a bot up: `StartLimitBurst` of the unit.
const STARTS: usize = 10;

/// A minute of watchdog and 15 minutes until the next try are the unit's; nobody waits for them here.
const QUICKER: &str = "[Service]\nWatchdogSec=20\nRestartSec=1\n";
const QUICKER_RETRY: &str = "[Timer]\nOnActiveSec=\nOnActiveSec=10\nAccuracySec=1\n";

/// The box, and how it is reached by ssh.
pub struct Server {
    pub scene: Scene,
    pub machine: Machine,
    folder: TempDir,
}

impl Server {
    fn new() -> Self {
        let parts = Parts::find().expect("parts of a box");
        let booted = Booted::debian(&parts, &[SSH]).expect("a box that has booted");
        Self::on(parts, &booted)
    }

    fn on(parts: Parts, booted: &Booted) -> Self {
        let scene = Scene::on(parts, booted.disk_of_a_box().expect("a disk"));
        let machine = booted.start(&scene.parts, &scene.disk, &[SSH]).expect("the box goes on");
        Self { scene, machine, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn print(&self, command: &str) -> String {
        self.machine.print(command).expect("the box answers").trim().to_owned()
    }

    /// A property of the unit.
    pub fn property(&self, name: &str) -> String {
        self.print(&format!("systemctl show --value -p {name} bot-kjp"))
    }

    pub fn wait_for(&self, name: &str, value: &str) {
        until(&format!("{name}={value} of the unit"), || (self.property(name) == value).then_some(()));
    }

    pub fn journal(&self) -> String {
        self.journal_of("bot-kjp")
    }

    /// Waits until a unit's journal has a text so many times. The box looks by itself, for to be asked all the time
    /// would keep its processor busy.
    fn wait_for_journal(&self, unit: &str, text: &str, times: usize) {
        let seconds = DEADLINE.as_secs();
        let command =
            format!("timeout {seconds} journalctl -u {unit} -o cat -n all -f | grep -F -m {times} '{text}'");
        let found = self.machine.run_for(&command, DEADLINE * 2).expect("the box answers").text;
        assert_eq!(found.matches(text).count(), times, "{text:?} in:\n{}", self.journal_of(unit));
    }

    fn journal_of(&self, unit: &str) -> String {
        self.print(&format!("journalctl -u {unit} -o cat --no-pager"))
    }

    /// ssh's settings, as somebody who looks after boxes has them in `~/.ssh/config`.
    fn ssh_config(&self) -> PathBuf {
        let file = self.folder.path().join("ssh_config");
        let config = format!(
            "Host box\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
            self.machine.port(SSH),
            self.scene.parts.ssh_key().display(),
        );
        fs::write(&file, config).expect("written");
        file
    }

    /// Runs `scripts/deploy` against the box, as if `cross/build` had just made `binary`; returns
    /// whether it succeeded and what it said.
    fn deploy(&self, binary: &Path) -> (bool, String) {
        let copy = |from: &Path, folder: &str, name: &str| {
            let folder = self.folder.path().join(folder);
            fs::create_dir_all(&folder).expect("a folder");
            fs::copy(from, folder.join(name)).expect("copied");
            folder.join(name)
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy");
        let script = copy(&script, "scripts", "deploy");
        copy(binary, "dist", "bot-kjp");
        let begun = clock::now();
        let mut deploy = Command::new(script);
        deploy.arg("-F").arg(self.ssh_config()).arg("root@box").stdin(Stdio::null());
        let output = deploy.output().expect("scripts/deploy runs");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!(
            "---- deploy {}: {} after {:?}\n{said}",
            binary.display(),
            output.status,
            clock::since(begun)
        );
        (output.status.success(), said)
    }

    /// A bot in which a text is another one, of the same length.
    fn changed(&self, name: &str, from: &str, to: &str) -> PathBuf {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(bot()).expect("the bot");
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "the bot has {from:?} in it");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        let file = self.folder.path().join(name);
        fs::write(&file, bytes).expect("written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, executable).expect("executable");
        file
    }

    /// As the operator does. `mode`: of the settings, which are everybody's to read until the bot is installed.
    fn configure(&self, mode: u32) {
        self.print("mkdir -p /etc/bot-kjp /etc/default");
        let write = |path: &str, text: &str, mode| {
            self.machine.write(path, text.as_bytes(), mode).expect("written");
        };
        write("/etc/bot-kjp/config.toml", &self.scene.config(), mode);
        write("/etc/default/bot-kjp", &self.scene.secrets(), 0o600);
    }

    /// The first deployment; what the operator wrote before is theirs.
    fn install(&self) {
        self.configure(0o644);
        until("sshd", || (self.machine.run("systemctl is-active ssh").ok()?.code == 0).then_some(()));
        let (well, said) = self.deploy(&bot());
        assert!(well, "{said}");
        assert_eq!(self.property("ActiveState"), "active", "{}", self.journal());
        assert_eq!(self.property("UnitFileState"), "enabled");
        assert_eq!(self.print("cat /etc/bot-kjp/config.toml"), self.scene.config().trim());
    }

    /// Everything of the bot on the box that a deployment could change.
    fn installed(&self) -> String {
        self.print(
            "find /usr/local/bin/bot-kjp* /usr/local/lib/bot-kjp /etc/bot-kjp /etc/default/bot-kjp \
             /etc/init.d/bot-kjp /etc/systemd /usr/local/lib/systemd /usr/share/doc/bot-kjp \
             -name '.*' -prune -o -type f -printf '%p %m %U %G ' -exec sha256sum {} + | sort",
        )
    }
}

fn switch_on(scene: &Scene) -> Machine {
    let (parts, disk, first) = (&scene.parts, &scene.disk.path(), &scene.parts.first());
    let hardware = Hardware {
        parts,
        init: Init::Systemd,
        first,
        disk,
        ports: &[SSH],
        counts_instructions: false,
        clock: None,
        seed: true,
        begin: Begin::SwitchedOn,
    };
    let machine = Machine::start(&hardware).expect("the box is switched on");
    machine.wait_booted().expect("the box boots");
    machine
}

/// A box on which a first deployment has installed the bot, as long as a test keeps it: those that begin
/// meanwhile go on from there.
static INSTALLED: Mutex<Weak<Booted>> = Mutex::new(Weak::new());

/// A box on which a first deployment has installed the bot, paired by its operator, and its first customer,
/// who has registered somebody.
pub struct Serving {
    pub server: Server,
    ani: Customer,
    phone: Handset,
    _installed: Arc<Booted>,
}

impl Serving {
    pub fn new() -> Self {
        let mut last = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let (server, installed) = if let Some(installed) = last.upgrade() {
            let server = Server::on(Parts::find().expect("parts of a box"), &installed);
            server.configure(0o640);
            server.print("systemctl restart bot-kjp");
            (server, installed)
        } else {
            let server = Server::new();
            server.install();
            let standing = Booted::as_it_stands(&server.machine, &server.scene.disk);
            let installed = Arc::new(standing.expect("its state is kept"));
            *last = Arc::downgrade(&installed);
            (server, installed)
        };
        drop(last);
        let scene = &server.scene;
        scene.pair(&server.machine);
        let (ani, phone) = scene.customer(0);
        scene.ask(&phone, "1");
        scene.ask(&phone, "3");
        let serving = Self { server, ani, phone, _installed: installed };
        serving.register(0);
        serving.server.scene.wait_for_rows("SELECT count(*) FROM data_harian", "1");
        serving
    }

    pub fn register(&self, n: usize) {
        let answer = self.server.scene.ask(&self.phone, &self.ani.registration_text(n));
        assert!(answer.contains("berhasil"), "{answer}");
    }

    /// Deploys a bad version, in whose place the old one must be in the end, and register person `n`.
    fn take_back(&self, bad: &Path, n: usize) {
        let server = &self.server;
        let before = server.installed();
        let (well, said) = server.deploy(bad);
        assert!(!well, "a bad version is no success:\n{said}");
        assert_eq!(server.installed(), before, "the old one is back:\n{said}");
        server.wait_for("ActiveState", "active");
        server.scene.wait_online();
        self.register(n);
    }
}

#[test]
fn deploy_changes_nothing_twice_and_takes_bad_versions_back_and_the_unit_starts_at_boot() {
    let serving = Serving::new();
    let server = &serving.server;

    // The same again changes nothing.
    let (before, pid) = (server.installed(), server.property("MainPID"));
    let (well, said) = server.deploy(&bot());
    assert!(well, "{said}");
    assert_eq!((server.installed(), server.property("MainPID")), (before, pid), "{said}");

    // systemd reads all its files again when one of them is another …
    let reloads = || server.print("journalctl _PID=1 -o cat --no-pager | grep -c '^Reloading' || true");
    server.print("echo '# mine' >>/usr/local/lib/systemd/system/bot-kjp.service; systemctl daemon-reload");
    server.print("/usr/local/bin/bot-kjp install --no-start");
    assert_eq!(server.property("NeedDaemonReload"), "no");
    // … and otherwise not, which a box at work would feel.
    let reloaded = reloads();

    // One that dies, and one that never says that it is ready.
    let dead = server.changed("dead", "bot-kjp.db", "bot/kjp.db");
    serving.take_back(&dead, 1);
    let mute = server.changed("mute", "NOTIFY_SOCKET", "NOTIFY_NOBODY");
    serving.take_back(&mute, 2);
    assert_eq!(reloads(), reloaded);

    // Enabled means: switched on, it serves.
    let Serving { server: Server { scene, machine, .. }, ani, phone, .. } = serving;
    machine.shut_down().expect("the box shuts down");
    scene.wait_offline();
    let machine = switch_on(&scene);
    scene.wait_online();
    println!("served {:?} after it was switched on", machine.uptime());
    let list = scene.ask(&phone, "2");
    for n in 0..3 {
        assert!(list.contains(&ani.person(n).nama), "{list}");
    }
    assert_eq!(phone.failed_decryptions(), 0);
    scene.wait_for_rows("SELECT count(*) FROM data_harian", "3");
}

#[test]
fn systemd_ends_a_stalled_bot_and_tries_one_that_cannot_start_ever_more_seldom() {
    let serving = Serving::new();
    let server = &serving.server;
    let scene = &server.scene;

    // A bot that stands still pings no more: systemd ends it and starts another.
    server.print("mkdir -p /etc/systemd/system/bot-kjp.service.d /etc/systemd/system/bot-kjp-retry.timer.d");
    let drop_in = |unit: &str, text: &str| {
        let path = format!("/etc/systemd/system/{unit}.d/quicker.conf");
        server.machine.write(&path, text.as_bytes(), 0o644).expect("written");
    };
    drop_in("bot-kjp.service", QUICKER);
    drop_in("bot-kjp-retry.timer", QUICKER_RETRY);
    server.print("systemctl daemon-reload; systemctl restart bot-kjp");
    scene.wait_online();
    server.print("systemctl kill --kill-whom=main --signal=STOP bot-kjp");
    server.wait_for_journal("bot-kjp", "Watchdog timeout", 1);
    server.wait_for("ActiveState", "active");
    assert_eq!(server.property("NRestarts"), "1");
    scene.wait_online();
    serving.register(1);

    // A bot that dies at every start: ten starts, then it has visibly failed and is tried seldom.
    // Starts so far, by the deployment and the watchdog, do not count.
    server.print("systemctl reset-failed bot-kjp");
    server.print("cp -p /usr/local/bin/bot-kjp /root/good; cp /bin/false /usr/local/bin/bot-kjp.new");
    server.print("mv /usr/local/bin/bot-kjp.new /usr/local/bin/bot-kjp; kill -9 $(systemctl show --value -p MainPID bot-kjp)");
    server.wait_for_journal("bot-kjp", "Start request repeated too quickly", 1);
    server.wait_for("ActiveState", "failed");
    let journal = server.journal();
    let starts = journal.matches("status=1/FAILURE").count();
    assert!((2..=STARTS).contains(&starts), "{starts} starts:\n{journal}");
    assert_eq!(server.print("systemctl is-active bot-kjp-retry.timer"), "active");
    // One try, which fails as well and is not followed by others, and so on.
    server.wait_for_journal("bot-kjp-retry", "tried again now", 2);
    scene.wait_offline();
    server.print("mv /root/good /usr/local/bin/bot-kjp");
    scene.wait_online();
    server.wait_for("ActiveState", "active");
    serving.register(2);
    assert_eq!(serving.phone.failed_decryptions(), 0);
    scene.wait_for_rows("SELECT count(*) FROM data_harian", "3");
}

/// Kinds of namespaces by the kernel's limits (`/proc/sys/user/max_…_namespaces`), a line of the bot's sandbox
/// that needs each, its value in the unit and when it is off, and the exposure then.
const NEEDED: [(&str, &str, &str, &str, &str); 3] = [
    ("user", "PrivateUsers", "yes", "no", "1.3"),
    ("uts", "ProtectHostname", "yes", "no", "1.1"),
    ("mnt", "ProtectSystem", "strict", "no", "3.0"),
];

const TAKEN_OFF: &str = "taken off until the next boot";

impl Server {
    /// Lets the kernel give no more of these namespaces to anybody; returns its limit.
    fn refuse(&self, kind: &str) -> String {
        let limit = format!("/proc/sys/user/max_{kind}_namespaces");
        self.print(&format!("cat {limit}; echo 0 >{limit}"))
    }

    fn give(&self, kind: &str, limit: &str) {
        self.print(&format!("echo {limit} >/proc/sys/user/max_{kind}_namespaces"));
    }

    fn kill(&self) {
        self.print("systemctl kill --kill-whom=main --signal=KILL bot-kjp");
        self.scene.wait_offline();
    }

    /// What `install` says. The bot runs then.
    fn installs(&self, command: &str) -> String {
        let said = self.print(&format!("{command} 2>&1"));
        println!("---- {command}\n{said}");
        assert_eq!(self.property("NeedDaemonReload"), "no");
        assert_eq!(self.property("ActiveState"), "active", "{said}\n{}", self.journal());
        said
    }

    fn doctor(&self) -> String {
        let said = self.machine.run("/usr/local/bin/bot-kjp doctor 2>&1").expect("the box answers").text;
        println!("---- doctor\n{said}");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn drop_ins(&self, below: &str) -> String {
        self.print(&format!("cd {below}/systemd/system; ls -d bot-kjp*.d/40-* 2>/dev/null || :"))
    }

    /// By `systemd-analyze security`.
    fn exposure(&self) -> String {
        let said = self.print("systemd-analyze security --no-pager bot-kjp.service | tail -n 1");
        said.split("bot-kjp.service: ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it").to_owned()
    }
}

#[test]
fn no_line_of_the_sandbox_costs_the_service_and_all_of_them_come_back() {
    let serving = Serving::new();
    let server = &serving.server;
    assert_eq!(server.exposure(), "1.1");
    let install = "/usr/local/bin/bot-kjp install";
    let mut people = 0;
    let mut serves = || {
        people += 1;
        server.scene.wait_online();
        server.wait_for("ActiveState", "active");
        serving.register(people);
    };

    for (times, (kind, line, whole, without, exposure)) in NEEDED.into_iter().enumerate() {
        // Refused later: one start fails, the one after it is without the lines that need it.
        println!("---- {kind}");
        let limit = server.refuse(kind);
        server.kill();
        server.wait_for_journal("bot-kjp-loosen", TAKEN_OFF, times + 1);
        serves();
        assert_eq!((server.property(line).as_str(), server.exposure().as_str()), (without, exposure));
        for (_, other, whole, ..) in NEEDED.into_iter().filter(|(other, ..)| *other != kind) {
            assert_eq!(server.property(other), whole, "without {kind}");
        }
        if times == 0 {
            let said = server.doctor();
            let told = "! Kernel perangkat ini menolak sebagian pengaman layanan; dilepas sampai perangkat \
                        dinyalakan ulang: PrivateUsers.";
            assert!(said.contains(told), "{said}");
        }

        // Who installs finds it refused, and it stays off …
        let said = match times {
            0 => server.installs(&format!("{install} --no-start")),
            _ => server.installs(install),
        };
        assert!(said.contains("! Kernel perangkat ini menolak") && said.contains(line), "{said}");
        assert!(server.drop_ins("/etc").contains("bot-kjp.service.d/40-without-"), "{said}");
        let pid = server.property("MainPID");
        let said = server.installs(install);
        assert!(said.ends_with("tidak ada yang diubah."), "{said}");
        assert_eq!(server.property("MainPID"), pid);
        // … until the kernel gives it again.
        server.give(kind, &limit);
        let said = server.installs(install);
        assert!(said.contains("dipasang kembali") && said.contains(line), "{said}");
        assert_eq!((server.drop_ins("/etc"), server.drop_ins("/run")), (String::new(), String::new()));
        assert_eq!((server.property(line).as_str(), server.exposure().as_str()), (whole, "1.1"));
        serves();
    }

    // All of them at once, and nobody there who takes anything off: the cause stands first, and what to do.
    let limits = ["user", "uts", "mnt", "net"].map(|kind| (kind, server.refuse(kind)));
    server.print("systemctl mask --quiet --runtime bot-kjp-loosen.service");
    server.kill();
    server.wait_for("ActiveState", "failed");
    let said = server.doctor();
    let first = said.split('✖').nth(1).expect("something is wrong").trim();
    assert!(first.starts_with("Layanan bot tidak dapat dinyalakan (kode 2"), "{said}");
    assert!(
        first.contains("→ Lepaskan yang ditolak dan nyalakan bot dengan: sudo bot-kjp install"),
        "{said}"
    );
    assert!(!said.contains("Bot tidak berjalan."), "{said}");
    // The rescuer's own sandbox is refused, too …
    let rescue = || server.machine.run("systemctl start bot-kjp-retry").expect("the box answers").code;
    assert_eq!(rescue(), 1);
    assert_eq!(server.print("systemctl show --value -p Result bot-kjp-retry"), "exit-code");
    // … until somebody takes that off, too.
    server.print("systemctl unmask --quiet --runtime bot-kjp-loosen.service");
    rescue();
    serves();
    assert_eq!(server.drop_ins("/run").lines().count(), 6, "{}", server.journal_of("bot-kjp-loosen"));
    assert_eq!(server.exposure(), "3.1");
    until("the rescuer to have been there", || (rescue() == 0).then_some(()));

    // Refused before it is installed: no start fails.
    server.print("cd /usr/local/bin && cp bot-kjp /root/bot-kjp && ./bot-kjp uninstall");
    server.scene.wait_offline();
    assert_eq!(server.print("find /etc/systemd /run/systemd/system -path '*bot-kjp*'"), "");
    let loosened = || server.journal_of("bot-kjp-loosen").matches(TAKEN_OFF).count();
    let before = loosened();
    let said = server.installs("/root/bot-kjp install");
    for (_, line, ..) in NEEDED {
        assert!(said.contains(line), "{said}");
    }
    serves();
    assert_eq!((loosened(), server.property("NRestarts").as_str()), (before, "0"));
    for (kind, limit) in &limits {
        server.give(kind, limit);
    }
    server.installs(install);
    serves();
    assert_eq!(server.exposure(), "1.1");

    // Refused while it runs: who installs then sees no start fail either.
    let limit = server.refuse("user");
    let said = server.installs(install);
    assert!(said.contains("! Kernel perangkat ini menolak") && said.contains("PrivateUsers"), "{said}");
    serves();
    assert_eq!((loosened(), server.property("PrivateUsers").as_str()), (before, "no"));
    server.give("user", &limit);
    server.installs(install);
    serves();

    // What cannot be foreseen by asking the kernel: the status alone tells.
    server.machine.write("/usr/local/sbin/unshare", b"#!/bin/sh\n", 0o755).expect("written");
    server.refuse("user");
    let said = server.installs(install);
    assert!(said.ends_with("tidak ada yang diubah."), "{said}");
    server.kill();
    server.wait_for_journal("bot-kjp-loosen", TAKEN_OFF, before + 1);
    serves();
    assert_eq!((server.property("PrivateUsers").as_str(), server.exposure().as_str()), ("no", "1.3"));
    // Even who installs then has a bot that runs.
    let said = server.installs(install);
    assert!(said.contains("dilepas sampai perangkat dinyalakan ulang: PrivateUsers."), "{said}");
    serves();
    assert_eq!(serving.phone.failed_decryptions(), 0);
}

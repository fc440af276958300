//! The usual scene: WhatsApp's side and Supabase on this machine, a bot on an emulated box.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use bot_kjp::clock;
use tempfile::TempDir;
use testbed::bot::{DatabaseCopy, copy_database, that_knows_the_test_bed};
use testbed::customers::Customer;
use testbed::machine::{Begin, Disk, Files, HOST, Hardware, Init, LosingDisk, Machine, Parts};
use testbed::{Handset, Options, Supabase, WhatsApp};

use super::qr_camera;

/// Longest wait for anything that a bot on an emulated box should do; a passing test never waits
/// that long.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Where the ledger lies on the box, and on the disk that is mounted as `/var/lib`.
const LEDGER: &str = "bot-kjp/bot-kjp.db";

/// Where the pairing writes what it shows.
const PAIRING: &str = "/run/pairing";

/// What busybox' init does: syslog, to the console, all init scripts, as in a runlevel, and the tests'
/// way in.
const INITTAB: &str = "\
::once:/etc/rc
::respawn:/usr/local/sbin/box-shell
::shutdown:/etc/init.d/bot-kjp stop
::shutdown:/bin/umount /var/lib
";
const RC: &str = "#!/bin/sh
syslogd -O /dev/ttyAMA0
for script in /etc/init.d/*; do
    \"$script\" start
done >/dev/console 2>&1
";

/// The users that a box has, and the bot's.
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
bot-kjp:x:999:999::/var/lib/bot-kjp:/bin/false
";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nbot-kjp:x:999:\n";

static BOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let Some(shipped) = std::env::var_os("BOT_KJP_BOX").map(PathBuf::from) else {
        panic!(
            "BOT_KJP_BOX is not set: run scripts/test, or build with cross/build and set it to dist/bot-kjp"
        );
    };
    that_knows_the_test_bed(&shipped).expect("a bot for the box")
});

/// The bot for the box, as it is shipped but for the root that it knows.
pub fn bot() -> PathBuf {
    BOT.clone()
}

/// The overlay as it lies in the repository.
pub fn rootfs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs")
}

/// Everything but the machine, which the tests switch on and off.
pub struct Scene {
    pub server: WhatsApp,
    pub supabase: Supabase,
    /// The phone that the bot is linked to.
    pub operator: Handset,
    pub parts: Parts,
    pub disk: Disk,
    /// Where the power goes while the disk writes, what serves it.
    pub losing: Option<LosingDisk>,
    folder: TempDir,
}

impl Scene {
    /// A box with busybox' init and an empty disk, on which nothing ran yet.
    pub fn with_busybox() -> Self {
        let parts = Parts::find().expect("parts of a box");
        let disk = Disk::empty().expect("a disk");
        let scene = Self::on(parts, disk);
        scene.pack(&scene.files()).expect("the first file system is packed");
        scene
    }

    pub fn on(parts: Parts, disk: Disk) -> Self {
        let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
        let supabase = Supabase::start().expect("Supabase starts");
        supabase.apply(bot_kjp::supabase::SCHEMA).expect("the schema applies");
        let operator = server.phone("Operator").expect("a phone");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { server, supabase, operator, parts, disk, losing: None, folder }
    }

    /// From the next time that the box is switched on, power may go while its disk writes.
    pub fn lose_disk_while_it_writes(&mut self) {
        self.losing = Some(LosingDisk::serve(&self.disk).expect("the disk is served"));
    }

    /// The bot's configuration as an operator would write it, for this scene.
    pub fn config(&self) -> String {
        format!(
            "[whatsapp]\nurl = \"ws://{HOST}:{}/ws/chat\"\n\n[network]\ndns = [\"system\"]\n\n\
             [connection]\nattempts_per_hour = 3600\nbackoff = [\"1s\"]\n\n\
             [outbox]\nper_chat_per_second = 100\ntotal_per_second = 100\n\n\
             [supabase]\nurl = \"http://{HOST}:{}\"\ninterval = \"100ms\"\n",
            self.server.address().port(),
            self.supabase.port(),
        )
    }

    /// What stands in `/etc/default/bot-kjp`.
    pub fn secrets(&self) -> String {
        format!("SUPABASE_SECRET_KEY={}\n", self.supabase.secret_key())
    }

    fn files(&self) -> Files {
        let files = Files::new().expect("a temporary folder");
        let written: anyhow::Result<()> = (|| {
            files.copy_tree(&rootfs())?;
            files.copy(&bot(), "/usr/local/bin/bot-kjp", 0o755)?;
            files.write("/etc/bot-kjp/config.toml", self.config(), 0o644)?;
            files.write("/etc/default/bot-kjp", self.secrets(), 0o600)?;
            files.write("/etc/inittab", INITTAB, 0o644)?;
            files.write("/etc/rc", RC, 0o755)?;
            files.write("/etc/passwd", PASSWD, 0o644)?;
            files.write("/etc/group", GROUP, 0o644)
        })();
        written.expect("the files of the box");
        files
    }

    fn pack(&self, files: &Files) -> anyhow::Result<()> {
        files.first_file_system(&self.parts, &self.first())
    }

    fn first(&self) -> PathBuf {
        self.folder.path().join("first.cpio")
    }

    /// State of the box before it has looked at its disk.
    fn paused(&self) -> PathBuf {
        self.folder.path().join("paused")
    }

    /// Switches the box on, with busybox' init.
    pub fn switch_on(&self) -> Machine {
        self.begin(Begin::SwitchedOn, None)
    }

    /// The same with a clock that says what [`Hardware::clock`] does.
    pub fn switch_on_at(&self, clock: &str) -> Machine {
        self.begin(Begin::SwitchedOn, Some(clock))
    }

    /// Switches the box on where the boot loader gives the kernel no seed for its random numbers.
    pub fn switch_on_without_seed(&self) -> Machine {
        let (first, disk) = (self.first(), self.disk.path());
        start(&Hardware { seed: false, ..self.hardware(Begin::SwitchedOn, None, &first, &disk) })
    }

    /// Switches the box on, or has it come from where it was the first time that this was called: the kernel
    /// runs, nothing has been read from the disk. That way it is where it was in a tenth of the time, and
    /// every file system that a power cut leaves behind is mounted as ever.
    pub fn switch_on_quickly(&self) -> Machine {
        let paused = self.paused();
        let machine = if paused.exists() {
            self.begin(Begin::Kept(&paused), None)
        } else {
            let machine = self.begin(Begin::Pausing, None);
            machine.wait_paused().expect("the box boots");
            machine.keep(&paused).expect("its state is kept");
            machine.resume().expect("it runs again");
            machine
        };
        machine.go_on().expect("the box goes on");
        machine
    }

    fn begin(&self, begin: Begin<'_>, clock: Option<&str>) -> Machine {
        let disk = self.losing.as_ref().map_or_else(|| self.disk.path(), LosingDisk::socket);
        let first = self.first();
        start(&self.hardware(begin, clock, &first, &disk))
    }

    fn hardware<'a>(
        &'a self,
        begin: Begin<'a>,
        clock: Option<&'a str>,
        first: &'a Path,
        disk: &'a Path,
    ) -> Hardware<'a> {
        let (parts, init) = (&self.parts, Init::Busybox);
        Hardware {
            parts,
            init,
            first,
            disk,
            ports: &[],
            counts_instructions: false,
            clock,
            seed: true,
            begin,
        }
    }

    /// Links the bot with the operator's phone, as an operator does who has logged in on the box.
    pub fn pair(&self, machine: &Machine) {
        let print = |command: &str| machine.print(command).expect("the box answers");
        let runs = || machine.run("/etc/init.d/bot-kjp status").expect("the box answers").code == 0;
        until("the service to run", || runs().then_some(()));
        print(&format!("/usr/local/bin/bot-kjp pair >{PAIRING} 2>&1 & echo $! >{PAIRING}.pid"));
        let screen = || print(&format!("cat {PAIRING}"));
        let code = || {
            let lines: Vec<String> = screen().lines().map(str::to_owned).collect();
            qr_camera::read(&lines)
        };
        let text = until_or_say(screen, code);
        self.operator.scan_qr(&text).expect("the phone accepts the QR code");
        until("the end of the pairing", || {
            let runs = machine.run(&format!("kill -0 $(cat {PAIRING}.pid)")).expect("the box answers");
            (runs.code != 0).then_some(())
        });
        let said = screen();
        assert!(said.contains("Berhasil: bot sudah tertaut"), "{said}");
        self.wait_online();
    }

    pub fn wait_online(&self) {
        self.server.wait_online(self.operator.number(), DEADLINE).expect("the bot comes online");
    }

    pub fn is_online(&self) -> bool {
        self.server.wait_online(self.operator.number(), Duration::ZERO).is_ok()
    }

    /// Waits until the server has noticed that the bot is gone: its next life must not be taken for
    /// online by the socket of this one.
    pub fn wait_offline(&self) {
        until("the server to notice that the bot is gone", || {
            self.operator.companions_online().is_empty().then_some(())
        });
    }

    /// The `n`th invented customer with a phone of their own.
    pub fn customer(&self, n: usize) -> (Customer, Handset) {
        let customer = Customer::invented(n);
        let phone = self.server.phone(customer.name()).expect("a phone");
        (customer, phone)
    }

    /// The first customer chooses Foodstation and registers somebody.
    pub fn register_the_first(&self) -> (Customer, Handset) {
        let (customer, phone) = self.customer(0);
        self.ask(&phone, "1");
        self.ask(&phone, "3");
        let answer = self.ask(&phone, &customer.registration_text(0));
        assert!(answer.contains("berhasil"), "{answer}");
        (customer, phone)
    }

    /// Sends a message and waits for one more answer on the phone.
    pub fn ask(&self, phone: &Handset, text: &str) -> String {
        let before = phone.shown().len();
        phone.send_text(self.operator.number(), text).expect("the message is sent");
        until(&format!("the answer to {text:?}"), || {
            phone.shown().get(before).map(|message| message.text.clone())
        })
    }

    /// The ledger as the next boot will find it on the disk of a box that is off: journal replayed,
    /// file system sound, `quick_check` passed. `None` when there is none yet.
    pub fn ledger(&self) -> Option<DatabaseCopy> {
        let disk = self.disk.snapshot().expect("the disk is copied");
        disk.recover().expect("the file system is sound");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = folder.path().join("bot-kjp.db");
        if !disk.read(LEDGER, &database).expect("the disk is readable") {
            return None;
        }
        for suffix in ["-wal", "-redo"] {
            let beside = folder.path().join(format!("bot-kjp.db{suffix}"));
            disk.read(&format!("{LEDGER}{suffix}"), &beside).expect("readable");
        }
        Some(copy_database(&database).expect("the database is sound"))
    }

    /// Registrations in the ledger of a box that is off.
    pub fn registrations(&self) -> i64 {
        let copied = self.ledger().expect("there is a ledger");
        copied
            .connection
            .query_row("SELECT count(*) FROM registration", [], |row| row.get(0))
            .expect("the query runs")
    }

    /// Waits until a query of PostgreSQL answers `expected` in its first column.
    pub fn wait_for_rows(&self, sql: &str, expected: &str) {
        let found = || self.supabase.query(sql).expect("the query runs")[0][0].clone();
        until_or_say(
            || format!("{sql} to give {expected}, not {}", found()),
            || (found() == expected).then_some(()),
        );
    }
}

fn start(hardware: &Hardware<'_>) -> Machine {
    Machine::start(hardware).expect("the box is switched on")
}

/// Looks until there is something to find.
pub fn until<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    until_or_say(|| what.to_owned(), found)
}

/// The same, where what to say is only known when it was in vain.
pub fn until_or_say<T>(what: impl Fn() -> String, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + DEADLINE;
    loop {
        let looked = clock::now();
        if let Some(found) = found() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {DEADLINE:?} in vain: {}", what());
        // A look into the box keeps its only processor busy: most of its time is for what is waited for.
        std::thread::sleep(
            (clock::since(looked) * 6).clamp(Duration::from_millis(20), Duration::from_secs(4)),
        );
    }
}

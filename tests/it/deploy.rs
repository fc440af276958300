//! `scripts/deploy` to a box whose ssh server is dropbear and knows no sftp, which scp needs: the bot gets there all
//! the same, a copy that is interrupted changes nothing and leaves nothing behind, and a download that is not what
//! its sum says gets nowhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::bot::{command, program};
use super::machine::{Machine, Network, Programs};

const PROGRAM: &str = "/usr/local/bin/bot-kjp";
const COPIED: &str = "/root/bot-kjp.new";

/// What makes of the machine a box as `deploy` looks at it, with dropbear as its ssh server. `$1`: the key of
/// whoever may come in.
const DROPBEAR: &str = r#"
set -e
mkdir -m 700 /root/.ssh /run/dropbear
echo "$1" >/root/.ssh/authorized_keys
printf '#!/bin/sh\necho aarch64\n' >/run/uname
chmod 755 /run/uname
mount --bind /run/uname "$(command -v uname)"
dropbearkey -t ed25519 -f /run/dropbear/key >/dev/null 2>&1
exec dropbear -F -E -s -p 127.0.0.1:22 -P /run/dropbear/pid -r /run/dropbear/key
"#;

/// A `cat` that stops after its first bytes, says so, and goes on when it is told.
const STOPPING_CAT: &str = "#!/bin/sh\n\
head -c 100000\n\
: >/run/half\n\
until [ -e /run/go-on ]; do sleep 0.05; done\n\
/run/cat \"$@\"\n\
echo $? >/run/cat-ended\n";

struct DropbearBox {
    machine: Machine,
    server: Child,
    /// The keys, ssh's settings, `scripts/deploy` and `dist`.
    here: TempDir,
}

impl DropbearBox {
    fn new() -> Self {
        let here = tempfile::tempdir().expect("a temporary folder");
        let key = here.path().join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = fs::read_to_string(here.path().join("key.pub")).expect("a public key");
        let config = format!(
            "Host box\n  HostName 127.0.0.1\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
            key.display(),
        );
        fs::write(here.path().join("ssh_config"), config).expect("written");
        for folder in ["scripts", "dist"] {
            fs::create_dir(here.path().join(folder)).expect("a folder");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy");
        fs::copy(script, here.path().join("scripts/deploy")).expect("copied");
        fs::copy(program(), here.path().join("dist/bot-kjp")).expect("copied");

        let machine = Machine::start(Programs::Debian, Network::Own);
        let mut server = machine.command(&["sh", "-c", DROPBEAR, "dropbear", public.trim()]);
        server.stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("dropbear starts");
        let it = Self { machine, server, here };
        // 22 in hexadecimal, listening.
        it.machine.until("dropbear", || {
            let sockets = it.machine.done(&["cat", "/proc/net/tcp"]);
            sockets.lines().any(|line| line.contains(":0016 00000000:0000 0A")).then_some(())
        });
        it
    }

    /// `scripts/deploy`, on the same network, as if `cross/build` had just made `dist`. A process group of its own.
    fn deploy(&self) -> Command {
        self.deploy_of(&self.here.path().join("scripts/deploy"))
    }

    /// The same script elsewhere.
    fn deploy_of(&self, script: &Path) -> Command {
        let mut deploy = command(script, Some(&self.machine.network()));
        deploy.arg("-F").arg(self.here.path().join("ssh_config")).arg("root@box");
        deploy.env("PATH", "/usr/bin:/bin").process_group(0);
        deploy
    }

    fn deployed(&self) -> (bool, String) {
        let (code, said) = outcome(self.deploy());
        (code == Some(0), said)
    }

    /// `cross/build` makes another version.
    fn newer(&self) {
        // Behind its end an ELF file may have anything.
        let file = self.dist();
        let mut bytes = fs::read(&file).expect("the bot");
        bytes.extend_from_slice(b"a newer version");
        fs::write(&file, bytes).expect("written");
    }

    fn dist(&self) -> PathBuf {
        self.here.path().join("dist/bot-kjp")
    }

    fn installed(&self) -> Vec<u8> {
        fs::read(self.machine.path(PROGRAM)).expect("a bot is installed")
    }

    fn runs(&self) -> u32 {
        self.machine.pid("bot-kjp.pid").expect("it runs")
    }
}

/// The exit code of a script, and what it says.
fn outcome(mut script: Command) -> (Option<i32>, String) {
    let output = script.output().expect("scripts/deploy runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

impl Drop for DropbearBox {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn deploy_reaches_a_box_whose_ssh_server_knows_no_sftp_and_an_interrupted_copy_changes_nothing() {
    let dropbear = DropbearBox::new();
    let machine = &dropbear.machine;
    let (well, said) = dropbear.deployed();
    assert!(well && said.contains("scp tidak berhasil") && said.contains("cara kedua"), "{said}");
    assert_eq!(dropbear.installed(), fs::read(dropbear.dist()).unwrap(), "{said}");
    let no_litter = || machine.path(COPIED).symlink_metadata().is_err();
    assert!(no_litter(), "{said}");
    let (well, said) = dropbear.deployed();
    assert!(well && said.contains("tidak disalin lagi"), "{said}");

    // The next copy stops in the middle.
    let (before, pid) = (dropbear.installed(), dropbear.runs());
    dropbear.newer();
    machine.write("/run/stopping-cat", STOPPING_CAT);
    let executable = Permissions::from_mode(0o755);
    fs::set_permissions(machine.path("/run/stopping-cat"), executable).expect("executable");
    machine.done(&["sh", "-c", "cp \"$(command -v cat)\" /run/cat"]);
    machine.done(&["sh", "-c", "mount --bind /run/stopping-cat \"$(command -v cat)\""]);
    // Ctrl-C, and what ends without a word: the shell, ssh, the whole computer.
    for signal in ["INT", "KILL"] {
        let mut deploy = dropbear.deploy().spawn().expect("scripts/deploy runs");
        machine.until("the middle of the copy", || machine.path("/run/half").exists().then_some(()));
        let group = format!("-{}", deploy.id());
        let told = Command::new("sh").args(["-c", "kill -s \"$0\" -- \"$1\"", signal, &group]).status();
        assert!(told.expect("sh runs").success());
        let status = deploy.wait().expect("it ends");
        assert!(!status.success(), "{signal}: {status}");
        machine.write("/run/go-on", "");
        let ended =
            || fs::read_to_string(machine.path("/run/cat-ended")).ok().filter(|code| !code.is_empty());
        // Whoever writes what comes cannot tell that more was to come.
        assert_eq!(machine.until("the end of the copy", ended).trim(), "0", "{signal}");
        machine.until("nothing to be left", || no_litter().then_some(()));
        assert_eq!((dropbear.installed(), dropbear.runs()), (before.clone(), pid), "{signal}");
        assert!(machine.lives(pid), "{signal}");
        for mark in ["/run/half", "/run/go-on", "/run/cat-ended"] {
            fs::remove_file(machine.path(mark)).expect("removed");
        }
    }

    machine.done(&["sh", "-c", "umount \"$(command -v cat)\""]);
    let (well, said) = dropbear.deployed();
    assert!(well, "{said}");
    assert_eq!(dropbear.installed(), fs::read(dropbear.dist()).unwrap(), "{said}");
    assert!(no_litter() && dropbear.runs() != pid, "{said}");

    // A release, as an operator has downloaded it: all in one folder, which has another bot than `dist`.
    let downloaded = dropbear.here.path().join("Downloads (1)");
    fs::create_dir(&downloaded).expect("a folder");
    let (script, bot) = (downloaded.join("deploy"), downloaded.join("bot-kjp"));
    fs::copy(dropbear.here.path().join("scripts/deploy"), &script).expect("copied");
    let mut bytes = fs::read(dropbear.dist()).expect("the bot");
    bytes.extend_from_slice(b"of a release");
    fs::write(&bot, &bytes).expect("written");
    let before = dropbear.installed();
    let sum_of_another = format!("{}  bot-kjp\n", "0".repeat(64));
    fs::write(downloaded.join("bot-kjp.sha256"), sum_of_another).expect("written");
    let (code, refused) = outcome(dropbear.deploy_of(&script));
    assert!(code == Some(65) && refused.contains("SHA-256 tidak cocok"), "{refused}");
    assert_eq!(dropbear.installed(), before, "{refused}");
    let sum =
        Command::new("sha256sum").arg("bot-kjp").current_dir(&downloaded).output().expect("sha256sum runs");
    fs::write(downloaded.join("bot-kjp.sha256"), sum.stdout).expect("written");
    let (code, accepted) = outcome(dropbear.deploy_of(&script));
    assert!(code == Some(0) && !accepted.contains("tidak diperiksa"), "{accepted}");
    assert_eq!(dropbear.installed(), bytes, "{accepted}");
}

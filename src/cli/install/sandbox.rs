//! Lines of the units' sandbox that need namespaces, on kernels that refuse them: systemd knows no "if
//! possible", and ends the start with a status of its own.
//!
//! For each unit and kind of namespace there is a drop-in that takes these lines off. `install` asks the
//! kernel and puts it below `/etc`; `/usr/local/lib/bot-kjp/loosen` puts it below `/run` when the kernel
//! refuses them later.

use std::fmt;

use super::files::{Failure, Root};
use super::service::run;

/// Mode of a drop-in.
pub const MODE: u32 = 0o644;

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    User,
    Uts,
    Mount,
    Net,
}

impl Namespace {
    /// The option of `unshare(1)`.
    const fn option(self) -> &'static str {
        match self {
            Self::User => "--user",
            Self::Uts => "--uts",
            Self::Mount => "--mount",
            Self::Net => "--net",
        }
    }
}

/// Whether the kernel refuses it to root; `None`: that could not be asked.
///
/// By a program, because only a process with a single thread may ask for a user namespace, and none can
/// give one back. `unshare` comes with util-linux, without which no systemd boots.
pub fn refuses(namespace: Namespace) -> Option<bool> {
    run("unshare", &[namespace.option(), "true"]).ok().map(|output| !output.status.success())
}

/// Takes off one unit what needs one kind of namespace. Paths are relative to the box's root.
#[derive(Debug, PartialEq, Eq)]
pub struct DropIn {
    pub unit: &'static str,
    pub namespace: Namespace,
    /// Where it stays.
    pub lasting: &'static str,
    /// Where it lies until the next boot.
    pub until_boot: &'static str,
    pub content: &'static str,
}

macro_rules! drop_in {
    ($unit:literal, $namespace:ident, $name:literal) => {
        DropIn {
            unit: $unit,
            namespace: Namespace::$namespace,
            lasting: concat!("etc/systemd/system/", $unit, ".d/40-without-", $name, ".conf"),
            until_boot: concat!("run/systemd/system/", $unit, ".d/40-without-", $name, ".conf"),
            content: include_str!(concat!(
                "../../../rootfs/usr/local/lib/bot-kjp/",
                $unit,
                ".without-",
                $name
            )),
        }
    };
}

/// All that there are.
pub static DROP_INS: [DropIn; 6] = [
    drop_in!("bot-kjp.service", User, "user"),
    drop_in!("bot-kjp.service", Uts, "uts"),
    drop_in!("bot-kjp.service", Mount, "mount"),
    drop_in!("bot-kjp-retry.service", Uts, "uts"),
    drop_in!("bot-kjp-retry.service", Mount, "mount"),
    drop_in!("bot-kjp-retry.service", Net, "net"),
];

impl DropIn {
    /// Names of what it takes off.
    pub fn directives(&self) -> impl Iterator<Item = &'static str> {
        lines(self.content).map(|(directive, _)| directive)
    }

    /// Puts it where it stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, root: &Root) -> Result<(), Failure> {
        if let Some((folder, _)) = self.lasting.rsplit_once('/')
            && !root.exists(folder)
        {
            root.make_folder(folder, 0o755, (0, 0))?;
        }
        root.write(self.lasting, self.content.as_bytes(), MODE, (0, 0))
    }

    /// Removes it, wherever it lies.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, root: &Root) -> Result<(), Failure> {
        root.remove(self.lasting)?;
        root.remove(self.until_boot)?;
        self.remove_folders_if_empty(root);
        Ok(())
    }

    /// The operator's own drop-ins may lie beside it.
    pub fn remove_folders_if_empty(&self, root: &Root) {
        for path in [self.lasting, self.until_boot] {
            if let Some((folder, _)) = path.rsplit_once('/') {
                root.remove_if_empty(folder);
            }
        }
    }
}

/// Directives of a unit file with their values.
fn lines(unit: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    unit.lines().filter(|line| !line.starts_with(['#', '['])).filter_map(|line| line.split_once('='))
}

/// What is taken off the sandbox of a box's units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosened {
    /// Directives of systemd.
    pub directives: Vec<&'static str>,
    /// Some of it only until the next boot.
    pub until_boot: bool,
}

impl Loosened {
    /// On this machine; `None`: nothing.
    pub fn here() -> Option<Self> {
        Self::of(&Root::new(std::path::Path::new("/")))
    }

    fn of(root: &Root) -> Option<Self> {
        let mut found = Self { directives: Vec::new(), until_boot: false };
        for drop_in in &DROP_INS {
            let lasting = root.exists(drop_in.lasting);
            if !lasting && !root.exists(drop_in.until_boot) {
                continue;
            }
            found.until_boot |= !lasting;
            for directive in drop_in.directives() {
                if !found.directives.contains(&directive) {
                    found.directives.push(directive);
                }
            }
        }
        (!found.directives.is_empty()).then_some(found)
    }
}

/// Why systemd could not make the sandbox (systemd.exec(5), "Process Exit Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 217: no user namespace, or no such user.
    User,
    /// 225: no network namespace.
    Network,
    /// 226: no mount or UTS namespace.
    Namespace,
}

impl Refusal {
    pub const ALL: [Self; 3] = [Self::User, Self::Network, Self::Namespace];

    /// systemd's number.
    pub const fn status(self) -> u8 {
        match self {
            Self::User => 217,
            Self::Network => 225,
            Self::Namespace => 226,
        }
    }

    /// Of the property `ExecMainStatus`.
    pub fn of_status(status: &str) -> Option<Self> {
        let status: u8 = status.parse().ok()?;
        Self::ALL.into_iter().find(|refusal| refusal.status() == status)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd could not make its sandbox, status {}", self.status())
    }
}

#[cfg(test)]
mod tests {
    use super::super::overlay::{FILES, RETRY_UNIT, UNIT};
    use super::*;

    /// What needs which kind (systemd.exec(5); `exec_needs_mount_namespace` in systemd's source), and how
    /// it is taken off.
    const NEEDS: [(&str, Namespace, &str); 27] = [
        ("PrivateUsers", Namespace::User, "no"),
        ("ProtectHostname", Namespace::Uts, "no"),
        ("PrivateNetwork", Namespace::Net, "no"),
        ("NetworkNamespacePath", Namespace::Net, ""),
        ("ProtectSystem", Namespace::Mount, "no"),
        ("ProtectHome", Namespace::Mount, "no"),
        ("PrivateTmp", Namespace::Mount, "no"),
        ("PrivateMounts", Namespace::Mount, "no"),
        ("PrivateDevices", Namespace::Mount, "no"),
        ("ProtectKernelTunables", Namespace::Mount, "no"),
        ("ProtectKernelModules", Namespace::Mount, "no"),
        ("ProtectKernelLogs", Namespace::Mount, "no"),
        ("ProtectControlGroups", Namespace::Mount, "no"),
        ("ProtectProc", Namespace::Mount, "default"),
        ("ProcSubset", Namespace::Mount, "all"),
        ("ReadWritePaths", Namespace::Mount, ""),
        ("ReadOnlyPaths", Namespace::Mount, ""),
        ("InaccessiblePaths", Namespace::Mount, ""),
        ("ExecPaths", Namespace::Mount, ""),
        ("NoExecPaths", Namespace::Mount, ""),
        ("TemporaryFileSystem", Namespace::Mount, ""),
        ("BindPaths", Namespace::Mount, ""),
        ("BindReadOnlyPaths", Namespace::Mount, ""),
        ("RootImage", Namespace::Mount, ""),
        ("MountImages", Namespace::Mount, ""),
        ("MountFlags", Namespace::Mount, ""),
        ("LogNamespace", Namespace::Mount, ""),
    ];

    /// These cannot be taken off, so no unit may have them.
    const NEVER: [&str; 4] = ["PrivateIPC", "IPCNamespacePath", "DynamicUser", "RootDirectory"];

    fn carried(path: &str) -> &'static str {
        let file = FILES.iter().find(|file| file.path == path).unwrap();
        match file.content() {
            std::borrow::Cow::Borrowed(text) => text,
            std::borrow::Cow::Owned(_) => panic!("{path} is made"),
        }
    }

    fn unit(name: &str) -> &'static str {
        carried(&format!("usr/local/lib/systemd/system/{name}"))
    }

    #[test]
    fn every_line_that_needs_a_namespace_can_be_taken_off_and_no_other() {
        for name in [UNIT, RETRY_UNIT] {
            for namespace in [Namespace::User, Namespace::Uts, Namespace::Mount, Namespace::Net] {
                let needs = |&(directive, _): &(&str, &str)| {
                    assert!(!NEVER.contains(&directive), "{name}: {directive}");
                    NEEDS.iter().find(|need| need.0 == directive && need.1 == namespace)
                };
                let mut wanted: Vec<_> =
                    lines(unit(name)).filter_map(|line| needs(&line)).map(|need| (need.0, need.2)).collect();
                let of_it = |drop_in: &&DropIn| drop_in.unit == name && drop_in.namespace == namespace;
                let found = DROP_INS.iter().find(of_it).map(|drop_in| lines(drop_in.content));
                let mut found: Vec<_> = found.into_iter().flatten().collect();
                wanted.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, wanted, "{name}, {namespace:?}");
            }
        }
    }

    #[test]
    fn the_one_that_takes_off_needs_no_namespace_and_is_started_by_both_failures() {
        let name = "bot-kjp-loosen.service";
        for (directive, _) in lines(unit(name)) {
            assert!(
                !NEEDS.iter().any(|need| need.0 == directive) && !NEVER.contains(&directive),
                "{directive}"
            );
        }
        for failing in [UNIT, RETRY_UNIT] {
            let started = lines(unit(failing)).find(|line| line.0 == "OnFailure").unwrap().1;
            assert!(started.split(' ').any(|started| started == name), "{failing}");
        }
        // Else the bot would be started ten times in vain first.
        let at_once = lines(unit(UNIT)).find(|line| line.0 == "RestartPreventExitStatus").unwrap().1;
        for refusal in Refusal::ALL {
            assert!(
                at_once.split(' ').any(|status| Refusal::of_status(status) == Some(refusal)),
                "{refusal}"
            );
        }
    }

    #[test]
    fn what_the_script_and_install_put_is_the_same_in_the_same_place() {
        for drop_in in &DROP_INS {
            let (_, kind) = drop_in.lasting.split_once("40-without-").unwrap();
            let kind = kind.strip_suffix(".conf").unwrap();
            assert_eq!(drop_in.namespace.option(), format!("--{kind}"));
            let file = carried(&format!("usr/local/lib/bot-kjp/{}.without-{kind}", drop_in.unit));
            assert_eq!(drop_in.content, file);
        }
        let script = carried("usr/local/lib/bot-kjp/loosen");
        let kinds = script.lines().find_map(|line| line.strip_prefix("kinds=")).unwrap();
        assert_eq!(kinds, "'user uts mount net'");
    }

    #[test]
    fn what_was_taken_off_is_told_and_all_of_it_goes_again() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(Loosened::of(&root), None);
        let [user, uts, ..] = &DROP_INS;
        user.put(&root).unwrap();
        let found = Loosened::of(&root).unwrap();
        assert_eq!((found.directives, found.until_boot), (vec!["PrivateUsers"], false));
        root.make_folder("run/systemd/system/bot-kjp.service.d", 0o755, (0, 0)).unwrap();
        std::fs::write(root.path(uts.until_boot), uts.content).unwrap();
        let found = Loosened::of(&root).unwrap();
        assert_eq!((found.directives, found.until_boot), (vec!["PrivateUsers", "ProtectHostname"], true));
        // The operator's own.
        std::fs::write(root.path("etc/systemd/system/bot-kjp.service.d/mine.conf"), "").unwrap();
        for drop_in in &DROP_INS {
            drop_in.remove(&root).unwrap();
        }
        assert_eq!(Loosened::of(&root), None);
        assert!(root.exists("etc/systemd/system/bot-kjp.service.d/mine.conf"));
        assert!(!root.exists("run/systemd/system/bot-kjp.service.d"));
    }
}

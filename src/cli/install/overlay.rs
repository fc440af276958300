//! What lies on the box: the files of `rootfs/`, carried inside the program, and their folders.

use std::borrow::Cow;

use crate::config;

/// The program itself; the one before it lies beside it.
pub const PROGRAM: &str = "usr/local/bin/bot-kjp";
pub const PREVIOUS: &str = "usr/local/bin/bot-kjp.previous";
pub const PROGRAM_MODE: u32 = 0o755;

/// Database and WhatsApp session.
pub const DATA: &str = "var/lib/bot-kjp";
/// Settings of the operator.
pub const SETTINGS: &str = "etc/bot-kjp/config.toml";
/// The init script writes here where no syslog is.
pub const LOGS: &str = "var/log/bot-kjp";
/// Process ids, while it runs.
pub const RUN: &str = "run/bot-kjp";
/// The annotated settings as this version brings them: tells the next version whether the operator
/// changed theirs, and the operator what is new.
pub const EXAMPLE: &str = "usr/share/doc/bot-kjp/contoh-config.toml";
pub const INIT_SCRIPT: &str = "etc/init.d/bot-kjp";
pub const UNIT: &str = "bot-kjp.service";
pub const RETRY_UNIT: &str = "bot-kjp-retry.service";
pub const UNIT_FILE: &str = "usr/local/lib/systemd/system/bot-kjp.service";

/// The user, and its group, that the bot runs as.
pub const ACCOUNT: &str = "bot-kjp";

/// To whom something belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Root,
    /// Root's, and the bot's group may read it if the mode says so.
    RootForBot,
    Bot,
}

/// Who may change a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Ours: every version brings its own.
    Version,
    /// The operator's: written once, then theirs.
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Carried(&'static str),
    /// What `bot-kjp example` prints.
    Example,
}

/// A file on the box; the path is relative to its root.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    pub path: &'static str,
    pub mode: u32,
    pub owner: Owner,
    pub keeper: Keeper,
    content: Content,
}

impl File {
    pub fn content(&self) -> Cow<'static, str> {
        match self.content {
            Content::Carried(text) => text.into(),
            Content::Example => config::example().into(),
        }
    }
}

/// A folder on the box.
#[derive(Debug, PartialEq, Eq)]
pub struct Folder {
    pub path: &'static str,
    pub mode: u32,
    pub owner: Owner,
    /// Whether an existing one is corrected; others are the system's.
    pub ours: bool,
}

macro_rules! carried {
    ($path:literal, $mode:literal, $owner:ident, $keeper:ident) => {
        File {
            path: $path,
            mode: $mode,
            owner: Owner::$owner,
            keeper: Keeper::$keeper,
            content: Content::Carried(include_str!(concat!("../../../rootfs/", $path))),
        }
    };
}

/// In the order in which they are written; what starts the bot comes last.
pub static FILES: [File; 18] = [
    File {
        path: SETTINGS,
        mode: 0o640,
        owner: Owner::RootForBot,
        keeper: Keeper::Operator,
        content: Content::Example,
    },
    carried!("etc/default/bot-kjp", 0o600, Root, Operator),
    File {
        path: EXAMPLE,
        mode: 0o644,
        owner: Owner::Root,
        keeper: Keeper::Version,
        content: Content::Example,
    },
    carried!("usr/share/doc/bot-kjp/PANDUAN.md", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/supervise", 0o755, Root, Version),
    carried!("usr/local/lib/bot-kjp/retry", 0o755, Root, Version),
    carried!("usr/local/lib/bot-kjp/loosen", 0o755, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp.service.without-user", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp.service.without-uts", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp.service.without-mount", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp-retry.service.without-uts", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp-retry.service.without-mount", 0o644, Root, Version),
    carried!("usr/local/lib/bot-kjp/bot-kjp-retry.service.without-net", 0o644, Root, Version),
    carried!("usr/local/lib/systemd/system/bot-kjp-loosen.service", 0o644, Root, Version),
    carried!("usr/local/lib/systemd/system/bot-kjp-retry.service", 0o644, Root, Version),
    carried!("usr/local/lib/systemd/system/bot-kjp-retry.timer", 0o644, Root, Version),
    carried!("usr/local/lib/systemd/system/bot-kjp.service", 0o644, Root, Version),
    carried!("etc/init.d/bot-kjp", 0o755, Root, Version),
];

pub static FOLDERS: [Folder; 8] = [
    Folder { path: "etc/bot-kjp", mode: 0o755, owner: Owner::Root, ours: true },
    Folder { path: DATA, mode: 0o700, owner: Owner::Bot, ours: true },
    Folder { path: "usr/local/lib/bot-kjp", mode: 0o755, owner: Owner::Root, ours: true },
    Folder { path: "usr/share/doc/bot-kjp", mode: 0o755, owner: Owner::Root, ours: true },
    Folder { path: "etc/default", mode: 0o755, owner: Owner::Root, ours: false },
    Folder { path: "etc/init.d", mode: 0o755, owner: Owner::Root, ours: false },
    Folder { path: "usr/local/bin", mode: 0o755, owner: Owner::Root, ours: false },
    Folder { path: "usr/local/lib/systemd/system", mode: 0o755, owner: Owner::Root, ours: false },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// Every file below `rootfs/` with its content and whether it can be run.
    fn on_disk() -> BTreeMap<String, (String, bool)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs");
        let mut found = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let path = entry.path().strip_prefix(&root).unwrap().display().to_string();
                let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
                found.insert(path, (fs::read_to_string(entry.path()).unwrap(), executable));
            }
        }
        found
    }

    #[test]
    fn the_program_carries_what_lies_in_rootfs_and_nothing_else() {
        let carried: BTreeMap<_, _> = FILES
            .iter()
            // Made from the same source as the settings.
            .filter(|file| file.path != EXAMPLE)
            .map(|file| (file.path.to_owned(), (file.content().into_owned(), file.mode & 0o111 != 0)))
            .collect();
        let on_disk = on_disk();
        assert_eq!(carried.keys().collect::<Vec<_>>(), on_disk.keys().collect::<Vec<_>>());
        for (path, (content, executable)) in &carried {
            assert!(on_disk[path].0 == *content, "rootfs/{path} differs; run: cargo run -- example");
            assert_eq!(on_disk[path].1, *executable, "{path}");
        }
    }

    #[test]
    fn only_the_bot_reads_the_data_and_only_root_the_secrets() {
        let file = |path| FILES.iter().find(|file| file.path == path).unwrap();
        assert_eq!(
            (file("etc/default/bot-kjp").mode, file("etc/default/bot-kjp").owner),
            (0o600, Owner::Root)
        );
        assert_eq!(file(SETTINGS).mode & 0o007, 0);
        let data = FOLDERS.iter().find(|folder| folder.path == DATA).unwrap();
        assert_eq!((data.mode, data.owner), (0o700, Owner::Bot));
    }

    #[test]
    fn every_file_has_its_folder() {
        for file in &FILES {
            let folder = file.path.rsplit_once('/').unwrap().0;
            assert!(FOLDERS.iter().any(|known| known.path == folder), "{folder}");
        }
    }
}

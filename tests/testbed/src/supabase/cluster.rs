//! An empty PostgreSQL cluster, which takes a second of the processor to make: made once by each process, and
//! copied for each server.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{as_owner, checked};

/// Memory that is used like a disk: a cluster is a thousand files, and making files takes a disk long.
const MEMORY: &str = "/dev/shm";

/// What must be free there, in bytes: room for the clusters of all tests that run at a time, 27 MB each.
const ROOM: u64 = 1 << 30;

/// Removes the folder when this process has ended, however it does.
const REMOVE: &str = r#"read -r _; rm -rf "$1""#;

/// Segments of the write-ahead log, in MB: the smallest that there are, for tests write little.
const LOG_SEGMENT: &str = "--wal-segsize=1";

/// A user and a group, by number.
pub(super) type Owner = Option<(u32, u32)>;

/// Kept as long as the process lives.
struct Empty {
    data: PathBuf,
    _lifeline: Option<ChildStdin>,
}

static EMPTY: Mutex<Option<Empty>> = Mutex::new(None);

/// The folder of an empty cluster, to be copied.
pub(super) fn empty(programs: &Path, owner: Owner) -> Result<PathBuf> {
    let mut empty = EMPTY.lock().unwrap_or_else(PoisonError::into_inner);
    let made = match empty.take() {
        Some(made) => made,
        None => make(programs, owner)?,
    };
    Ok(empty.insert(made).data.clone())
}

fn make(programs: &Path, owner: Owner) -> Result<Empty> {
    let folder = folder("cluster-", owner)?.keep();
    let mut remove = Command::new("sh");
    remove.args(["-c", REMOVE, "remove"]).arg(&folder);
    // In a group of its own, so that Ctrl-C does not reach it.
    let lifeline = remove.stdin(Stdio::piped()).process_group(0).spawn()?.stdin;
    let data = folder.join("data");
    let mut initdb = as_owner(owner, &programs.join("initdb"));
    initdb.args(["--username=supabase_admin", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]);
    initdb.args([LOG_SEGMENT, "-D"]).arg(&data);
    checked(initdb.output().context("cannot run initdb")?, "initdb")?;
    Ok(Empty { data, _lifeline: lifeline })
}

/// A folder for a cluster: in memory where there is room.
pub(super) fn folder(prefix: &str, owner: Owner) -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    let folder = if has_room(MEMORY) { builder.tempdir_in(MEMORY) } else { builder.tempdir() }?;
    if let Some((user, group)) = owner {
        chown(folder.path(), Some(user), Some(group))?;
    }
    Ok(folder)
}

fn has_room(folder: &str) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|found| found.f_bavail * found.f_frsize >= ROOM)
}

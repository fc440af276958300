//! The user and group that the bot runs as.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::files::{Failure, Root};
use super::overlay::{ACCOUNT, DATA};
use crate::clock;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
const SHADOW: &str = "etc/shadow";

/// Numbers that Debian gives to accounts of services, the last one first.
const SYSTEM_IDS: std::ops::RangeInclusive<u32> = 100..=999;

/// The account's name as the system's comment has it.
const COMMENT: &str = "WhatsApp registration bot";

/// How `userdel` ends while the user has a process (userdel(8)).
const USER_IN_USE: i32 = 8;

/// How long such a process may take to end, and the time between two looks.
const LEFT_BEHIND: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Numbers of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub user: u32,
    pub group: u32,
}

/// The account, if user and group exist.
///
/// # Errors
/// The lists of users and groups cannot be read. A list that is missing has nobody in it.
pub fn find(root: &Root) -> Result<Option<Ids>, Failure> {
    let user = number(&root.read_text(PASSWD)?, ACCOUNT);
    let group = number(&root.read_text(GROUP)?, ACCOUNT);
    Ok(user.zip(group).map(|(user, group)| Ids { user, group }))
}

/// Creates the account: with the system's own program on a machine that runs, else, and where there
/// is none, as lines in its lists.
///
/// # Errors
/// A program or a write failed.
pub fn create(root: &Root) -> Result<(), Failure> {
    if root.is_this_machine() {
        let group_exists = number(&root.read_text(GROUP)?, ACCOUNT).is_some();
        let home = format!("/{DATA}");
        let group: &[&str] = if group_exists { &["--gid", ACCOUNT] } else { &["--user-group"] };
        let common = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--comment", COMMENT];
        let useradd = [&common[..], &["--home-dir", &home], group, &[ACCOUNT]].concat();
        if run("useradd", &useradd)? {
            return Ok(());
        }
        // busybox's.
        let there = group_exists || run("addgroup", &["-S", ACCOUNT])?;
        let adduser = ["-S", "-D", "-H", "-h", &home, "-s", "/bin/false", "-G", ACCOUNT, ACCOUNT];
        if there && run("adduser", &adduser)? {
            return Ok(());
        }
    }
    let passwd = root.read_text(PASSWD)?;
    let group = root.read_text(GROUP)?;
    let (passwd, group) = with_account(&passwd, &group).map_err(|cause| Failure::new(PASSWD, cause))?;
    root.replace_text(GROUP, &group, 0o644)?;
    if root.exists(SHADOW) {
        let shadow = with_line(&root.read_text(SHADOW)?, &format!("{ACCOUNT}:!::::::"));
        root.replace_text(SHADOW, &shadow, 0o640)?;
    }
    root.replace_text(PASSWD, &passwd, 0o644)
}

/// Removes the account; one that is not there is no error.
///
/// # Errors
/// A program or a write failed.
pub fn remove(root: &Root) -> Result<(), Failure> {
    if root.is_this_machine() && (delete_user()? || run("deluser", &[ACCOUNT])?) {
        // userdel removes the group with its only user.
        if number(&root.read_text(GROUP)?, ACCOUNT).is_some() {
            let _ = run("groupdel", &[ACCOUNT])? || run("delgroup", &[ACCOUNT])?;
        }
        return Ok(());
    }
    for (file, mode) in [(PASSWD, 0o644), (SHADOW, 0o640), (GROUP, 0o644)] {
        let text = root.read_text(file)?;
        let without = without_account(&text);
        if without != text {
            root.replace_text(file, &without, mode)?;
        }
    }
    Ok(())
}

/// `userdel`; `false` if there is none. It refuses while a process of the user is left, and what was stopped a moment
/// ago may have left one: the logger ends when it has read all.
fn delete_user() -> Result<bool, Failure> {
    let end = clock::now() + LEFT_BEHIND;
    loop {
        match output("userdel", &[ACCOUNT])? {
            None => return Ok(false),
            Some(output) if output.status.code() == Some(USER_IN_USE) && clock::now() < end => {
                thread::sleep(LOOK);
            }
            Some(output) => return succeeded("userdel", &output).map(|()| true),
        }
    }
}

/// Runs a program; `false` if there is none of that name.
fn run(program: &str, arguments: &[&str]) -> Result<bool, Failure> {
    match output(program, arguments)? {
        None => Ok(false),
        Some(output) => succeeded(program, &output).map(|()| true),
    }
}

/// How a program ended and what it said; `None` if there is none of that name.
fn output(program: &str, arguments: &[&str]) -> Result<Option<Output>, Failure> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(program, error)),
    }
}

fn succeeded(program: &str, output: &Output) -> Result<(), Failure> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(program, io::Error::other(format!("{}: {said}", output.status))))
}

/// The number of a user or group in a list as passwd(5) and group(5) describe it.
fn number(list: &str, name: &str) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Both lists with the account in them.
fn with_account(passwd: &str, group: &str) -> io::Result<(String, String)> {
    let taken: BTreeSet<u32> = [passwd, group]
        .iter()
        .flat_map(|list| list.lines())
        .filter_map(|line| line.split(':').nth(2)?.parse().ok())
        .collect();
    let free = SYSTEM_IDS.rev().find(|id| !taken.contains(id));
    let free = free.ok_or_else(|| io::Error::other("no number is left for a system account"))?;
    let group_id = number(group, ACCOUNT).unwrap_or(free);
    let group = match number(group, ACCOUNT) {
        Some(_) => group.to_owned(),
        None => with_line(group, &format!("{ACCOUNT}:x:{group_id}:")),
    };
    let passwd = match number(passwd, ACCOUNT) {
        Some(_) => passwd.to_owned(),
        None => {
            with_line(passwd, &format!("{ACCOUNT}:x:{free}:{group_id}:{COMMENT}:/{DATA}:/usr/sbin/nologin"))
        }
    };
    Ok((passwd, group))
}

fn with_line(list: &str, line: &str) -> String {
    let gap = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
    format!("{list}{gap}{line}\n")
}

fn without_account(list: &str) -> String {
    let of_account = |line: &str| line.split(':').next() == Some(ACCOUNT);
    list.split_inclusive('\n').filter(|line| !of_account(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_gets_numbers_that_nobody_has() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nirc:x:999:39::/run/ircd:/usr/sbin/nologin";
        let (with, group) = with_account(passwd, "root:x:0:\nssh:x:998:\n").unwrap();
        assert_eq!(group, "root:x:0:\nssh:x:998:\nbot-kjp:x:997:\n");
        assert!(with.starts_with(&format!("{passwd}\nbot-kjp:x:997:997:")), "{with}");
        assert_eq!((number(&with, ACCOUNT), number(&group, ACCOUNT)), (Some(997), Some(997)));
        // A second time nothing is added.
        assert_eq!(with_account(&with, &group).unwrap(), (with.clone(), group));
        assert_eq!(without_account(&with), format!("{passwd}\n"));
    }

    #[test]
    fn a_group_that_is_there_already_is_used() {
        let (passwd, group) = with_account("", "bot-kjp:x:321:\n").unwrap();
        assert_eq!(group, "bot-kjp:x:321:\n");
        assert!(passwd.starts_with("bot-kjp:x:999:321:"), "{passwd}");
    }

    #[test]
    fn a_name_that_only_begins_the_same_is_another_account() {
        assert_eq!(number("bot-kjp-old:x:5:5::/:/bin/sh\n", ACCOUNT), None);
        assert_eq!(without_account("bot-kjp-old:x:5:5\n"), "bot-kjp-old:x:5:5\n");
        assert_eq!(number("bot-kjp:x:many:5\n", ACCOUNT), None);
    }

    #[test]
    fn a_full_list_is_an_error() {
        let full: String = SYSTEM_IDS.map(|id| format!("s{id}:x:{id}:\n")).collect();
        assert!(with_account("", &full).is_err());
    }
}

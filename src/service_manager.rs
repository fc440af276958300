//! What the bot tells whoever keeps it running, and what it wants of them: systemd over its socket
//! (`sd_notify(3)`), or our own supervisor where there is no systemd.
//!
//! Without either nothing here does anything.

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sd_notify::NotifyState;

use crate::clock;

/// Variable in which systemd names its socket.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Variable in which `/usr/local/lib/bot-kjp/supervise` names its process.
const SUPERVISOR_VARIABLE: &str = "BOT_KJP_SUPERVISOR";

/// Longest time between two looks whether the state has changed. The watch looks as often.
const LOOK: Duration = Duration::from_secs(10);

/// The one who started this process has died already, and nobody would start it again.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor (process {supervisor}) is gone; start the service again: /etc/init.d/bot-kjp start")]
pub struct SupervisorGone {
    supervisor: i32,
}

/// Makes the kernel ask this process to end (SIGTERM) when our supervisor dies, so that no bot runs
/// that nobody looks after and that keeps the database locked.
///
/// # Errors
/// The supervisor is gone already.
pub fn end_with_supervisor(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<(), SupervisorGone> {
    let named = variable(SUPERVISOR_VARIABLE).and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    let Some(supervisor) = named else { return Ok(()) };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        log::warn!("service manager: the kernel would not tell of the supervisor's death: {error}");
    }
    // It may have died before the kernel was asked.
    match getppid().map(Pid::as_raw_pid) {
        Some(parent) if parent == supervisor => Ok(()),
        _ => Err(SupervisorGone { supervisor }),
    }
}

/// Says that the bot is ready, then for ever how it is and that it lives. As a task of the one
/// executor it falls silent when that stalls, and systemd's watchdog ends the process.
///
/// `status`: the state in one line, in Indonesian.
pub async fn keep_informed(status: impl Fn() -> String) -> Infallible {
    if std::env::var_os(SOCKET_VARIABLE).is_none() {
        return pending().await;
    }
    let alive_within = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    let pause = alive_within.map_or(LOOK, |time| LOOK.min(time / 2));
    let mut said = status();
    tell(&[NotifyState::Ready, NotifyState::Status(&said)]);
    loop {
        if alive_within.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        clock::sleep(pause).await;
        let now = status();
        if now != said {
            tell(&[NotifyState::Status(&now)]);
            said = now;
        }
    }
}

/// Says that the start goes on, and asks for `time` from now on until it must be over. Never to be said together with
/// a sign of life: the first of those has the watchdog run, and a start is no place for signs of life.
///
/// `status`: why it takes long, in one line, in Indonesian.
pub fn goes_on(status: &str, time: Duration) {
    let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(microseconds), NotifyState::Status(status)]);
}

/// Says that the bot is ending.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// systemd not listening is systemd's affair.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what)
        && error.kind() != io::ErrorKind::NotFound
    {
        crate::logging::debug!("service manager: not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_whose_supervisor_is_gone_does_not_start() {
        let named = |pid: Option<&str>| {
            let pid = pid.map(OsString::from);
            end_with_supervisor(&move |name| pid.clone().filter(|_| name == SUPERVISOR_VARIABLE))
        };
        assert!(named(None).is_ok());
        assert!(named(Some("not a process")).is_ok());
        // No process has this number: the kernel's largest is 2^22.
        let error = named(Some("2147483647")).unwrap_err();
        assert!(error.to_string().contains("2147483647"), "{error}");
    }
}

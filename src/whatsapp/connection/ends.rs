//! The table of ends: what each end of a connection, or of a try to make one, means and leads to. Pure: time and randomness are arguments.

use std::time::Duration;

/// The server refused us without a reason that has a row of its own.
const REFUSED: Duration = Duration::from_secs(60);

/// Between two sets of pairing QR codes: the server closes the socket after each set.
const NEXT_QR_CODES: Duration = Duration::from_secs(2);

/// The account is hosted by a business's server: nothing but what its owner changes there helps, and
/// `bot-kjp pair` tries at once.
const HOSTED: Duration = Duration::from_secs(24 * 3600);

/// Another client took over the session. Ours comes back, in case the other was a mistake.
const REPLACED: Duration = Duration::from_secs(30);

/// A connection that ended the same way as the one before, sooner than this: something fights back,
/// another client with our session or a server that logs out whoever logs in.
const FIGHT: Duration = Duration::from_secs(10 * 60);

/// Pause in a fight.
const TRUCE: Duration = Duration::from_secs(15 * 60);

/// The server refuses this client version. The version is looked up anew after the first time; after
/// that a new one may be published any hour.
const OUTDATED: Duration = Duration::from_secs(15 * 60);

/// The server asked for fewer connections and named no time; doubles each time in a row.
const SLOW_DOWN: Duration = Duration::from_secs(60);
const SLOWEST: Duration = Duration::from_secs(15 * 60);

/// The server is down and named no time: not at once, whatever the backoff says.
const SERVER_DOWN: Duration = Duration::from_secs(5);

/// The longest wait that a server may ask for by `Retry-After`; a ban is waited out whole.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// A connection that lasted so long may be followed by the next one at once, even if it was itself
/// made at once.
const CALM: Duration = Duration::from_secs(10);

/// Between two failures in a row at least: random delays may come out as nothing.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);

/// Why a connection, or a try to make one, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// No WebSocket: names, TCP, TLS or upgrade failed; the text says how.
    NoLine(String),
    /// There was a WebSocket, and it ended before anybody was logged in.
    NoLogin(String),
    /// The line was lost.
    Lost(String),
    /// WhatsApp wants a fresh connection (`stream:error` 515), or the client found its socket dead.
    Restart,
    /// The address that the connection was made from is gone.
    AddressGone,
    /// Nobody wrote for longer than is usual: perhaps this connection is deaf.
    Silence,
    /// `stream:error` 429, `<failure>` 429 or HTTP 429: fewer connections, please.
    SlowDown(Option<Duration>),
    /// `<failure>` 500 or 503, or HTTP 5xx, with the time that the server asks for.
    ServerDown(Option<Duration>),
    /// WhatsApp took the login back and left the line open.
    LoginTakenBack,
    /// The phone removed this device.
    LoggedOut,
    /// Another client logged in with this session.
    Replaced,
    /// The server refuses the client's version.
    Outdated,
    /// The account may not connect for so long.
    Banned(Duration),
    /// The server refused the login for another reason.
    Refused(String),
    /// No pairing code was used while it was good.
    QrCodesExhausted,
    /// A try to link came to nothing; the client cannot make another one.
    LinkAnew,
    /// The account cannot be linked by this client.
    HostedAccount,
}

impl End {
    /// A stable word for metrics, the health page and the log.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLine(_) => "no_line",
            Self::NoLogin(_) => "no_login",
            Self::Lost(_) => "lost",
            Self::Restart => "restart",
            Self::AddressGone => "address_gone",
            Self::Silence => "silence",
            Self::SlowDown(_) => "slow_down",
            Self::ServerDown(_) => "server_down",
            Self::LoginTakenBack => "login_taken_back",
            Self::LoggedOut => "logged_out",
            Self::Replaced => "replaced",
            Self::Outdated => "outdated",
            Self::Banned(_) => "banned",
            Self::Refused(_) => "refused",
            Self::QrCodesExhausted => "codes_exhausted",
            Self::LinkAnew => "link_anew",
            Self::HostedAccount => "hosted_account",
        }
    }

    /// What happened, for engineers. What came from outside is bounded by those who made it.
    pub fn detail(&self) -> String {
        match self {
            Self::NoLine(why) => format!("no line to WhatsApp: {why}"),
            Self::NoLogin(why) => format!("WhatsApp did not let the client log in: {why}"),
            Self::Lost(why) => format!("the line to WhatsApp was lost: {why}"),
            Self::Restart => "WhatsApp asked for a fresh connection, or the socket was dead".into(),
            Self::AddressGone => "the box has another network address now".into(),
            Self::Silence => {
                "no message for longer than usual; a fresh connection shows whether the last one \
                              was deaf"
                    .into()
            }
            Self::SlowDown(_) => "WhatsApp asks for fewer connections (429)".into(),
            Self::ServerDown(_) => "WhatsApp's server is down for now".into(),
            Self::LoginTakenBack => "WhatsApp took the login back and left the line open".into(),
            Self::LoggedOut => "the phone removed this device; pair again".into(),
            Self::Replaced => "another client uses the same session; stop one of them".into(),
            Self::Outdated => "WhatsApp refuses this client version (405); update the bot".into(),
            Self::Banned(time) => format!("WhatsApp banned the account for {} s (402)", time.as_secs()),
            Self::Refused(reason) => format!("WhatsApp refused the login: {reason}"),
            Self::QrCodesExhausted => "no pairing code was used".into(),
            Self::LinkAnew => "linking came to nothing; another client begins anew".into(),
            Self::HostedAccount => {
                "the account is hosted by a business's server too, and this client cannot be linked to it; take \
                 the number off the Business API or link another"
                    .into()
            }
        }
    }

    /// Whether a line that comes back may end the wait: not when the server said what it wants.
    const fn is_of_the_line(&self) -> bool {
        matches!(
            self,
            Self::NoLine(_)
                | Self::NoLogin(_)
                | Self::Lost(_)
                | Self::Restart
                | Self::AddressGone
                | Self::Silence
        )
    }
}

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub wait: Duration,
    /// A line that comes back cuts the wait short.
    pub woken_by_line: bool,
    /// The session is void: put it aside and offer to pair again.
    pub pair_again: bool,
    /// The client that was told such a thing does not go on: the next connection gets a new one.
    pub new_client: bool,
}

/// The course of connections: how often they failed in a row.
#[derive(Debug)]
pub struct Course {
    /// Upper ends of the random waits after the first, second, third … failure; never empty.
    backoff: Vec<Duration>,
    /// A connection that held so long was a good one.
    stable: Duration,
    failures: u32,
    /// The last end, and how often it came in a row, each time sooner than [`FIGHT`].
    last: Option<(&'static str, u32)>,
    /// The connection that ends now was made without a wait.
    at_once: bool,
}

/// How long a connection lasted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lasted {
    /// Since the WebSocket was there; nothing if there was none.
    pub open: Duration,
    /// Since the login; `None` if there was none.
    pub up: Option<Duration>,
}

impl Course {
    /// An empty `backoff` is taken as a minute.
    pub fn new(backoff: &[Duration], stable: Duration) -> Self {
        let backoff = if backoff.is_empty() { vec![REFUSED] } else { backoff.to_vec() };
        Self { backoff, stable, failures: 0, last: None, at_once: false }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The row of the table for `end` of a connection that `lasted` so long. `random`: any number, for
    /// the jitter.
    pub fn ended(&mut self, end: &End, lasted: Lasted, random: u64) -> Next {
        if lasted.up.is_some_and(|time| time >= self.stable) {
            self.failures = 0;
        }
        let may_be_at_once = !self.at_once || lasted.open >= CALM;
        let next = self.row(end, lasted, may_be_at_once, random);
        self.at_once = next.wait.is_zero();
        next
    }

    fn row(&mut self, end: &End, lasted: Lasted, may_be_at_once: bool, random: u64) -> Next {
        let soon = lasted.up.is_none_or(|time| time < FIGHT);
        let repeated = match self.last {
            Some((code, times)) if code == end.code() && soon => times.saturating_add(1),
            _ => 0,
        };
        self.last = Some((end.code(), repeated));
        let again = repeated > 0;

        let of_the_server =
            |wait, pair_again| Next { wait, woken_by_line: false, pair_again, new_client: true };
        let of_the_line =
            |wait| Next { wait, woken_by_line: end.is_of_the_line(), pair_again: false, new_client: false };
        match end {
            End::QrCodesExhausted | End::LinkAnew => return of_the_server(NEXT_QR_CODES, false),
            End::HostedAccount => return of_the_server(HOSTED, false),
            // What WhatsApp or we ourselves bring about on purpose is no failure, the first time.
            End::Restart | End::AddressGone | End::Silence if may_be_at_once && !again => {
                return of_the_line(Duration::ZERO);
            }
            _ => self.failures = self.failures.saturating_add(1),
        }
        let backoff = self.backoff(random);
        match end {
            End::LoggedOut if may_be_at_once && !again => of_the_server(Duration::ZERO, true),
            End::LoggedOut => of_the_server(REFUSED, true),
            End::Replaced => of_the_server(if again { TRUCE } else { REPLACED }, false),
            End::Outdated => of_the_server(if again { OUTDATED } else { REFUSED }, false),
            End::Banned(remaining) => of_the_server((*remaining).max(REFUSED), false),
            End::Refused(_) => of_the_server(REFUSED.max(backoff), false),
            End::SlowDown(wish) => {
                let doubled = SLOW_DOWN.saturating_mul(1 << repeated.min(8)).min(SLOWEST);
                of_the_line(doubled.max(wish.unwrap_or_default().min(LONGEST_WISH)) + backoff)
            }
            End::ServerDown(wish) => {
                of_the_line(SERVER_DOWN.max(wish.unwrap_or_default().min(LONGEST_WISH)) + backoff)
            }
            _ => of_the_line(backoff),
        }
    }

    /// Full jitter: anything between almost nothing and the bound of this failure, so that many
    /// boxes do not come back at the same moment.
    fn backoff(&self, random: u64) -> Duration {
        let step = usize::try_from(self.failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let bound = self.backoff[step.min(self.backoff.len() - 1)];
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % bound.saturating_add(1).max(1)).max(SHORTEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEPS: [Duration; 4] =
        [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(60)];
    const STABLE: Duration = Duration::from_secs(60);
    /// Randomness that gives the longest wait of steps up to a minute: a multiple of all, less one.
    const LONGEST: u64 = 60_000;

    const NEVER: Lasted = Lasted { open: Duration::ZERO, up: None };

    fn up(time: Duration) -> Lasted {
        Lasted { open: time, up: Some(time) }
    }

    fn course() -> Course {
        Course::new(&STEPS, STABLE)
    }

    fn no_line() -> End {
        End::NoLine("refused".into())
    }

    /// What follows `end` as the first and as the second of its kind, with the shortest jitter.
    fn twice(end: End) -> [Next; 2] {
        let mut course = course();
        [course.ended(&end, NEVER, 0), course.ended(&end, NEVER, 0)]
    }

    #[test]
    fn waits_grow_from_5_to_60_seconds_and_stay_there() {
        let mut course = course();
        for bound in [5, 10, 30, 60, 60, 60] {
            // The number that comes out as the whole bound.
            let next = course.ended(&no_line(), NEVER, bound * 1000);
            assert_eq!(next.wait, Duration::from_secs(bound));
            assert!(next.woken_by_line && !next.pair_again && !next.new_client);
        }
        assert_eq!(course.failures(), 6);
        assert!(course.ended(&no_line(), NEVER, LONGEST).wait <= STEPS[3]);
    }

    #[test]
    fn only_a_stable_connection_lets_the_waits_start_anew() {
        let mut course = course();
        let lost = End::Lost("reset".into());
        for _ in 0..5 {
            course.ended(&no_line(), NEVER, 0);
        }
        course.ended(&lost, up(STABLE - Duration::from_millis(1)), 0);
        assert_eq!(course.failures(), 6, "a connection that flaps is a failure");
        course.ended(&lost, up(STABLE), 0);
        assert_eq!(course.failures(), 1);
    }

    #[test]
    fn a_wanted_restart_comes_at_once_and_once_only() {
        for end in [End::Restart, End::AddressGone, End::Silence] {
            let [first, second] = twice(end.clone());
            assert_eq!(first.wait, Duration::ZERO, "{end:?}");
            assert!(second.wait >= SHORTEST_WAIT, "{end:?} must not spin");
            assert!(first.woken_by_line && !first.new_client, "{end:?}");
        }
    }

    #[test]
    fn a_line_that_is_lost_keeps_its_client_and_wakes_with_the_line() {
        for end in [no_line(), End::NoLogin(String::new()), End::Lost(String::new())] {
            let [first, _] = twice(end.clone());
            assert!(first.woken_by_line && !first.new_client && !first.pair_again, "{end:?}");
        }
    }

    #[test]
    fn a_login_that_was_taken_back_is_made_anew_with_backoff() {
        let [first, _] = twice(End::LoginTakenBack);
        assert!(!first.woken_by_line && !first.new_client && first.wait >= SHORTEST_WAIT);
    }

    #[test]
    fn only_a_logout_voids_the_session() {
        for end in [
            End::Replaced,
            End::Outdated,
            End::Banned(Duration::ZERO),
            End::Refused(String::new()),
            End::QrCodesExhausted,
            End::LinkAnew,
            End::HostedAccount,
        ] {
            for next in twice(end.clone()) {
                assert!(!next.pair_again && next.new_client && !next.woken_by_line, "{end:?}");
                assert!(next.wait >= NEXT_QR_CODES, "{end:?} must not spin");
            }
        }
        let [first, second] = twice(End::LoggedOut);
        assert!(first.pair_again && first.new_client && first.wait.is_zero());
        assert!(second.pair_again && second.wait == REFUSED);
    }

    #[test]
    fn nobody_fights_over_a_session() {
        let mut course = course();
        let moment = up(Duration::from_secs(20));
        assert_eq!(course.ended(&End::Replaced, moment, 0).wait, REPLACED);
        for _ in 0..3 {
            assert_eq!(course.ended(&End::Replaced, moment, 0).wait, TRUCE);
        }
        assert_eq!(course.ended(&End::Replaced, up(FIGHT), 0).wait, REPLACED, "after a peace");
    }

    #[test]
    fn an_outdated_client_looks_the_version_up_soon_and_then_seldom() {
        assert_eq!(twice(End::Outdated).map(|next| next.wait), [REFUSED, OUTDATED]);
    }

    #[test]
    fn a_ban_is_waited_out() {
        let day = Duration::from_secs(86_400);
        assert_eq!(twice(End::Banned(day)).map(|next| next.wait), [day, day]);
        assert_eq!(twice(End::Banned(Duration::ZERO))[0].wait, REFUSED);
    }

    #[test]
    fn a_refusal_waits_a_minute() {
        assert_eq!(twice(End::Refused("409".into()))[0].wait, REFUSED);
    }

    #[test]
    fn the_servers_wish_is_obeyed_and_not_believed_for_ever() {
        let wish = Duration::from_secs(120);
        for end in [End::SlowDown(Some(wish)), End::ServerDown(Some(wish))] {
            let [first, _] = twice(end.clone());
            assert!(first.wait >= wish && first.wait < wish * 2, "{end:?}: {first:?}");
            assert!(!first.woken_by_line && !first.new_client, "{end:?}");
        }
        let [first, _] = twice(End::ServerDown(Some(Duration::MAX)));
        assert!(first.wait <= LONGEST_WISH + STEPS[3]);
        let [first, second] = twice(End::SlowDown(None));
        assert!(first.wait >= SLOW_DOWN && second.wait >= SLOW_DOWN * 2);
        assert!(twice(End::ServerDown(None))[0].wait >= SERVER_DOWN);
    }

    fn any_end() -> impl Strategy<Value = End> {
        let wish = prop::option::of((0u64..100_000).prop_map(Duration::from_secs));
        prop_oneof![
            Just(End::NoLine(String::new())),
            Just(End::NoLogin(String::new())),
            Just(End::Lost(String::new())),
            Just(End::Restart),
            Just(End::AddressGone),
            Just(End::Silence),
            wish.clone().prop_map(End::SlowDown),
            wish.prop_map(End::ServerDown),
            Just(End::LoginTakenBack),
            Just(End::LoggedOut),
            Just(End::Replaced),
            Just(End::Outdated),
            (0u64..100_000).prop_map(|s| End::Banned(Duration::from_secs(s))),
            Just(End::Refused(String::new())),
            Just(End::QrCodesExhausted),
            Just(End::LinkAnew),
            Just(End::HostedAccount),
        ]
    }

    proptest! {
        /// Whatever comes, no two ends in a row are followed by no wait at all, unless the connection
        /// between them lasted.
        #[test]
        fn no_row_of_ends_makes_a_storm(
            ends in prop::collection::vec((any_end(), 0u64..20, prop::option::of(0u64..7200)), 2..60),
            random in any::<u64>(),
        ) {
            let mut course = course();
            let mut at_once = false;
            for (end, open, up) in &ends {
                let lasted = Lasted { open: Duration::from_secs(*open), up: up.map(Duration::from_secs) };
                let next = course.ended(end, lasted, random);
                prop_assert!(
                    !(at_once && next.wait.is_zero()) || lasted.open >= CALM,
                    "{end:?} follows at once on a connection that was made at once"
                );
                at_once = next.wait.is_zero();
            }
        }
    }
}

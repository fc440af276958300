use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::facts::tests::{UNIX, well};
use super::super::facts::{Disk, Failed, Memory};
use super::super::wording;
use super::*;
use crate::ledger::process_start::Cause as Start;
use crate::supabase::verdict::Reason;
use crate::whatsapp::connection::standing::{LastEnd, Phase};

/// What is seen of facts that have been so for `time`.
fn seen_after(facts: &Facts, time: Duration) -> Vec<Cause> {
    let conditions = conditions(facts);
    let begun = facts.now.checked_sub(time).unwrap();
    let sightings = Sightings::default().after(&conditions, begun);
    visible(&conditions, &sightings, facts.now).into_iter().map(|warning| warning.cause).collect()
}

fn seen(facts: &Facts) -> Vec<Cause> {
    seen_after(facts, DAY_LONG)
}

const DAY_LONG: Duration = Duration::from_secs(86_400);

fn offline(facts: &mut Facts, time: Duration, code: &'static str) {
    let at = facts.now.checked_sub(time).unwrap();
    facts.whatsapp.enter(Phase::Offline, at);
    facts.whatsapp.last_end = Some(LastEnd { code, detail: format!("it was {code}"), at });
}

fn rung(facts: &Facts, kind: Kind, condition: rung::Condition) -> rung::Health {
    let since = facts.now.checked_sub(HOUR).unwrap();
    rung::Health { kind, server: "192.0.2.1:53".parse().unwrap(), condition, since }
}

fn failing() -> rung::Condition {
    rung::Condition::Failing { reason: "timed out".into() }
}

fn lying() -> rung::Condition {
    rung::Condition::Lying { reason: "NXDOMAIN".into() }
}

#[test]
fn all_is_well_when_all_is_well() {
    assert_eq!(conditions(&well()), []);
    assert_eq!(worst(&[]), None);
}

#[test]
fn codes_are_unique_and_no_cause_hides_behind_itself() {
    let codes: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
    assert_eq!(codes.len(), Cause::ALL.len());
    fn reaches(from: Cause, to: Cause, steps: usize) -> bool {
        steps > 0 && from.warnable().depends_on.iter().any(|&next| next == to || reaches(next, to, steps - 1))
    }
    for &cause in Cause::ALL {
        assert_eq!(Cause::of_code(cause.code()), Some(cause));
        assert!(!reaches(cause, cause, 6), "{cause:?}");
        // What must be told must also be important enough to be worth a call at night, or be mended
        // by the operator: never a consequence only.
        assert!(cause.code().contains('.'), "{cause:?}");
    }
    assert_eq!(Cause::of_code("nonsense"), None);
}

#[test]
fn a_blip_of_the_connection_is_not_shown() {
    let mut facts = well();
    offline(&mut facts, 3 * MINUTE - Duration::from_millis(1), "lost");
    assert_eq!(seen(&facts), []);
    offline(&mut facts, Duration::ZERO, "lost");
    facts.whatsapp.down_since = facts.now.checked_sub(3 * MINUTE);
    assert_eq!(seen(&facts), [Cause::Offline]);
}

#[test]
fn replies_are_late_after_two_minutes_of_a_line_that_is_up() {
    let mut facts = well();
    let waiting = |seconds| Some(facts::Waiting { longest: Duration::from_secs(seconds), chats: 7 });
    facts.queues.replies = waiting(120);
    assert_eq!(seen(&facts), []);
    facts.queues.replies = waiting(121);
    assert_eq!(seen(&facts), [Cause::RepliesLate]);
    let [late] = &conditions(&facts)[..] else { panic!("one") };
    assert_eq!(
        wording::sentence(late.cause, &late.detail),
        "Balasan terlambat: 7 orang menunggu balasan, yang terlama sudah 2 menit. Semua tetap dijawab menurut \
         giliran."
    );
    // After a night without a line, everybody has waited, and nobody yet on this line.
    facts.queues.replies = waiting(30_000);
    facts.whatsapp.enter(Phase::Offline, facts.now - 2 * HOUR);
    facts.whatsapp.enter(Phase::Online, facts.now - MINUTE);
    assert_eq!(seen(&facts), []);
    facts.whatsapp.enter(Phase::Offline, facts.now);
    assert_eq!(seen(&facts), []);
}

#[test]
fn enough_failures_in_a_row_are_no_blip() {
    let mut facts = well();
    offline(&mut facts, MINUTE, "lost");
    facts.whatsapp.failures = 4;
    assert_eq!(seen(&facts), []);
    facts.whatsapp.failures = 5;
    assert_eq!(seen(&facts), [Cause::Offline]);
}

#[test]
fn without_any_dns_the_line_is_down_and_the_rest_is_a_consequence() {
    let mut facts = well();
    offline(&mut facts, HOUR, "no_line");
    facts.dns = [Kind::System, Kind::Https].map(|kind| rung(&facts, kind, failing())).to_vec();
    facts.whatsapp.storm = true;
    facts.whatsapp.failures = 90;
    facts.supabase = Some(sync::Standing::Retrying {
        since: facts.started,
        failures: 9,
        reason: Reason::new("no address"),
    });
    facts.queues.oldest_pending = Some(UNIX - 7200);
    assert_eq!(seen(&facts), [Cause::LineDown]);
    // One server that lies proves that there is a line.
    facts.dns[0].condition = lying();
    assert_eq!(seen(&facts)[..1], [Cause::LineDown]);
    facts.whatsapp.last_end = None;
    assert_eq!(seen(&facts), [Cause::DnsDead]);
}

#[test]
fn one_lying_rung_beside_a_good_one_is_a_warning_and_no_alert() {
    let mut facts = well();
    facts.dns = vec![
        rung(&facts, Kind::System, lying()),
        rung(&facts, Kind::Https, rung::Condition::Good),
        rung(&facts, Kind::Tls, failing()),
    ];
    let conditions = conditions(&facts);
    let warnings = visible(&conditions, &Sightings::default().after(&conditions, facts.now), facts.now);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!(warning.cause.code(), "dns.system.lying");
    assert_eq!(warning.error.as_deref(), Some("192.0.2.1:53: NXDOMAIN"));
    assert_eq!(worst(&warnings), Some(Severity::Warning));
    assert!(!warning.cause.warnable().alerts);
}

#[test]
fn a_rung_that_was_never_asked_is_no_evidence() {
    let mut facts = well();
    facts.dns =
        vec![rung(&facts, Kind::System, failing()), rung(&facts, Kind::Https, rung::Condition::Unknown)];
    assert_eq!(seen(&facts), [Cause::DnsSystemFailing]);
}

#[test]
fn what_only_a_person_can_mend_is_said_at_once_and_by_its_name() {
    for (code, cause) in
        [("logged_out", Cause::LoggedOut), ("replaced", Cause::Replaced), ("banned", Cause::Banned)]
    {
        let mut facts = well();
        offline(&mut facts, Duration::ZERO, code);
        facts.whatsapp.failures = 50;
        facts.whatsapp.storm = true;
        facts.whatsapp.paired = code != "logged_out";
        assert_eq!(seen_after(&facts, Duration::ZERO), [cause], "{code}");
        facts.whatsapp.enter(Phase::Online, facts.now);
        assert_eq!(seen(&facts), [], "{code}");
    }
    let mut facts = well();
    offline(&mut facts, HOUR, "lost");
    facts.whatsapp.last_end = None;
    facts.whatsapp.paired = false;
    assert_eq!(seen(&facts), [Cause::NotPaired]);
}

#[test]
fn a_storm_is_told_instead_of_being_offline() {
    let mut facts = well();
    offline(&mut facts, HOUR, "lost");
    facts.whatsapp.storm = true;
    assert_eq!(seen(&facts), [Cause::Storm]);
}

#[test]
fn supabase_is_told_of_at_once_when_it_wants_a_person_and_after_a_while_when_it_is_silent() {
    let mut facts = well();
    let ago = |minutes| facts.now.checked_sub(MINUTE * minutes).unwrap();
    let retrying = |since| sync::Standing::Retrying { since, failures: 3, reason: Reason::new("HTTP 503") };
    let (short, long) = (ago(14), ago(15));
    facts.supabase = Some(retrying(short));
    assert_eq!(seen(&facts), []);
    facts.supabase = Some(retrying(long));
    assert_eq!(seen(&facts), [Cause::SupabaseUnreachable]);
    facts.supabase = Some(sync::Standing::NeedsOperator { since: facts.now, action: Action::CheckKey });
    assert_eq!(seen_after(&facts, Duration::ZERO), [Cause::SupabaseRefused]);
    facts.supabase = Some(sync::Standing::Broken { since: facts.now, reason: Reason::new("HTTP 406") });
    assert_eq!(seen_after(&facts, Duration::ZERO), [Cause::SupabaseBroken]);
}

#[test]
fn something_in_supabases_place_is_told_as_such_once_it_has_stayed_for_some_minutes() {
    let mut facts = well();
    let blocked = |since| sync::Standing::NeedsOperator { since, action: Action::ClearTheWay };
    facts.supabase = Some(blocked(facts.now.checked_sub(MINUTE * 2).unwrap()));
    assert_eq!(seen(&facts), []);
    facts.supabase = Some(blocked(facts.now.checked_sub(MINUTE * 3).unwrap()));
    facts.queues.oldest_pending = Some(UNIX - 3601);
    assert_eq!(seen(&facts), [Cause::SupabaseBlocked]);
}

#[test]
fn what_is_wrong_is_named_before_and_above_its_consequence_whatever_supabase_wants() {
    let mut facts = well();
    facts.queues.oldest_pending = Some(UNIX - 100_000);
    for action in Action::ALL {
        let since = facts.now.checked_sub(HOUR).unwrap();
        facts.supabase = Some(sync::Standing::NeedsOperator { since, action });
        assert_eq!(seen(&facts), [Cause::of_action(action)], "{action:?}");
    }
}

#[test]
fn a_row_that_waits_for_over_an_hour_is_late() {
    let mut facts = well();
    facts.queues.oldest_pending = Some(UNIX - 3600);
    assert_eq!(seen(&facts), []);
    facts.queues.oldest_pending = Some(UNIX - 3601);
    assert_eq!(seen(&facts), [Cause::SyncLate]);
    assert_eq!(seen_after(&facts, MINUTE), []);
    facts.supabase = None;
    assert_eq!(seen(&facts), []);
}

#[test]
fn the_disk_has_one_trouble_at_a_time() {
    let mut facts = well();
    let space = |free, read_only| Some(Disk { free, total: 8 << 30, read_only });
    facts.storage.low = true;
    assert_eq!(seen(&facts), [Cause::DiskLow]);
    facts.storage.closed = true;
    assert_eq!(seen(&facts), [Cause::DiskFull]);
    let failed = |kind| Some(Failed { at: facts.now, kind, reason: "refused".into() });
    facts.storage.failed = failed(Failure::Full);
    assert_eq!(seen(&facts), [Cause::DiskFull]);
    facts.storage.closed = false;
    facts.storage.low = false;
    facts.storage.disk = space(1 << 30, true);
    facts.storage.failed = failed(Failure::ReadOnly);
    assert_eq!(seen(&facts), [Cause::DiskReadOnly]);
    facts.storage.disk = space(1 << 30, false);
    facts.storage.failed = failed(Failure::Io);
    assert_eq!(seen(&facts), [Cause::DiskFailing]);
}

#[test]
fn that_nothing_will_survive_is_shown_from_the_first_moment() {
    let mut facts = well();
    facts.storage.volatile = true;
    assert_eq!(seen(&facts), [Cause::DiskVolatile]);
}

fn restarts(crashes: u32) -> Restarts {
    [(Start::Crash, crashes)].into_iter().collect()
}

#[test]
fn silence_counts_in_opening_hours_only() {
    let mut facts = well();
    facts.whatsapp.last_message = facts.now.checked_sub(9 * HOUR);
    facts.latest_message = None;
    // At 10:00 WIB the day has been open for less than four hours, at 08:00 for less than two.
    assert_eq!(seen(&facts), [Cause::Deaf]);
    let at = |facts: &mut Facts, unix| (facts.unix, facts.server_time) = (unix, Some(unix));
    at(&mut facts, UNIX - 2 * 3600);
    assert_eq!(seen(&facts), []);
    // 02:00: closed.
    at(&mut facts, UNIX - 8 * 3600);
    assert_eq!(seen(&facts), []);
    // The box's clock says ten, and nobody has told whether that is so.
    (facts.unix, facts.server_time) = (UNIX, None);
    assert_eq!(seen(&facts), []);
    // Nobody is there who could be heard.
    at(&mut facts, UNIX);
    offline(&mut facts, HOUR, "lost");
    assert_eq!(seen(&facts), [Cause::Offline]);
}

#[test]
fn the_connection_gets_its_chance_before_silence_is_shown() {
    let mut facts = well();
    facts.whatsapp.last_message = facts.now.checked_sub(3 * HOUR + 14 * MINUTE);
    assert_eq!(seen(&facts), []);
    facts.whatsapp.last_message = facts.now.checked_sub(3 * HOUR + 15 * MINUTE);
    assert_eq!(seen(&facts), [Cause::Deaf]);
}

#[test]
fn an_unseen_phone_restarts_a_wrong_clock_and_much_memory_are_shown() {
    let mut facts = well();
    facts.whatsapp.phone_seen = Some(UNIX - 12 * DAY + 1);
    facts.restarts = restarts(5);
    facts.memory = Some(Memory { resident: MUCH_MEMORY, anonymous: 0, heap: None });
    assert_eq!(seen(&facts), []);
    facts.whatsapp.phone_seen = Some(UNIX - 12 * DAY);
    facts.restarts = restarts(6);
    facts.memory = Some(Memory { resident: MUCH_MEMORY + 1, anonymous: 0, heap: None });
    assert_eq!(seen(&facts), [Cause::PhoneUnseen, Cause::Restarts, Cause::MemoryHigh]);
    // A clock that is wrong knows nothing about days.
    facts.server_time = Some(UNIX - 100 * DAY);
    assert_eq!(seen(&facts), [Cause::Restarts, Cause::ClockWrong, Cause::MemoryHigh]);
}

#[test]
fn refused_replies_are_shown_with_the_end_of_the_lock() {
    use crate::ledger::reachout::Lock;

    let mut facts = well();
    facts.refusals.people = 1;
    assert_eq!(seen(&facts), [], "nothing waits");
    facts.refusals.parked = 2;
    assert_eq!(seen(&facts), [Cause::RepliesRefused]);
    let detail = |facts: &Facts| conditions(facts)[0].detail.clone();
    let refused = |people, replies, until| Detail::Refused { people, replies, until };
    assert_eq!(detail(&facts), refused(1, 2, None));
    facts.refusals.paused_until = Some(UNIX + 100);
    assert_eq!(detail(&facts), refused(1, 2, Some(UNIX + 100)));
    let lock = |ends_at| Lock { active: true, kind: None, ends_at };
    facts.refusals.lock = lock(Some(UNIX + 50));
    assert_eq!(detail(&facts), refused(1, 2, Some(UNIX + 50)));
    facts.refusals = facts::Refusals { lock: lock(Some(UNIX + 50)), ..facts::Refusals::default() };
    assert_eq!(seen(&facts), [Cause::RepliesRefused], "WhatsApp told of it before anybody was refused");
    facts.refusals.lock = lock(Some(UNIX));
    assert_eq!(seen(&facts), [], "it is over");
    facts.refusals.given_up_today = 2;
    assert_eq!(seen(&facts), [Cause::RepliesGivenUp]);
    assert_eq!(detail(&facts), Detail::Count(2));
}

#[test]
fn a_cause_that_went_away_begins_anew() {
    let mut facts = well();
    facts.restarts = restarts(9);
    let present = conditions(&facts);
    let first = Sightings::default().after(&present, facts.now);
    let later = facts.now + HOUR;
    assert_eq!(first.after(&present, later), first);
    assert_eq!(first.after(&[], later), Sightings::default());
    assert!(visible(&present, &first.after(&[], later).after(&present, later), later).is_empty());
}

fn any_rung() -> impl Strategy<Value = (u8, u8)> {
    (0..4_u8, 0..4_u8)
}

proptest! {
    /// Whatever the facts: something hidden always has a visible or young cause above it.
    #[test]
    fn trouble_is_never_hidden_without_a_reason(
        phase in 0..7_usize,
        end in 0..6_usize,
        rungs in prop::collection::vec(any_rung(), 0..5),
        flags in any::<[bool; 6]>(),
        pending in prop::option::of(0..10_000_i64),
    ) {
        let phases = [
            Phase::Offline, Phase::Resolving, Phase::Connecting, Phase::Handshake, Phase::Syncing,
            Phase::Online, Phase::Pairing,
        ];
        let ends = ["no_line", "lost", "replaced", "logged_out", "outdated", "banned"];
        let mut facts = well();
        offline(&mut facts, HOUR, ends[end]);
        facts.whatsapp.enter(phases[phase], facts.now);
        facts.whatsapp.paired = flags[0];
        facts.whatsapp.storm = flags[1];
        if flags[2] {
            facts.supabase = Some(sync::Standing::Retrying {
                since: facts.started, failures: 1, reason: Reason::new("HTTP 500"),
            });
        }
        if flags[3] { facts.server_time = Some(UNIX + 9999); }
        if flags[4] { facts.storage.disk = Some(Disk { free: 1, total: 1 << 30, read_only: flags[5] }); }
        facts.queues.oldest_pending = pending.map(|age| UNIX - age);
        facts.dns = rungs.iter().map(|&(kind, condition)| rung(
            &facts,
            [Kind::System, Kind::Https, Kind::Tls, Kind::Public][usize::from(kind)],
            [rung::Condition::Unknown, rung::Condition::Good, failing(), lying()][usize::from(condition)].clone(),
        )).collect();
        let found = conditions(&facts);
        let causes: BTreeSet<_> = found.iter().map(|condition| condition.cause).collect();
        prop_assert_eq!(causes.len(), found.len(), "each cause once");
        let shown = seen(&facts);
        if !found.is_empty() {
            // All have lasted for a day, so at least the roots are visible.
            let root = |cause: &Cause| !cause.warnable().depends_on.iter().any(|up| causes.contains(up));
            let since_facts = |cause: &Cause| found.iter().any(|c| c.cause == *cause && c.since.is_some());
            for cause in causes.iter().filter(|cause| root(cause) && !since_facts(cause)) {
                prop_assert!(shown.contains(cause), "{:?}", cause);
            }
            prop_assert!(causes.iter().any(root));
        }
        if !facts.whatsapp.phase.is_up() {
            prop_assert!(causes.contains(&Cause::Offline));
        }
    }
}

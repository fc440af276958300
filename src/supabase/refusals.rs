//! Whose fault it is that the server refuses rows: theirs, or nobody's among them. Pure: what came of rows goes
//! in, what to do with them comes out.
//!
//! A row that is refused is parked. A second one in a row with the same code, with nothing stored between them,
//! is no row's fault but a setting's or a rule's, which would park the whole queue: then none is. Rows that
//! really are bad may stand side by side too, and what was wrong with all may end at any moment. So once another
//! row was stored, each of them gets one more try, and whoever is refused then is parked.

use super::client::MAX_BATCH_ROWS;
use crate::ledger::registration::RowKey;
use crate::ledger::sync_queue::RowVerdict;

/// Most rows that are remembered as refused: one batch. Of further ones nothing is known, so they are judged
/// like rows that are sent for the first time.
const MAX_REMEMBERED: usize = MAX_BATCH_ROWS as usize;

/// Whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// Each row has earned its verdict. One that was parked before gets its second try.
    Rows { take_back: Option<RowKey> },
    /// No row is at fault, and all stay in the queue. One that was parked before comes back.
    Nobody { code: String, take_back: Option<RowKey> },
}

/// The refusals since a row was last stored.
#[derive(Debug, Default)]
pub struct Refusals {
    run: Option<Run>,
    /// Rows that were refused, and then another was stored: they have their second try before them.
    suspects: Vec<RowKey>,
}

/// Refusals with one code, with nothing stored between.
#[derive(Debug)]
struct Run {
    code: String,
    rows: Vec<RowKey>,
    /// The first of them, while it stands alone.
    parked: Option<RowKey>,
}

impl Refusals {
    /// Judges what came of rows that were sent together, or of one.
    pub fn judge(&mut self, verdicts: &[(RowKey, RowVerdict)]) -> Blame {
        let refused: Vec<(RowKey, &str)> = verdicts
            .iter()
            .filter_map(|(key, verdict)| match verdict {
                RowVerdict::Rejected { code, .. } => Some((*key, code.as_str())),
                RowVerdict::Stored | RowVerdict::Duplicate(_) => None,
            })
            .collect();
        if refused.len() < verdicts.len() {
            // Others of the same request passed, or all did.
            let run = self.run.take();
            let take_back = run.as_ref().and_then(|run| run.parked);
            if let Some(run) = run {
                self.suspects = run.rows;
            }
            self.suspects.retain(|suspect| !verdicts.iter().any(|(key, _)| key == suspect));
            return Blame::Rows { take_back };
        }
        if refused.iter().all(|(key, _)| self.suspects.contains(key)) {
            self.suspects.retain(|suspect| !refused.iter().any(|(key, _)| key == suspect));
            return Blame::Rows { take_back: None };
        }
        let mut nobodys = None;
        for (key, code) in refused {
            match &mut self.run {
                Some(run) if run.code == code && run.parked == Some(key) => {}
                Some(run) if run.code == code => {
                    let parked = run.parked.take();
                    nobodys.get_or_insert_with(|| Blame::Nobody { code: code.to_owned(), take_back: parked });
                    if run.rows.len() < MAX_REMEMBERED && !run.rows.contains(&key) {
                        run.rows.push(key);
                    }
                }
                other => *other = Some(Run { code: code.to_owned(), rows: vec![key], parked: Some(key) }),
            }
        }
        nobodys.unwrap_or(Blame::Rows { take_back: None })
    }

    /// Whether a row was refused since another was last stored.
    pub fn include(&self, row_key: &RowKey) -> bool {
        self.run.as_ref().is_some_and(|run| run.rows.contains(row_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u32) -> RowKey {
        RowKey::derive("chat", "1", "id", n)
    }

    fn refused(n: u32, code: &str) -> (RowKey, RowVerdict) {
        (key(n), RowVerdict::Rejected { code: code.into(), message: String::new() })
    }

    fn stored(n: u32) -> (RowKey, RowVerdict) {
        (key(n), RowVerdict::Stored)
    }

    /// Each row has earned its verdict.
    const THEIRS: Blame = Blame::Rows { take_back: None };

    fn theirs_and_again(n: u32) -> Blame {
        Blame::Rows { take_back: Some(key(n)) }
    }

    fn nobody(code: &str, take_back: Option<u32>) -> Blame {
        Blame::Nobody { code: code.into(), take_back: take_back.map(key) }
    }

    #[test]
    fn one_refused_row_is_at_fault_and_a_second_one_clears_both() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.judge(&[refused(1, "22023")]), THEIRS);
        assert_eq!(refusals.judge(&[refused(2, "22023")]), nobody("22023", Some(1)));
        // However often they are tried.
        assert_eq!(refusals.judge(&[refused(1, "22023")]), nobody("22023", None));
        assert_eq!(refusals.judge(&[refused(3, "22023")]), nobody("22023", None));
        assert!([1, 2, 3].iter().all(|&n| refusals.include(&key(n))));
    }

    #[test]
    fn a_row_between_others_that_are_stored_is_at_fault_when_it_is_refused_twice() {
        let mut refusals = Refusals::default();
        for n in 0..9 {
            assert_eq!(refusals.judge(&[refused(n, "22007")]), THEIRS);
            assert_eq!(refusals.judge(&[stored(100 + n)]), theirs_and_again(n));
            assert_eq!(refusals.judge(&[refused(n, "22007")]), THEIRS);
            assert_eq!(refusals.judge(&[stored(200 + n)]), THEIRS);
        }
    }

    #[test]
    fn rows_that_are_refused_for_different_reasons_are_at_fault() {
        let mut refusals = Refusals::default();
        for n in 0..9 {
            let code = if n % 2 == 0 { "22007" } else { "23514" };
            assert_eq!(refusals.judge(&[refused(n, code)]), THEIRS);
        }
    }

    #[test]
    fn a_batch_in_which_something_passed_speaks_for_itself() {
        let mut refusals = Refusals::default();
        let batch = [refused(1, "23514"), refused(2, "23514"), stored(3), refused(4, "23514")];
        assert_eq!(refusals.judge(&batch), THEIRS);
        // Row 5 is not parked yet; to take it back does nothing.
        assert_eq!(refusals.judge(&[refused(5, "23514"), refused(6, "23514")]), nobody("23514", Some(5)));
    }

    #[test]
    fn who_is_refused_again_after_another_was_stored_is_at_fault() {
        let mut refusals = Refusals::default();
        refusals.judge(&[refused(1, "P0001")]);
        assert_eq!(refusals.judge(&[refused(2, "P0001")]), nobody("P0001", Some(1)));
        assert_eq!(refusals.judge(&[stored(9)]), THEIRS);
        assert_eq!(refusals.judge(&[refused(1, "P0001")]), THEIRS);
        assert_eq!(refusals.judge(&[refused(2, "P0001")]), THEIRS);
        // Others are not known yet.
        assert_eq!(refusals.judge(&[refused(3, "P0001")]), THEIRS);
        assert_eq!(refusals.judge(&[refused(4, "P0001")]), nobody("P0001", Some(3)));
    }

    #[test]
    fn who_passes_after_all_is_no_suspect_any_more() {
        let mut refusals = Refusals::default();
        refusals.judge(&[refused(1, "22023"), refused(2, "22023")]);
        refusals.judge(&[stored(1)]);
        assert!(!refusals.include(&key(2)));
        assert_eq!(refusals.judge(&[stored(2)]), THEIRS);
        assert_eq!(refusals.judge(&[refused(1, "22023")]), THEIRS);
        assert_eq!(refusals.judge(&[refused(2, "22023")]), nobody("22023", Some(1)));
    }

    proptest! {
        /// While nothing is stored no more than one row of a code stays parked, in whatever order they come, and
        /// what is remembered has a bound.
        #[test]
        fn a_queue_of_which_nothing_is_stored_is_not_parked(
            rows in prop::collection::vec(0..400_u32, 1..600),
        ) {
            let mut refusals = Refusals::default();
            let mut parked = std::collections::BTreeSet::new();
            for n in rows {
                match refusals.judge(&[refused(n, "22023")]) {
                    Blame::Rows { .. } => { parked.insert(key(n)); }
                    Blame::Nobody { take_back, .. } => {
                        if let Some(key) = take_back {
                            prop_assert!(parked.remove(&key));
                        }
                    }
                }
                prop_assert!(parked.len() <= 1);
                prop_assert!(refusals.run.as_ref().is_some_and(|run| run.rows.len() <= MAX_REMEMBERED));
            }
        }
    }
}

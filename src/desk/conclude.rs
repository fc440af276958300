//! What the reply to a submission says, once the ledger has spoken.

use super::{Conclusion, Reason, Refused, Registered, Reply, Saved, Submission};
use crate::registration::{CardTypeSource, Outcome};

/// Joins faults of the message with the ledger's outcomes.
///
/// `outcomes` has one item per person of [`Submission::people`], in that order; a person without
/// one is reported as not stored. `today` holds the sender's rows of the day in order of arrival.
pub fn conclude(submission: &Submission, outcomes: &[Outcome], today: &[Registered]) -> Reply {
    let mut outcomes = outcomes.iter();
    let (mut saved, mut refused) = (Vec::new(), Vec::new());
    for (number, entry) in submission.entries.iter().enumerate() {
        let reasons = match &entry.verdict {
            Err(faults) => faults.iter().cloned().map(Reason::Fault).collect(),
            Ok(person) => match outcomes.next() {
                Some(Outcome::Stored) => {
                    saved.push(Saved {
                        nama: person.nama.clone(),
                        kjp: person.kjp.clone(),
                        jenis_kartu: person.jenis_kartu.map(|(kind, _)| kind),
                        corrected: matches!(person.jenis_kartu, Some((_, CardTypeSource::Correction))),
                    });
                    continue;
                }
                Some(Outcome::Duplicate(clash)) => vec![Reason::Clash(clash.clone())],
                None => vec![Reason::NotStored],
            },
        };
        refused.push(Refused { entry: number, nama: entry.nama.clone(), reasons });
    }
    Reply::Conclusion(Conclusion {
        place: submission.place.clone(),
        saved,
        refused,
        remainder: submission.remainder.clone(),
        today: today.to_vec(),
    })
}

/// The reply to "what have I registered today?": the rows by name (domain §7).
pub fn conclude_list(mut rows: Vec<Registered>) -> Reply {
    rows.sort_by_cached_key(|row| row.nama.to_lowercase());
    Reply::Today(rows)
}

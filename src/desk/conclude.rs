//! What the reply to a submission says, once the ledger has spoken.

use super::{Conclusion, Reason, Refused, Registered, Reply, Saved, Submission};
use crate::registration::fields::canonical_name;
use crate::registration::{CardTypeSource, Outcome, Person};

/// Joins faults of the message with the ledger's outcomes.
///
/// `outcomes` has one item per person of [`Submission::people`], in that order; a person without
/// one is reported as not stored. `today` holds the sender's rows of the day in order of arrival.
pub fn conclude(submission: &Submission, outcomes: &[Outcome], today: &[Registered]) -> Reply {
    let lokasi = submission.place.lokasi();
    let is_known = |person: &Person| today.iter().any(|row| row.lokasi == lokasi && is_same(row, person));
    let mut outcomes = outcomes.iter();
    let (mut saved, mut known, mut refused) = (Vec::new(), Vec::new(), Vec::new());
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
                        warnings: entry.warnings.clone(),
                    });
                    continue;
                }
                Some(Outcome::Duplicate(_)) if is_known(person) => {
                    known.push(person.nama.clone());
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
        known,
        refused,
        remainder: submission.remainder.clone(),
        today: today.to_vec(),
    })
}

/// Is the sender's row the very same registration? One that differs in anything is a correction or a
/// mistake, and must not be told that all is well.
fn is_same(row: &Registered, person: &Person) -> bool {
    canonical_name(&row.nama) == person.name_canonical
        && row.kjp == person.kjp
        && row.ktp == person.ktp
        && row.kk == person.kk
        && row.tanggal_lahir == person.tanggal_lahir
}

/// The reply to "what have I registered today?": the rows by name (`registration/RULES.md` 8.4).
pub fn conclude_list(mut rows: Vec<Registered>) -> Reply {
    rows.sort_by_cached_key(|row| row.nama.to_lowercase());
    Reply::Today(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::Conclusion;
    use crate::personal::{CardNumber, Kk, Nik};
    use crate::registration::{Clash, ClashField, Entry, Fault, Field, Provider, people};
    use jiff::civil::date;

    fn submission(text: &str) -> Submission {
        let place = Provider::DharmaJaya.place(4).unwrap();
        let day = date(2026, 11, 24);
        let people::Reading { entries, remainder } =
            people::read(&crate::registration::Rulebook::default(), place.provider, [text], day).unwrap();
        Submission { place, day, entries, remainder }
    }

    fn concluded(submission: &Submission, outcomes: &[Outcome]) -> Conclusion {
        match conclude(submission, outcomes, &[]) {
            Reply::Conclusion(conclusion) => conclusion,
            other => panic!("{other:?}"),
        }
    }

    const THREE: &str = "Ani\nlansia 5049488500000000\n3171010101900000\n3171010101100000\n\
        Budi\nlansia 5049488600000000\n317101020290000\n3171010101100000\n\
        Citra\nrusun 5049488700000000\n3171010303900000\n3171010101100000\nDedi";

    #[test]
    fn outcomes_meet_the_people_they_belong_to() {
        let clash = Clash { field: ClashField::Ktp, own: false, earlier_nama: String::new() };
        let conclusion = concluded(&submission(THREE), &[Outcome::Stored, Outcome::Duplicate(clash.clone())]);
        let saved: Vec<_> =
            conclusion.saved.iter().map(|saved| (saved.nama.as_str(), saved.corrected)).collect();
        assert_eq!(saved, [("Ani", true)]);
        let refused: Vec<_> =
            conclusion.refused.iter().map(|refused| (refused.entry, refused.nama.expose())).collect();
        assert_eq!(refused, [(1, "Budi"), (2, "Citra")]);
        let length = Fault::Length { field: Field::NoKtp, digits: 15, least: 16, most: 16 };
        assert_eq!(conclusion.refused[0].reasons, [Reason::Fault(length)]);
        assert_eq!(conclusion.refused[1].reasons, [Reason::Clash(clash)]);
        assert_eq!(conclusion.remainder, ["Dedi".into()]);
    }

    #[test]
    fn nobody_is_called_saved_unless_the_ledger_said_so() {
        let submission = submission(THREE);
        let conclusion = concluded(&submission, &[]);
        assert!(conclusion.saved.is_empty());
        assert_eq!(conclusion.refused.len(), submission.entries.len());
        assert_eq!(conclusion.refused[0].reasons, [Reason::NotStored]);
        let faulty = Entry {
            nama: "Ani".into(),
            read: people::Read::default(),
            verdict: Err(vec![Fault::CardPrefix]),
            warnings: Vec::new(),
        };
        let conclusion = concluded(&Submission { entries: vec![faulty], ..submission }, &[Outcome::Stored]);
        assert!(conclusion.saved.is_empty());
    }

    #[test]
    fn only_the_very_same_data_again_is_known_and_not_refused() {
        let citra = Registered {
            nama: "CITRA".into(),
            kjp: CardNumber::new("5049488700000000"),
            jenis_kartu: Some("RUSUN".into()),
            ktp: Nik::new("3171010303900000"),
            kk: Kk::new("3171010101100000"),
            tanggal_lahir: None,
            lokasi: "DHARMAJAYA - Cakung".into(),
        };
        let clash = Clash { field: ClashField::Ktp, own: true, earlier_nama: "CITRA".into() };
        let outcomes = [Outcome::Stored, Outcome::Duplicate(clash)];
        let of = |row: Registered| match conclude(&submission(THREE), &outcomes, &[row]) {
            Reply::Conclusion(Conclusion { known, refused, .. }) => (known, refused.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(citra.clone()), (vec!["Citra".to_owned()], 1));
        for corrected in [
            Registered { nama: "Dewi".into(), ..citra.clone() },
            Registered { kjp: CardNumber::new("5049488700000001"), ..citra.clone() },
            Registered { ktp: Nik::new("3171010303900001"), ..citra.clone() },
            Registered { kk: Kk::new("3171010101100001"), ..citra.clone() },
            Registered { lokasi: "FOODSTATION".into(), ..citra },
        ] {
            assert_eq!(of(corrected), (vec![], 2));
        }
    }

    #[test]
    fn the_list_of_today_is_ordered_by_name() {
        let row = |nama: &str| Registered {
            nama: nama.into(),
            kjp: CardNumber::new("5049488500000000"),
            jenis_kartu: None,
            ktp: Nik::new("3171010101900000"),
            kk: Kk::new("3171010101100000"),
            tanggal_lahir: None,
            lokasi: "FOODSTATION".into(),
        };
        let Reply::Today(rows) = conclude_list(vec![row("budi"), row("Citra"), row("Ani")]) else { panic!() };
        let names: Vec<&str> = rows.iter().map(|row| row.nama.as_str()).collect();
        assert_eq!(names, ["Ani", "budi", "Citra"]);
    }
}

//! The people of a message and a verdict for each (RULES.md §5).

use std::collections::HashMap;

use jiff::civil::Date;

use super::fault::{Fault, Field, Warning};
use super::person::{CardType, CardTypeSource, Person, Provider};
use super::reading::{self, Draft, Form, Number};
use super::rulebook::Rulebook;
use super::{birth_date, card, fields, nik, text};
use crate::personal::{CardNumber, Kk, Nik, Written};

/// One person of a message, in the message's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as far as it could be read, to tell the sender whom a verdict is about; may be empty.
    pub nama: Written,
    /// What else was read, right or wrong.
    pub read: Read,
    /// The person, or every reason why there is none (at least one).
    pub verdict: Result<Person, Vec<Fault>>,
    /// What the sender should look at. Of a person without a fault.
    pub warnings: Vec<Warning>,
}

/// Numbers and date of a person as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    pub kjp: Option<Written>,
    pub ktp: Option<Written>,
    pub kk: Option<Written>,
    pub tanggal_lahir: Option<Date>,
    pub jenis_kartu: Option<CardType>,
}

/// A message read as registrations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub entries: Vec<Entry>,
    /// Lines that belong to nobody and are no chat.
    pub remainder: Vec<Written>,
}

/// Why nothing of a message is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Pasarjaya wants birth dates, and the message has none.
    NoBirthDates,
    /// More than the rulebook allows.
    TooManyPeople { people: usize, most: usize },
}

/// What a text is, before anybody knows for which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Somebody is in it: at least two things that belong together, one of them a number.
    Data,
    /// A number, and nothing that it belongs to.
    Number,
    Chat,
}

/// Tells data from chat.
pub fn nature(cleaned: &str) -> Nature {
    let (drafts, _) = reading::drafts(Provider::DharmaJaya, cleaned);
    let parts = |draft: &Draft<'_>| {
        usize::from(draft.name.is_some()) + usize::from(draft.card.is_some()) + draft.sixteens.len()
    };
    match drafts.iter().map(parts).max() {
        None => Nature::Chat,
        Some(0 | 1) => Nature::Number,
        Some(_) => Nature::Data,
    }
}

/// Reads the registrations for one provider out of texts sent one after another; each text is read on its own.
///
/// `today` is the WIB date of the message; birth dates may not lie after it.
///
/// # Errors
/// Nothing of the message can be used.
pub fn read<'a>(
    rules: &Rulebook,
    provider: Provider,
    texts: impl IntoIterator<Item = &'a str>,
    today: Date,
) -> Result<Reading, Unreadable> {
    let reading = read_all(rules, provider, texts, today);
    let (people, most) = (reading.entries.len(), rules.most_people);
    if people > most {
        return Err(Unreadable::TooManyPeople { people, most });
    }
    let nothing_else = |entry: &Entry| entry.verdict == Err(vec![Fault::Missing(Field::TanggalLahir)]);
    if people > 0 && reading.entries.iter().all(nothing_else) {
        return Err(Unreadable::NoBirthDates);
    }
    Ok(reading)
}

/// The same, however many people there are and whatever is wrong with all of them.
pub fn read_all<'a>(
    rules: &Rulebook,
    provider: Provider,
    texts: impl IntoIterator<Item = &'a str>,
    today: Date,
) -> Reading {
    let mut reading = Reading::default();
    for raw in texts {
        let cleaned = text::clean(raw);
        let (drafts, remainder) = reading::drafts(provider, &cleaned);
        reading.remainder.extend(remainder.into_iter().map(Written::from));
        reading.entries.extend(drafts.iter().map(|draft| entry(rules, provider, draft, today)));
    }
    if reading.entries.len() > 1 {
        refuse_repetitions(&mut reading.entries);
    }
    reading
}

fn entry(rules: &Rulebook, provider: Provider, draft: &Draft<'_>, today: Date) -> Entry {
    let mut faults = Vec::new();
    let nama = draft.name.map(|name| fields::name(name.text)).unwrap_or_default();
    match draft.other_name {
        Some(other) => faults.push(unclear(Field::Nama, &[other, &nama])),
        None if draft.trailing_name => faults.push(unclear(Field::Nama, &[&nama])),
        None => faults.extend(fields::check_name(&nama, rules.name_characters).err()),
    }

    let mut jenis_kartu = None;
    let card = draft.card.as_ref();
    match check_card(rules, card) {
        Err(fault) => faults.push(fault),
        Ok(_) if provider == Provider::PasarJaya => {}
        Ok(number) => match (rules.kind(number, card.and_then(|card| card.kind)), draft.beside_card) {
            (None, Some(words)) => faults.push(Fault::CardTypeInvalid { written: fields::name(words) }),
            (None, None) => faults.push(Fault::CardTypeUnknown),
            (Some(decided), _) => jenis_kartu = Some(decided),
        },
    }
    // Whose name is it?
    if let Some(words) = draft.beside_card
        && !faults.iter().any(|fault| matches!(fault, Fault::CardTypeInvalid { .. }))
    {
        faults.push(unclear(Field::Nama, &[&nama, words]));
    }

    let (nik, kk) = draft.nik_and_kk();
    faults.extend(check_sixteen(Field::NoKtp, nik).err());
    faults.extend(check_sixteen(Field::NoKk, kk).err());
    let digits = |number: Option<&Number<'_>>| number.map(|number| number.digits.clone()).unwrap_or_default();
    let (card_digits, nik_digits, kk_digits) = (digits(card), digits(nik), digits(kk));
    let same = [
        (Field::NoKtp, &nik_digits, Field::NoKjp, &card_digits),
        (Field::NoKk, &kk_digits, Field::NoKjp, &card_digits),
        (Field::NoKk, &kk_digits, Field::NoKtp, &nik_digits),
    ];
    for (field, value, other, other_value) in same {
        if !value.is_empty() && value == other_value {
            faults.push(Fault::Equal { field, other });
        }
    }
    for (field, number) in [(Field::NoKtp, &nik_digits), (Field::NoKk, &kk_digits)] {
        let equal =
            faults.iter().any(|fault| matches!(fault, Fault::Equal { field: named, .. } if *named == field));
        if number.starts_with(card::PREFIX) && number.len() == fields::NIK_DIGITS && !equal {
            faults.push(Fault::Equal { field, other: Field::NoKjp });
        }
    }

    let tanggal_lahir = match (provider, draft.date) {
        (Provider::DharmaJaya | Provider::FoodStation, _) => None,
        (Provider::PasarJaya, None) => {
            faults.push(Fault::Missing(Field::TanggalLahir));
            None
        }
        (Provider::PasarJaya, Some(date)) => match birth_date::parse(date, rules.earliest_year, today) {
            Ok(born) => Some(born),
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
    };
    if draft.surplus {
        faults.push(unclear(Field::NoKtp, &[]));
    } else if draft.unclear {
        let both = both_ways(draft);
        if both.is_empty() { faults.push(unclear(Field::Nama, &[])) } else { faults.extend(both) }
    }

    let written = |number: Option<&Number<'_>>| number.map(|number| Written::from(number.digits.as_str()));
    let read = Read {
        kjp: written(card),
        ktp: written(nik),
        kk: written(kk),
        tanggal_lahir,
        jenis_kartu: jenis_kartu.map(|(kind, _): (CardType, CardTypeSource)| kind),
    };
    let (verdict, warnings) = if faults.is_empty() {
        let warnings = nik::warnings(&nik_digits, rules, today);
        let person = Person {
            name_canonical: fields::canonical_name(&nama),
            nama: nama.clone(),
            kjp: CardNumber::new(card_digits),
            jenis_kartu,
            ktp: Nik::new(nik_digits),
            kk: Kk::new(kk_digits),
            tanggal_lahir,
        };
        (Ok(person), warnings)
    } else {
        (Err(faults), Vec::new())
    };
    Entry { nama: nama.into(), read, verdict, warnings }
}

/// What is another in the other way to read a text, with both.
fn both_ways(draft: &Draft<'_>) -> Vec<Fault> {
    let Some(other) = &draft.other_way else { return Vec::new() };
    let read = |draft: &Draft<'_>| {
        let (nik, kk) = draft.nik_and_kk();
        let digits =
            |number: Option<&Number<'_>>| number.map(|number| number.digits.clone()).unwrap_or_default();
        let nama = draft.name.map(|name| fields::name(name.text)).unwrap_or_default();
        [
            (Field::Nama, nama),
            (Field::NoKjp, digits(draft.card.as_ref())),
            (Field::NoKtp, digits(nik)),
            (Field::NoKk, digits(kk)),
        ]
    };
    let pairs = read(draft).into_iter().zip(read(other));
    let differ = pairs.filter(|((_, one), (_, two))| one != two && !one.is_empty() && !two.is_empty());
    differ.map(|((field, one), (_, two))| unclear(field, &[&one, &two])).collect()
}

fn unclear(field: Field, readings: &[&str]) -> Fault {
    Fault::Unclear { field, readings: readings.iter().map(|text| Written::from(*text)).collect() }
}

fn check_form(field: Field, number: &Number<'_>) -> Result<(), Fault> {
    match number.form {
        Form::Digits => Ok(()),
        Form::Broken { letter, place } => Err(Fault::Letter { field, letter, place }),
        Form::Spreadsheet => Err(Fault::Spreadsheet(field)),
        Form::Tail { digits } => {
            let whole = &number.digits[..number.digits.len() - digits];
            Err(unclear(field, &[whole, &number.digits]))
        }
    }
}

fn check_card<'a>(rules: &Rulebook, number: Option<&'a Number<'_>>) -> Result<&'a str, Fault> {
    let number = number.ok_or(Fault::Missing(Field::NoKjp))?;
    check_form(Field::NoKjp, number)?;
    card::check_number(&number.digits, &rules.card_digits)?;
    Ok(&number.digits)
}

fn check_sixteen(field: Field, number: Option<&Number<'_>>) -> Result<(), Fault> {
    let number = number.ok_or(Fault::Missing(field))?;
    check_form(field, number)?;
    fields::check_sixteen(field, &number.digits)?;
    if field == Field::NoKtp { nik::check(&number.digits) } else { Ok(()) }
}

/// The first of several people with the same card, NIK or name stays; the others are refused
/// (`duplicate_in_message`). A person who is refused anyway takes nobody's place.
fn refuse_repetitions(entries: &mut [Entry]) {
    // The places of those who are right so far.
    let mut cards: HashMap<CardNumber, usize> = HashMap::new();
    let mut niks: HashMap<Nik, usize> = HashMap::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    for (place, entry) in entries.iter_mut().enumerate() {
        let Ok(person) = &entry.verdict else { continue };
        let found = [
            (Field::NoKjp, cards.get(&person.kjp)),
            (Field::NoKtp, niks.get(&person.ktp)),
            (Field::Nama, names.get(&person.name_canonical)),
        ];
        let faults: Vec<Fault> = found
            .into_iter()
            .filter_map(|(field, entry)| Some(Fault::Repeats { field, entry: *entry? }))
            .collect();
        if faults.is_empty() {
            cards.insert(person.kjp.clone(), place);
            niks.insert(person.ktp.clone(), place);
            names.insert(person.name_canonical.clone(), place);
        } else {
            entry.verdict = Err(faults);
            entry.warnings.clear();
        }
    }
}

#[cfg(test)]
#[path = "../../tests/fuzz/stands_in.rs"]
mod stands_in;

#[cfg(test)]
mod tests {
    use super::stands_in::stands_in;
    use super::*;
    use crate::registration::rulebook::MOST_PEOPLE;
    use crate::registration::{BirthDateFault, CardType, CardTypeSource};
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 24);

    fn read<'a>(
        provider: Provider,
        texts: impl IntoIterator<Item = &'a str>,
        today: Date,
    ) -> Result<Reading, Unreadable> {
        super::read(&Rulebook::default(), provider, texts, today)
    }

    fn length(field: Field, digits: usize) -> Fault {
        let (least, most) = if field == Field::NoKjp { (16, 18) } else { (16, 16) };
        Fault::Length { field, digits, least, most }
    }
    const C16: &str = "5049488500000000";
    const C18: &str = "504948850000000000";
    const L16: &str = "5049488600000000";
    const NIK: &str = "3171010101900000";
    const KK: &str = "3171010101100000";

    /// Writes the invented numbers in place of their names.
    fn filled(message: &str) -> String {
        [("C16", C16), ("C18", C18), ("L16", L16), ("NIK", NIK), ("KKK", KK)]
            .iter()
            .fold(message.to_owned(), |text, (name, digits)| text.replace(name, digits))
    }

    fn reading(provider: Provider, message: &str) -> Reading {
        read(provider, [filled(message).as_str()], TODAY).unwrap()
    }

    fn person(provider: Provider, message: &str) -> Person {
        let reading = reading(provider, message);
        assert_eq!((reading.entries.len(), reading.remainder.len()), (1, 0), "{message}");
        reading.entries[0].verdict.clone().unwrap()
    }

    fn faults(provider: Provider, message: &str) -> Vec<Fault> {
        let reading = reading(provider, message);
        reading.entries.into_iter().flat_map(|entry| entry.verdict.err().unwrap_or_default()).collect()
    }

    #[test]
    fn four_plain_lines_are_one_person_at_dharmajaya_and_at_foodstation() {
        for provider in [Provider::DharmaJaya, Provider::FoodStation] {
            let person = person(provider, "Ani\nC16\nNIK\nKKK");
            assert_eq!(person.nama, "Ani");
            assert_eq!(person.kjp, CardNumber::new(C16));
            assert_eq!(person.jenis_kartu, Some((CardType::Kjp, CardTypeSource::Prefix)));
            assert_eq!((person.ktp, person.kk), (Nik::new(NIK), Kk::new(KK)));
            assert_eq!(person.tanggal_lahir, None);
        }
    }

    #[test]
    fn five_plain_lines_are_one_person_at_pasarjaya_without_a_kind_of_card() {
        let person = person(Provider::PasarJaya, "Ani\nLANSIA L16\nNIK\nKKK\n20-01-2015");
        assert_eq!(person.tanggal_lahir, Some(date(2015, 1, 20)));
        assert_eq!(person.jenis_kartu, None);
    }

    #[test]
    fn labels_blank_lines_and_invisible_characters_change_nothing() {
        let plain = person(Provider::DharmaJaya, "Ani\nKJP C18\nNIK\nKKK");
        for message in [
            "Nama: Ani\nNo. KJP: C18\nNo KTP = NIK\nNo. KK..KKK.",
            "\n\nAni\r\n\r\nKJP C18\r\nNik NIK\r\nkk KKK\r\n",
            "\u{200B}Ani\nKJP\u{A0}C18\n\u{202A}NIK\u{202C}\nKartu Keluarga KKK",
            "1. Ani\n2. KJP C18\n3. KTP NIK\n4. KK KKK",
        ] {
            // "NIK" in a label would be filled in too, so labels say "Nik" or "KTP".
            assert_eq!(person(Provider::DharmaJaya, message), plain, "{message}");
        }
    }

    #[test]
    fn several_people_of_one_family_are_read_in_order() {
        let two = "Ani\nC16\nNIK\nKKK\n\nBudi\nLANSIA L16\n3171010202900000\nKKK";
        let reading = reading(Provider::DharmaJaya, two);
        let names: Vec<_> = reading.entries.iter().map(|entry| entry.nama.expose()).collect();
        assert_eq!(names, ["Ani", "Budi"]);
        assert!(reading.entries.iter().all(|entry| entry.verdict.is_ok()));
    }

    #[test]
    fn every_number_of_wrong_length_is_named_with_its_length() {
        let length = |field, digits| vec![length(field, digits)];
        let dharma = |message: &str| faults(Provider::DharmaJaya, message);
        assert_eq!(dharma("Ani\n504948850000000\nNIK\nKKK"), length(Field::NoKjp, 15));
        assert_eq!(dharma("Ani\nC180\nNIK\nKKK"), length(Field::NoKjp, 19));
        assert_eq!(dharma("Ani\nC16\nNIK0\nKKK"), length(Field::NoKtp, 17));
        assert_eq!(dharma("Ani\nC16\n317101010190000\nKKK"), length(Field::NoKtp, 15));
        assert_eq!(dharma("Ani\nC16\nNIK\nKKK0"), length(Field::NoKk, 17));
        assert_eq!(dharma("Ani\nC16\nNIK\n317101010110000"), length(Field::NoKk, 15));
    }

    #[test]
    fn every_missing_field_is_named() {
        let whole = ["Ani", "C16", "NIK NIK", "KK KKK", "20-01-2015"];
        let fields = [Field::Nama, Field::NoKjp, Field::NoKtp, Field::NoKk, Field::TanggalLahir];
        // With another person whose date is there, so that dates are not missing altogether.
        let other = "\n\nBudi\nC18\n3171010202900000\nKKK\n1-1-2015";
        for (at, field) in fields.into_iter().enumerate() {
            let mut lines: Vec<String> =
                whole.iter().map(|line| filled(line).replace("3171010101900000 ", "nik ")).collect();
            lines.remove(at);
            let message = format!("{}{}", lines.join("\n"), filled(other));
            let reading = read(Provider::PasarJaya, [message.as_str()], TODAY).unwrap();
            assert_eq!(reading.entries[0].verdict, Err(vec![Fault::Missing(field)]), "{message}");
            assert!(reading.entries[1].verdict.is_ok(), "{message}");
        }
    }

    #[test]
    fn equal_numbers_are_refused_on_the_later_field() {
        let equal = |field, other| vec![Fault::Equal { field, other }];
        let dharma = |message: &str| faults(Provider::DharmaJaya, message);
        assert_eq!(dharma("Ani\nC16\nC16\nKKK"), equal(Field::NoKtp, Field::NoKjp));
        assert_eq!(dharma("Ani\nC16\nNIK\nC16"), equal(Field::NoKk, Field::NoKjp));
        assert_eq!(dharma("Ani\nC16\nNIK\nNIK"), equal(Field::NoKk, Field::NoKtp));
    }

    #[test]
    fn whoever_can_be_read_in_two_ways_is_asked_with_both() {
        let message = "NIK\nKKK\nNama: Ani\nC16\n3171010202900000\nKKK\nNama: Budi\nC18\n3171010303900000";
        let reading = reading(Provider::DharmaJaya, message);
        let asked = |name: &str| reading.entries.iter().find(|entry| entry.nama.expose() == name).unwrap();
        let both =
            Fault::Unclear { field: Field::NoKtp, readings: vec!["3171010202900000".into(), NIK.into()] };
        assert_eq!(asked("Ani").verdict, Err(vec![both]));
    }

    #[test]
    fn labels_beat_places_at_every_provider() {
        for (provider, date) in
            [(Provider::DharmaJaya, ""), (Provider::FoodStation, ""), (Provider::PasarJaya, "\n1-1-2015")]
        {
            let swapped = format!("Ani\nC16\nKartu keluarga KKK\nKTP NIK{date}");
            let person = person(provider, &swapped);
            assert_eq!((person.ktp, person.kk), (Nik::new(NIK), Kk::new(KK)));
        }
    }

    #[test]
    fn one_person_can_have_several_faults() {
        assert_eq!(
            faults(Provider::PasarJaya, "Ani\nKJP 5049440000000000\nKTP 317\nKK KKK0\n31-02-2015"),
            [
                Fault::CardPrefix,
                length(Field::NoKtp, 3),
                length(Field::NoKk, 17),
                Fault::BirthDate(BirthDateFault::NoSuchDay),
            ]
        );
    }

    #[test]
    fn a_repeated_card_nik_or_name_is_refused_and_the_first_person_is_kept() {
        let message = "Ani\nC16\nNIK\nKKK\nANI.\nL16 lansia\n3171010202900000\nKKK\nBudi\nC16\nNIK\nKKK";
        let reading = reading(Provider::DharmaJaya, message);
        let repeats = |field| Fault::Repeats { field, entry: 0 };
        assert!(reading.entries[0].verdict.is_ok());
        assert_eq!(reading.entries[1].verdict, Err(vec![repeats(Field::Nama)]));
        assert_eq!(reading.entries[2].verdict, Err(vec![repeats(Field::NoKjp), repeats(Field::NoKtp)]));
    }

    #[test]
    fn a_person_corrected_further_down_is_not_a_repetition() {
        let message = "Ani\nC16\nNIK\nKK 317\nAni\nC16\nNIK\nKKK";
        let reading = reading(Provider::DharmaJaya, message);
        assert_eq!(reading.entries[0].verdict, Err(vec![length(Field::NoKk, 3)]));
        assert!(reading.entries[1].verdict.is_ok());
    }

    #[test]
    fn a_name_without_numbers_is_told_and_the_complete_people_kept() {
        let reading = reading(Provider::DharmaJaya, "Ani\nC16\nNIK\nKKK\n\nBudi");
        assert!(reading.entries[0].verdict.is_ok());
        assert_eq!(reading.entries.len(), 1);
        assert_eq!(reading.remainder[0].expose(), "Budi");
        let missing = |message| faults(Provider::DharmaJaya, message);
        let all = [Field::NoKjp, Field::NoKtp, Field::NoKk].map(Fault::Missing);
        assert_eq!(missing("Ani\nC16\nNIK\nKKK\n\nBudi\nC18"), all[1..]);
        assert_eq!(missing("Ani\nC16\nNIK\nKKK\n\nBudi\nC18\n3171010202900000"), all[2..]);
    }

    #[test]
    fn a_message_without_birth_dates_is_told_so_where_they_are_wanted() {
        let four = filled("Ani\nC16\nNIK\nKKK\n");
        assert_eq!(read(Provider::PasarJaya, [four.as_str()], TODAY), Err(Unreadable::NoBirthDates));
        assert!(read(Provider::DharmaJaya, [four.as_str()], TODAY).is_ok());
    }

    #[test]
    fn more_people_than_the_bound_are_refused_as_a_whole() {
        let ani = filled("Ani\nC16\nNIK\nKKK\n");
        let many = ani.repeat(MOST_PEOPLE + 1);
        let read = |texts: &[&str]| read(Provider::DharmaJaya, texts.iter().copied(), TODAY);
        assert_eq!(
            read(&[&many]),
            Err(Unreadable::TooManyPeople { people: MOST_PEOPLE + 1, most: MOST_PEOPLE })
        );
        assert_eq!(
            read(&[&ani.repeat(MOST_PEOPLE), &ani]),
            Err(Unreadable::TooManyPeople { people: MOST_PEOPLE + 1, most: MOST_PEOPLE })
        );
        assert_eq!(read(&[&ani.repeat(MOST_PEOPLE)]).unwrap().entries.len(), MOST_PEOPLE);
    }

    #[test]
    fn chat_is_not_taken_for_data() {
        assert_eq!(nature("Halo\nselamat pagi\nmau tanya\nterima kasih"), Nature::Chat);
        assert_eq!(nature("nomor saya 081200000000"), Nature::Chat);
        assert_eq!(nature(C16), Nature::Number);
        for message in ["Ani\nC16", "Ani,C16,NIK,KKK", "#daftar#C16#NIK#KKK#Ani"] {
            assert_eq!(nature(&filled(message)), Nature::Data, "{message}");
        }
    }

    /// A person as the test's own truth: name, card, type word, NIK, KK, birth date.
    type Truth = (String, String, &'static str, String, String, Date);

    /// Well-formed people with pairwise different card, NIK and name.
    fn people() -> impl Strategy<Value = Vec<Truth>> {
        let one = (
            "(Ani|Budi|Citra|Dewi|Eka|Fajar|Gita|Hadi|Indra|Joko)( (Lestari|Pratama|Hidayat|Santoso|Utami)){0,2}",
            "504948(85|86|12)[0-9]{4}0000",
            proptest::sample::select(vec!["lansia", "KJP", "guru honorer", "Rumah Susun"]),
            "31[0-9]{10}0000",
            "32[0-9]{10}0000",
            (1900i16..2026, 1i8..=12, 1i8..=28).prop_map(|(y, m, d)| date(y, m, d)),
        );
        proptest::collection::vec(one, 1..6).prop_filter("different people", |people| {
            let different = |key: fn(&Truth) -> String| {
                people.iter().map(key).collect::<std::collections::HashSet<_>>().len() == people.len()
            };
            different(|p| p.0.to_lowercase())
                && different(|p| p.1.clone())
                && different(|p| p.3.clone())
                && people.iter().all(|p| fields::name(&p.0) == p.0)
        })
    }

    fn lines_of(provider: Provider, (name, card, kind, nik, kk, born): &Truth) -> Vec<String> {
        let mut lines = vec![name.clone(), format!("{kind} {card}"), nik.clone(), kk.clone()];
        if provider == Provider::PasarJaya {
            lines.push(born.strftime("%d-%m-%Y").to_string());
        }
        lines
    }

    /// Writes a line the way some phone or person would; the field stays the same.
    fn disguised(line: &str, label: &str, style: usize) -> String {
        match style % 6 {
            0 => line.to_owned(),
            1 => format!("{label}: {line}"),
            2 => line.chars().flat_map(|c| [c, '\u{200B}']).collect(),
            3 => line
                .chars()
                .map(|c| c.to_digit(10).map_or(c, |digit| char::from_u32(0xFF10 + digit).unwrap()))
                .collect(),
            4 => format!("  {line}\u{A0}\r\n\r\n"),
            _ => format!("{label} = {line}"),
        }
    }

    fn providers() -> impl Strategy<Value = Provider> {
        proptest::sample::select(Provider::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn well_formed_people_come_out_as_they_went_in(
            people in people(),
            provider in providers(),
            styles in proptest::collection::vec(0usize..6, 25),
        ) {
            let labels = ["Nama", "Nomor", "No KTP", "No. KK", "Tgl lahir"];
            let mut styles = styles.iter().cycle();
            let message: Vec<String> = people
                .iter()
                .flat_map(|person| lines_of(provider, person))
                .enumerate()
                .map(|(at, line)| disguised(&line, labels[at % provider.lines_per_person()], *styles.next().unwrap()))
                .collect();
            let reading = read(provider, [message.join("\n").as_str()], TODAY).unwrap();
            prop_assert!(reading.remainder.is_empty());
            prop_assert_eq!(reading.entries.len(), people.len());
            for (entry, (name, card, _, nik, kk, born)) in reading.entries.iter().zip(&people) {
                let person = entry.verdict.as_ref().map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
                prop_assert_eq!(&person.nama, name);
                prop_assert_eq!(person.kjp.expose(), card);
                prop_assert_eq!(person.ktp.expose(), nik);
                prop_assert_eq!(person.kk.expose(), kk);
                let pasarjaya = provider == Provider::PasarJaya;
                prop_assert_eq!(person.tanggal_lahir, pasarjaya.then_some(*born));
                prop_assert_eq!(person.jenis_kartu.is_none(), pasarjaya);
            }
        }

        #[test]
        fn a_dropped_digit_is_blamed_on_its_own_field_and_person(
            people in people(),
            provider in providers(),
            broken in any::<proptest::sample::Index>(),
            line in 1usize..4,
        ) {
            let broken = broken.index(people.len());
            let mut lines: Vec<Vec<String>> = people.iter().map(|person| lines_of(provider, person)).collect();
            lines[broken][line].pop();
            let message = lines.concat().join("\n");
            let reading = read(provider, [message.as_str()], TODAY).unwrap();
            let field = [Field::NoKjp, Field::NoKtp, Field::NoKk][line - 1];
            for (at, entry) in reading.entries.iter().enumerate() {
                if at == broken {
                    prop_assert_eq!(&entry.verdict, &Err(vec![length(field, 15)]));
                } else {
                    prop_assert!(entry.verdict.is_ok());
                }
            }
        }

        #[test]
        fn no_digit_of_a_registered_person_is_invented(
            text in "(?s).{0,300}|([0-9A-Za-z :.-]{0,24}\n){0,40}|((Ani|Budi|KJP|NIK|KK|504948[0-9]{10,12}|31[0-9]{14})[ \n,]{1,2}){0,40}",
            provider in providers(),
        ) {
            let cleaned = text::clean(&text);
            match read(provider, [text.as_str()], TODAY) {
                Ok(reading) => {
                    let mut seen: Vec<String> = Vec::new();
                    for person in reading.entries.iter().filter_map(|entry| entry.verdict.as_ref().ok()) {
                        prop_assert!(person.ktp.expose().len() == 16 && person.kk.expose().len() == 16);
                        prop_assert!(card::check_number(person.kjp.expose(), &(16..=18)).is_ok());
                        for number in [person.kjp.expose(), person.ktp.expose(), person.kk.expose()] {
                            prop_assert!(stands_in(&cleaned, number), "{number}");
                        }
                        for number in [person.kjp.expose(), person.ktp.expose()] {
                            prop_assert!(!seen.iter().any(|other| other == number));
                            seen.push(number.to_owned());
                        }
                    }
                }
                Err(Unreadable::NoBirthDates) => prop_assert_eq!(provider, Provider::PasarJaya),
                Err(Unreadable::TooManyPeople { people, .. }) => prop_assert!(people > MOST_PEOPLE),
            }
        }

        #[test]
        fn what_nobody_asked_for_changes_nothing(
            people in people(),
            provider in providers(),
            noise in proptest::sample::select(vec![
                "Selamat pagi min", "terima kasih 🙏", "No HP 081200000000", "Alamat: Jl. Mawar No 12", "Agama: Islam",
                "RT 003 RW 004", "Sekolah: SDN 05 Pagi", "Kec. Cakung", "Jenis kelamin: L", "Mohon dibantu ya kak",
            ]),
            place in any::<prop::sample::Index>(),
        ) {
            let mut message: Vec<String> = people.iter().flat_map(|person| lines_of(provider, person)).collect();
            let plain = read(provider, [message.join("\n").as_str()], TODAY).unwrap();
            message.insert(place.index(message.len() + 1), noise.to_owned());
            prop_assert_eq!(read(provider, [message.join("\n").as_str()], TODAY).unwrap(), plain, "{}", message.join("\n"));
        }

        #[test]
        fn people_who_are_parted_by_blank_lines_are_read_as_each_would_be_alone(people in people(), provider in providers()) {
            let texts: Vec<String> = people.iter().map(|person| lines_of(provider, person).join("\n")).collect();
            let together = read(provider, [texts.join("\n\n").as_str()], TODAY).unwrap();
            let apart = read(provider, texts.iter().map(String::as_str), TODAY).unwrap();
            prop_assert_eq!(together, apart);
        }

        #[test]
        fn nobody_is_printed_by_accident(people in people(), provider in providers()) {
            let message: Vec<String> = people.iter().flat_map(|person| lines_of(provider, person)).collect();
            // Shifted by a line, so that numbers stand where names belong.
            let shifted = message[1..].join("\n");
            let printed = format!("{:?}", read(provider, [message.join("\n").as_str(), &shifted], TODAY));
            for (_, card, _, nik, kk, _) in &people {
                prop_assert!(![card, nik, kk].iter().any(|number| printed.contains(number.as_str())));
            }
        }
    }
}

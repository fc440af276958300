//! The people of a message: grouping of lines (domain §2.1) and a verdict per person (§3).

use jiff::civil::Date;

use super::fault::{Fault, Field};
use super::person::{Person, Provider};
use super::{birth_date, card, fields, text};
use crate::personal::{CardNumber, Kk, Nik, Written};

/// Most people that one submission may hold: with every verdict explained, the answer still fits
/// one readable WhatsApp message.
pub const MAX_PEOPLE: usize = 30;
/// Fewest lines of a message that holds a whole person at some provider.
pub const MIN_DATA_LINES: usize = 4;
/// A line with this many digits holds a card, NIK or KK, perhaps a broken one.
const NUMBER_LINE_DIGITS: usize = 10;

/// One person of a message, in the message's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as far as it could be read, to tell the sender whom a verdict is about; may be
    /// empty, or anything else that stood on the name's line.
    pub nama: Written,
    /// The person, or every reason why there is none (at least one).
    pub verdict: Result<Person, Vec<Fault>>,
}

/// A message read as registrations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub entries: Vec<Entry>,
    /// Lines after the last complete person.
    pub remainder: Vec<Written>,
}

/// Why a message cannot be read person by person; nothing of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Written in the format of another provider: four lines per person instead of five, or five
    /// instead of four.
    OtherFormat { lines: usize },
    /// More than [`MAX_PEOPLE`].
    TooManyPeople { people: usize },
}

/// Has a message with these lines the size of a registration and a number in it?
///
/// The old rules counted lines only and so took every longer chat message for data.
pub fn looks_like_data(lines: &[&str]) -> bool {
    lines.len() >= MIN_DATA_LINES && holds_number(lines)
}

/// Does a message too short for a whole person nevertheless hold a number of one?
pub fn looks_incomplete(lines: &[&str]) -> bool {
    lines.len() < MIN_DATA_LINES && holds_number(lines)
}

fn holds_number(lines: &[&str]) -> bool {
    let digits = |line: &str| line.chars().filter(char::is_ascii_digit).count();
    lines.iter().any(|line| digits(line) >= NUMBER_LINE_DIGITS)
}

/// Reads the registrations for one provider out of texts sent one after another; each text is
/// grouped on its own, so that a missing line never shifts the people of the next text.
///
/// `today` is the WIB date of the message; birth dates may not lie after it.
pub fn read<'a>(
    provider: Provider,
    texts: impl IntoIterator<Item = &'a str>,
    today: Date,
) -> Result<Reading, Unreadable> {
    let mut reading = Reading::default();
    let size = provider.lines_per_person();
    for raw in texts {
        let cleaned = text::clean(raw);
        let lines = text::lines(&cleaned);
        if has_other_format(provider, &lines) {
            return Err(Unreadable::OtherFormat { lines: lines.len() });
        }
        let people = reading.entries.len() + lines.len() / size;
        if people > MAX_PEOPLE {
            return Err(Unreadable::TooManyPeople { people });
        }
        let chunks = lines.chunks_exact(size);
        reading.remainder.extend(chunks.remainder().iter().map(|line| Written::from(*line)));
        reading.entries.extend(chunks.map(|chunk| entry(provider, chunk, today)));
    }
    refuse_repetitions(&mut reading.entries);
    Ok(reading)
}

/// The line count fits the other format, and so do the lines where that format has, or lacks,
/// a birth date.
fn has_other_format(provider: Provider, lines: &[&str]) -> bool {
    if lines.is_empty() {
        return false;
    }
    let mut fifth_lines = lines.iter().skip(4).step_by(5);
    match provider {
        Provider::PasarJaya => {
            lines.len().is_multiple_of(4) && !fifth_lines.any(|line| birth_date::looks_like(line))
        }
        Provider::DharmaJaya | Provider::FoodStation => {
            lines.len().is_multiple_of(5) && fifth_lines.all(|line| birth_date::looks_like(line))
        }
    }
}

/// Judges the lines of one person: `lines` holds exactly as many as the provider asks for.
fn entry(provider: Provider, lines: &[&str], today: Date) -> Entry {
    let mut faults = Vec::new();
    let nama = fields::name(lines[0]);
    faults.extend(fields::check_name(&nama).err());

    let card = card::number(lines[1]);
    let mut jenis_kartu = None;
    match card::check_number(&card) {
        Err(fault) => faults.push(fault),
        Ok(()) if provider == Provider::PasarJaya => {}
        Ok(()) => match card::card_type(lines[1], &card) {
            Ok(decided) => jenis_kartu = Some(decided),
            Err(fault) => faults.push(fault),
        },
    }

    let (nik, kk) = (fields::digits(lines[2]), fields::digits(lines[3]));
    faults.extend(fields::check_sixteen(Field::NoKtp, &nik).err());
    faults.extend(fields::check_sixteen(Field::NoKk, &kk).err());
    if provider != Provider::PasarJaya && is_kk_line(lines[2]) && is_ktp_line(lines[3]) {
        faults.push(Fault::KkBeforeKtp);
    }
    let same = [
        (Field::NoKtp, &nik, Field::NoKjp, &card),
        (Field::NoKk, &kk, Field::NoKjp, &card),
        (Field::NoKk, &kk, Field::NoKtp, &nik),
    ];
    for (field, value, other, other_value) in same {
        if !value.is_empty() && value == other_value {
            faults.push(Fault::Equal { field, other });
        }
    }

    let tanggal_lahir = match lines.get(4).map(|line| birth_date::parse(line, today)) {
        None => None,
        Some(Ok(born)) => Some(born),
        Some(Err(fault)) => {
            faults.push(fault);
            None
        }
    };

    let verdict = if faults.is_empty() {
        Ok(Person {
            name_canonical: fields::canonical_name(&nama),
            nama: nama.clone(),
            kjp: CardNumber::new(card),
            jenis_kartu,
            ktp: Nik::new(nik),
            kk: Kk::new(kk),
            tanggal_lahir,
        })
    } else {
        Err(faults)
    };
    Entry { nama: nama.into(), verdict }
}

fn is_kk_line(line: &str) -> bool {
    text::has_phrase(line, "kk") || text::has_phrase(line, "kartu keluarga")
}

fn is_ktp_line(line: &str) -> bool {
    text::has_phrase(line, "ktp") || text::has_phrase(line, "nik")
}

/// The first of several people with the same card, NIK or name stays; the others are refused
/// (`duplicate_in_message`). A person who is refused anyway takes nobody's place.
fn refuse_repetitions(entries: &mut [Entry]) {
    for later in 1..entries.len() {
        let (before, after) = entries.split_at_mut(later);
        let Ok(person) = &after[0].verdict else { continue };
        let repeats = |field: Field, same: fn(&Person, &Person) -> bool| {
            let entry =
                before.iter().position(|kept| kept.verdict.as_ref().is_ok_and(|kept| same(kept, person)));
            entry.map(|entry| Fault::Repeats { field, entry })
        };
        let faults: Vec<Fault> = [
            repeats(Field::NoKjp, |kept, new| kept.kjp == new.kjp),
            repeats(Field::NoKtp, |kept, new| kept.ktp == new.ktp),
            repeats(Field::Nama, |kept, new| kept.name_canonical == new.name_canonical),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !faults.is_empty() {
            after[0].verdict = Err(faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{BirthDateFault, CardType, CardTypeSource};
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 24);
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
        let length = |field, digits| vec![Fault::Length { field, digits }];
        let dharma = |message: &str| faults(Provider::DharmaJaya, message);
        assert_eq!(dharma("Ani\n504948850000000\nNIK\nKKK"), length(Field::NoKjp, 15));
        assert_eq!(dharma("Ani\nC180\nNIK\nKKK"), length(Field::NoKjp, 19));
        assert_eq!(dharma("Ani\nC16\nNIK0\nKKK"), length(Field::NoKtp, 17));
        assert_eq!(dharma("Ani\nC16\n317101010190000\nKKK"), length(Field::NoKtp, 15));
        assert_eq!(dharma("Ani\nC16\nNIK\nKKK0"), length(Field::NoKk, 17));
        assert_eq!(dharma("Ani\nC16\nNIK\n317101010110000"), length(Field::NoKk, 15));
    }

    #[test]
    fn every_empty_field_is_named() {
        let labels_only = "Nama:\nKJP\nKTP\nKK\nTgl lahir\nAni\nC16\nNIK\nKKK\n20-01-2015";
        let missing = [Field::Nama, Field::NoKjp, Field::NoKtp, Field::NoKk, Field::TanggalLahir];
        assert_eq!(faults(Provider::PasarJaya, labels_only), missing.map(Fault::Missing));
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
    fn labels_in_the_wrong_order_are_noticed_where_they_are_labelled_only() {
        let swapped = "Ani\nC16\nKK KKK\nKTP NIK";
        assert_eq!(faults(Provider::DharmaJaya, swapped), [Fault::KkBeforeKtp]);
        assert_eq!(
            faults(Provider::FoodStation, "Ani\nC16\nkartu keluarga KKK\nNik NIK"),
            [Fault::KkBeforeKtp]
        );
        assert_eq!(faults(Provider::DharmaJaya, "Ani\nC16\nKKK\nNIK"), []);
        assert_eq!(faults(Provider::PasarJaya, &format!("{swapped}\n1-1-2015")), []);
    }

    #[test]
    fn one_person_can_have_several_faults() {
        assert_eq!(
            faults(Provider::PasarJaya, "Ani\n5049440000000000\n317\nKKK0\n31-02-2015"),
            [
                Fault::CardPrefix,
                Fault::Length { field: Field::NoKtp, digits: 3 },
                Fault::Length { field: Field::NoKk, digits: 17 },
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
        let message = "Ani\nC16\nNIK\n317\nAni\nC16\nNIK\nKKK";
        let reading = reading(Provider::DharmaJaya, message);
        assert_eq!(reading.entries[0].verdict, Err(vec![Fault::Length { field: Field::NoKk, digits: 3 }]));
        assert!(reading.entries[1].verdict.is_ok());
    }

    #[test]
    fn left_over_lines_are_reported_and_the_complete_people_kept() {
        for (extra, lines) in [("Budi", 1), ("Budi\nC16", 2), ("Budi\nC16\nNIK", 3)] {
            let reading = reading(Provider::DharmaJaya, &format!("Ani\nC16\nNIK\nKKK\n\n{extra}"));
            assert!(reading.entries[0].verdict.is_ok());
            assert_eq!(reading.remainder.len(), lines);
            assert_eq!(reading.remainder[0].expose(), "Budi");
        }
    }

    #[test]
    fn the_format_of_another_provider_is_recognised_by_its_lines_and_dates() {
        let four = filled("Ani\nC16\nNIK\nKKK\n");
        let five = filled("Ani\nC16\nNIK\nKKK\n20-01-2015\n");
        let other = |provider, text: String| read(provider, [text.as_str()], TODAY).err();
        for people in [1, 2, 3, 5] {
            let lines = people * 4;
            let expected = Some(Unreadable::OtherFormat { lines });
            assert_eq!(other(Provider::PasarJaya, four.repeat(people)), expected);
            assert_eq!(other(Provider::DharmaJaya, four.repeat(people)), None);
            let lines = people * 5;
            let expected = Some(Unreadable::OtherFormat { lines });
            assert_eq!(other(Provider::FoodStation, five.repeat(people)), expected);
            assert_eq!(other(Provider::PasarJaya, five.repeat(people)), None);
        }
        // A closing line is a remainder, not a birth date.
        assert_eq!(other(Provider::DharmaJaya, format!("{four}terima kasih")), None);
    }

    #[test]
    fn more_people_than_the_bound_are_refused_as_a_whole() {
        let ani = filled("Ani\nC16\nNIK\nKKK\n");
        let many = ani.repeat(MAX_PEOPLE + 1);
        let read = |texts: &[&str]| read(Provider::DharmaJaya, texts.iter().copied(), TODAY);
        assert_eq!(read(&[&many]), Err(Unreadable::TooManyPeople { people: MAX_PEOPLE + 1 }));
        assert_eq!(
            read(&[&ani.repeat(MAX_PEOPLE), &ani]),
            Err(Unreadable::TooManyPeople { people: MAX_PEOPLE + 1 })
        );
        assert_eq!(read(&[&ani.repeat(MAX_PEOPLE)]).unwrap().entries.len(), MAX_PEOPLE);
    }

    #[test]
    fn chat_is_not_taken_for_data() {
        assert!(!looks_like_data(&["Halo", "selamat pagi", "mau tanya", "terima kasih"]));
        assert!(looks_like_data(&["Ani", C16, NIK, KK]));
        assert!(looks_incomplete(&["Ani", C16]) && !looks_incomplete(&["Ani"]));
    }

    /// A person as the test's own truth: name, card, type word, NIK, KK, birth date.
    type Truth = (String, String, &'static str, String, String, Date);

    /// Well-formed people with pairwise different card, NIK and name.
    fn people() -> impl Strategy<Value = Vec<Truth>> {
        let one = (
            "[A-Z][a-z]{2,9}( [A-Z][a-z]{2,9})?",
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
                    prop_assert_eq!(&entry.verdict, &Err(vec![Fault::Length { field, digits: 15 }]));
                } else {
                    prop_assert!(entry.verdict.is_ok());
                }
            }
        }

        #[test]
        fn any_text_is_read_without_losing_a_line(text in "(?s).{0,300}|([0-9A-Za-z :.-]{0,24}\n){0,40}", provider in providers()) {
            let cleaned = text::clean(&text);
            let lines = text::lines(&cleaned).len();
            match read(provider, [text.as_str()], TODAY) {
                Ok(reading) => {
                    prop_assert_eq!(reading.entries.len() * provider.lines_per_person() + reading.remainder.len(), lines);
                    for person in reading.entries.iter().filter_map(|entry| entry.verdict.as_ref().ok()) {
                        prop_assert!(person.ktp.expose().len() == 16 && person.kk.expose().len() == 16);
                        prop_assert!(card::check_number(person.kjp.expose()).is_ok());
                    }
                }
                Err(Unreadable::OtherFormat { lines: told }) => prop_assert_eq!(told, lines),
                Err(Unreadable::TooManyPeople { people }) => prop_assert!(people > MAX_PEOPLE),
            }
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

//! Birth dates as people write them (RULES.md 5.4).

use jiff::civil::Date;

use super::fault::{BirthDateFault, Fault, Field};

/// Words that may stand between or after the parts of a date.
const LABELS: [&str; 8] = ["TGL", "TANGGAL", "LAHIR", "LHR", "THN", "TAHUN", "DATE", "BIRTH"];

/// Month names, Indonesian and English, full and short.
const MONTHS: [&[&str]; 12] = [
    &["JAN", "JANUARI", "JANUARY"],
    &["FEB", "FEBRUARI", "FEBRUARY", "PEB", "PEBRUARI", "PEBUARI", "FEBUARI"],
    &["MAR", "MARET", "MARCH", "MRT"],
    &["APR", "APRIL"],
    &["MEI", "MAY"],
    &["JUN", "JUNI", "JUNE"],
    &["JUL", "JULI", "JULY"],
    &["AGU", "AGS", "AGT", "AGUST", "AGUSTUS", "AUG", "AUGUST"],
    &["SEP", "SEPT", "SEPTEMBER"],
    &["OKT", "OKTOBER", "OCT", "OCTOBER"],
    &["NOV", "NOVEMBER", "NOP", "NOPEMBER"],
    &["DES", "DESEMBER", "DEC", "DECEMBER"],
];

/// Day, month and year as digits; the calendar has not been asked yet.
struct Written<'a> {
    day: &'a str,
    month: &'a str,
    year: &'a str,
}

enum Part<'a> {
    Number(&'a str),
    /// Month by name, as its number.
    Month(&'static str),
}

/// The birth date on a line, judged on `today`; `earliest` is the first year that is possible.
///
/// Accepted: day, month (number or name), year in any separation; `YYYY-MM-DD`; `DDMMYYYY`;
/// `DDMMYY`. Words before the first number (a label, the birth place) are skipped. A two-digit
/// year is the latest one that does not lie in the future.
pub fn parse(line: &str, earliest: i16, today: Date) -> Result<Date, Fault> {
    if !line.contains(|c: char| c.is_ascii_digit()) {
        return Err(Fault::Missing(Field::TanggalLahir));
    }
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    let written = read(line, &digits).ok_or(Fault::BirthDate(BirthDateFault::Unreadable))?;
    in_calendar(&written, earliest, today).map_err(Fault::BirthDate)
}

/// Is this word, in lower case, the name of a month?
pub fn is_month(word: &str) -> bool {
    month(&word.to_ascii_uppercase()).is_some()
}

/// Has the line the shape of a birth date, be the day real or not?
pub fn looks_like(line: &str) -> bool {
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    read(line, &digits).is_some()
}

fn read<'a>(line: &'a str, digits: &'a str) -> Option<Written<'a>> {
    let parts = parts(line)?;
    let (day, month, year) = match parts[..] {
        [Part::Number(day), Part::Month(month), Part::Number(year)] => (day, month, year),
        [Part::Number(year), Part::Number(month), Part::Number(day)] if year.len() == 4 => (day, month, year),
        [Part::Number(day), Part::Number(month), Part::Number(year)] => (day, month, year),
        // A list number in front.
        [Part::Number(number), Part::Number(day), Part::Number(month), Part::Number(year)]
        | [Part::Number(number), Part::Number(day), Part::Month(month), Part::Number(year)]
            if number.len() <= 2 && year.len() == 4 =>
        {
            (day, month, year)
        }
        _ if parts.iter().any(|part| matches!(part, Part::Month(_))) => return None,
        _ if matches!(digits.len(), 6 | 8) => (&digits[..2], &digits[2..4], &digits[4..]),
        _ => return None,
    };
    let plausible = day.len() <= 2 && month.len() <= 2 && matches!(year.len(), 2 | 4);
    plausible.then_some(Written { day, month, year })
}

/// Numbers and month names of a line in order; `None` if other words follow the first number.
fn parts(line: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let kind = |c: char| (c.is_ascii_digit(), c.is_alphabetic());
        let end = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        rest = after;
        if first.is_ascii_digit() {
            parts.push(Part::Number(token));
        } else if first.is_alphabetic() && !parts.is_empty() {
            let word = token.to_uppercase();
            match month(&word) {
                Some(number) => parts.push(Part::Month(number)),
                None if LABELS.contains(&word.as_str()) => {}
                None => return None,
            }
        }
    }
    Some(parts)
}

fn month(word: &str) -> Option<&'static str> {
    const NUMBERS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
    MONTHS.iter().position(|names| names.contains(&word)).map(|place| NUMBERS[place])
}

fn in_calendar(written: &Written<'_>, earliest: i16, today: Date) -> Result<Date, BirthDateFault> {
    let number = |digits: &str| digits.parse::<i16>().map_err(|_| BirthDateFault::Unreadable);
    let (day, month, year) = (number(written.day)?, number(written.month)?, number(written.year)?);
    let date = |year: i16| {
        let (month, day) = (i8::try_from(month), i8::try_from(day));
        match (month, day) {
            (Ok(month), Ok(day)) => Date::new(year, month, day).map_err(|_| BirthDateFault::NoSuchDay),
            _ => Err(BirthDateFault::NoSuchDay),
        }
    };
    if written.year.len() == 2 {
        return match date(2000 + year)? {
            born if born < today => Ok(born),
            _ => date(1900 + year),
        };
    }
    match date(year)? {
        // Nobody fetches food on the day of their birth: that is the day of the message.
        born if born >= today => Err(BirthDateFault::Future),
        born if born.year() < earliest => Err(BirthDateFault::TooEarly { earliest }),
        born => Ok(born),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 24);

    fn fault(line: &str) -> Result<Date, BirthDateFault> {
        parse(line, 1900, TODAY).map_err(|fault| match fault {
            Fault::BirthDate(fault) => fault,
            other => panic!("{line}: {other:?}"),
        })
    }

    #[test]
    fn every_usual_way_to_write_a_date_is_read() {
        for line in [
            "20-01-2015",
            "5 20-01-2015",
            "5) 20 Jan 2015",
            "5 Tgl lahir: 20/01/2015",
            "20/1/2015",
            "20.01.2015",
            "20 01 15",
            "20012015",
            "200115",
            "2001 2015",
            "20 Jan 15",
            "20Januari2015",
            "20-JANUARY-2015",
            "2015-01-20",
            "Tgl lahir: 20-01-2015",
            "TANGGAL LAHIR:20 Januari 2015",
            "Tggl 20-1-2015",
            "Jakarta, 20 Jan 2015",
            "20 jan thn 2015",
        ] {
            assert_eq!(parse(line, 1900, TODAY), Ok(date(2015, 1, 20)), "{line}");
        }
        assert_eq!(parse("3 Agustus 2012", 1900, TODAY), Ok(date(2012, 8, 3)));
        assert_eq!(parse("3 Peb 2012", 1900, TODAY), Ok(date(2012, 2, 3)));
    }

    #[test]
    fn a_day_that_is_not_in_the_calendar_is_refused() {
        assert_eq!(fault("31-02-2015"), Err(BirthDateFault::NoSuchDay));
        assert_eq!(fault("29-02-2015"), Err(BirthDateFault::NoSuchDay));
        assert_eq!(fault("01-13-2015"), Err(BirthDateFault::NoSuchDay));
        assert_eq!(fault("0-1-2015"), Err(BirthDateFault::NoSuchDay));
        assert_eq!(fault("29-02-2016"), Ok(date(2016, 2, 29)));
    }

    #[test]
    fn a_date_that_is_not_before_today_or_before_1900_is_refused() {
        assert_eq!(fault("23-11-2026"), Ok(date(2026, 11, 23)));
        assert_eq!(fault("24-11-2026"), Err(BirthDateFault::Future));
        assert_eq!(fault("25-11-2026"), Err(BirthDateFault::Future));
        assert_eq!(fault("1-1-2101"), Err(BirthDateFault::Future));
        assert_eq!(fault("31-12-1899"), Err(BirthDateFault::TooEarly { earliest: 1900 }));
    }

    #[test]
    fn a_two_digit_year_never_lies_in_the_future() {
        assert_eq!(fault("20-01-26"), Ok(date(2026, 1, 20)));
        assert_eq!(fault("20-01-49"), Ok(date(1949, 1, 20)));
        assert_eq!(fault("25-11-26"), Ok(date(1926, 11, 25)));
    }

    #[test]
    fn a_guess_is_never_made_from_words_nobody_knows() {
        assert_eq!(fault("10 Xxx 1012"), Err(BirthDateFault::Unreadable));
        assert_eq!(fault("Ani 2"), Err(BirthDateFault::Unreadable));
        assert_eq!(fault("20-01"), Err(BirthDateFault::Unreadable));
        assert_eq!(parse("Tgl lahir:", 1900, TODAY), Err(Fault::Missing(Field::TanggalLahir)));
    }

    #[test]
    fn the_shape_of_a_date_is_told_from_a_name_or_a_number() {
        assert!(looks_like("31-02-2015") && looks_like("lahir 20 jan 15"));
        assert!(!looks_like("Ani") && !looks_like("KK 3171010101100000") && !looks_like("Ani 2"));
    }

    proptest! {
        #[test]
        fn any_line_is_a_past_date_or_a_fault(line in ".{0,40}|[0-9 /jan-]{0,12}") {
            if let Ok(date) = parse(&line, 1900, TODAY) {
                prop_assert!(date < TODAY && date.year() >= 1900);
                prop_assert!(looks_like(&line));
            }
        }

        #[test]
        fn a_date_written_in_full_is_read_as_it_is(days in 0i32..46_000, form in 0usize..4) {
            let born = date(1900, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap().min(TODAY);
            let (day, month, year) = (born.day(), usize::from(born.month().unsigned_abs()), born.year());
            let line = match form {
                0 => format!("{day:02}-{month:02}-{year}"),
                1 => format!("{day:02}{month:02}{year}"),
                2 => format!("{day} {} {year}", MONTHS[month - 1][0]),
                _ => format!("{year}-{month:02}-{day:02}"),
            };
            prop_assert_eq!(parse(&line, 1900, TODAY), Ok(born), "{}", line);
        }
    }
}

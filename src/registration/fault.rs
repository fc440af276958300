//! What can be wrong with a person, judged by the message alone (RULES.md §5).

use crate::personal::Written;

/// A field of a registration, named as in `data_harian`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    Nama,
    NoKjp,
    NoKtp,
    NoKk,
    TanggalLahir,
}

/// One reason why a person cannot be registered. Holds no personal number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is left of the field's line after extraction (`required`).
    Missing(Field),
    /// A number with too few or too many digits (`invalid_length`).
    Length {
        field: Field,
        digits: usize,
        least: usize,
        most: usize,
    },
    /// The card does not start with 504948 (`invalid_prefix`).
    CardPrefix,
    /// The text beside the card is no kind of card (`invalid_card_type`).
    CardTypeInvalid {
        written: String,
    },
    /// Neither the text nor the card's prefix tells the kind of card (`unknown_card_type`).
    CardTypeUnknown,
    /// Two numbers of the person are equal (`same_as_other`).
    Equal {
        field: Field,
        other: Field,
    },
    Name(NameFault),
    BirthDate(BirthDateFault),
    /// A number that was never issued: one digit repeated, zeros, digits in a row (`invalid_nik`).
    NoSuchNik,
    /// A letter among the digits; `place` counts from 1 (`invalid_character`).
    Letter {
        field: Field,
        letter: char,
        place: usize,
    },
    /// A spreadsheet has shortened the number (`invalid_character`).
    Spreadsheet(Field),
    /// It can be read in more than one way (`unclear`).
    Unclear {
        field: Field,
        readings: Vec<Written>,
    },
    /// An earlier person of the same message has this value (`duplicate_in_message`); `entry`
    /// counts from 0.
    Repeats {
        field: Field,
        entry: usize,
    },
}

/// Why a text is no name. The old rules took any text; these keep numbers of a shifted line
/// out of the name column, and names comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// No letter A–Z: it could not be compared with other names.
    NoLetters,
    /// More digits than a name ever has: the line holds a number.
    HoldsNumber,
    TooLong {
        most: usize,
    },
}

/// Why a text is no birth date (RULES.md 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirthDateFault {
    /// Not a date in any accepted form.
    Unreadable,
    /// No such day in the calendar, e.g. 31-02-2015.
    NoSuchDay,
    /// On the day of the message, or after it.
    Future,
    /// Before this year.
    TooEarly { earliest: i16 },
}

/// What the sender should look at, though the person is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The NIK holds a birth date that no calendar has (`unusual_nik`).
    UnusualNik,
    /// Completed years by the NIK, fewer than those of an adult (`underage_warning`).
    Underage { age: u8, adult: u8 },
    /// The NIK's first six digits are no district that ever was (`unknown_region`).
    UnknownRegion,
}

impl Warning {
    /// As `bot-kjp read` names it.
    pub fn wire(self) -> &'static str {
        match self {
            Self::UnusualNik => "unusual_nik",
            Self::Underage { .. } => "underage_warning",
            Self::UnknownRegion => "unknown_region",
        }
    }
}

impl Field {
    /// As the column of `data_harian` is called.
    pub fn wire(self) -> &'static str {
        match self {
            Self::Nama => "nama",
            Self::NoKjp => "no_kjp",
            Self::NoKtp => "no_ktp",
            Self::NoKk => "no_kk",
            Self::TanggalLahir => "tanggal_lahir",
        }
    }
}

impl Fault {
    /// As `bot-kjp read` names it.
    pub fn wire(&self) -> &'static str {
        match self {
            // A date that cannot be is as good as none.
            Self::Missing(_) | Self::BirthDate(_) => "required",
            Self::Length { .. } => "invalid_length",
            Self::CardPrefix => "invalid_prefix",
            Self::CardTypeInvalid { .. } => "invalid_card_type",
            Self::CardTypeUnknown => "unknown_card_type",
            Self::Equal { .. } => "same_as_other",
            Self::Name(_) => "invalid_name",
            Self::NoSuchNik => "invalid_nik",
            Self::Letter { .. } | Self::Spreadsheet(_) => "invalid_character",
            Self::Unclear { .. } => "unclear",
            Self::Repeats { .. } => "duplicate_in_message",
        }
    }

    /// The field that has to be corrected.
    pub fn field(&self) -> Field {
        match self {
            Self::Missing(field)
            | Self::Length { field, .. }
            | Self::Equal { field, .. }
            | Self::Repeats { field, .. }
            | Self::Letter { field, .. }
            | Self::Unclear { field, .. }
            | Self::Spreadsheet(field) => *field,
            Self::CardPrefix | Self::CardTypeInvalid { .. } | Self::CardTypeUnknown => Field::NoKjp,
            Self::NoSuchNik => Field::NoKtp,
            Self::Name(_) => Field::Nama,
            Self::BirthDate(_) => Field::TanggalLahir,
        }
    }
}

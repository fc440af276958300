//! What can be wrong with a person, judged by the message alone (domain §3).

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
    },
    /// The card does not start with 504948 (`invalid_prefix`).
    CardPrefix,
    /// The text beside the card is no kind of card (`invalid_card_type`).
    CardTypeInvalid {
        written: String,
    },
    /// Neither the text nor the card's prefix tells the kind of card (`unknown_card_type`).
    CardTypeUnknown,
    /// Labels show KK on the third line and KTP on the fourth (`wrong_order`).
    KkBeforeKtp,
    /// Two numbers of the person are equal (`same_as_other`).
    Equal {
        field: Field,
        other: Field,
    },
    Name(NameFault),
    BirthDate(BirthDateFault),
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
    TooLong,
}

/// Why a text is no birth date (domain §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BirthDateFault {
    /// Not a date in any accepted form.
    Unreadable,
    /// No such day in the calendar, e.g. 31-02-2015.
    NoSuchDay,
    /// After the day of the message.
    Future,
    /// Before [`birth_date::EARLIEST_YEAR`](super::birth_date::EARLIEST_YEAR).
    TooEarly,
}

impl Fault {
    /// The field that has to be corrected.
    pub fn field(&self) -> Field {
        match self {
            Self::Missing(field)
            | Self::Length { field, .. }
            | Self::Equal { field, .. }
            | Self::Repeats { field, .. } => *field,
            Self::CardPrefix | Self::CardTypeInvalid { .. } | Self::CardTypeUnknown => Field::NoKjp,
            Self::KkBeforeKtp => Field::NoKtp,
            Self::Name(_) => Field::Nama,
            Self::BirthDate(_) => Field::TanggalLahir,
        }
    }
}

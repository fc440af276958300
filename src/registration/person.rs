//! One registered person, and what can be said about a registration.

use jiff::civil::Date;

use crate::personal::{CardNumber, Kk, Nik};

/// Who hands out the food (RULES.md 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Provider {
    PasarJaya,
    DharmaJaya,
    FoodStation,
}

/// Where a person wants to fetch the food: the provider and, except for Foodstation, the place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub provider: Provider,
    /// Name of the place as the provider writes it; `None` for Foodstation.
    pub sub: Option<String>,
}

/// Kinds of card (`jenis_kartu`, RULES.md 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CardType {
    Kjp,
    Lansia,
    Rusun,
    Disabilitas,
    Dasawisma,
    Pekerja,
    GuruHonorer,
    Pjlp,
    Kaj,
}

/// How the card type was decided (`jenis_kartu_sumber`, RULES.md 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardTypeSource {
    /// The person wrote it.
    Manual,
    /// The card's prefix decides and nothing was written.
    Prefix,
    /// The card's prefix decides against what was written.
    Correction,
}

/// A person who passed every rule that needs nothing but the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// As written, cleaned (RULES.md 5.1).
    pub nama: String,
    /// Lower-case letters, digits and single spaces: what "same name" compares.
    pub name_canonical: String,
    pub kjp: CardNumber,
    /// `None` at Pasarjaya, which has no card types.
    pub jenis_kartu: Option<(CardType, CardTypeSource)>,
    pub ktp: Nik,
    pub kk: Kk,
    /// Pasarjaya only.
    pub tanggal_lahir: Option<Date>,
}

/// What the ledger said when it was asked to keep a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    Duplicate(Clash),
}

/// Which uniqueness rule of the day a person met (RULES.md 7.3), checked in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClashField {
    Kjp,
    Ktp,
    Nama,
}

/// The earlier registration that a person clashes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub field: ClashField,
    /// Registered by the same sender? Only then may its name be told (RULES.md 7.3).
    pub own: bool,
    /// Name of the earlier registration; empty unless `own`.
    pub earlier_nama: String,
}

impl Provider {
    /// As stored in `lokasi` (RULES.md 1.4).
    pub const fn stored(self) -> &'static str {
        match self {
            Self::PasarJaya => "PASARJAYA",
            Self::DharmaJaya => "DHARMAJAYA",
            Self::FoodStation => "FOODSTATION",
        }
    }

    /// The provider of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.stored().eq_ignore_ascii_case(name.trim()))
    }

    /// Lines that one person takes (RULES.md 1.1).
    pub const fn lines_per_person(self) -> usize {
        match self {
            Self::PasarJaya => 5,
            Self::DharmaJaya | Self::FoodStation => 4,
        }
    }
}

impl Place {
    /// `lokasi` as stored: `PROVIDER - Sub location`, or the provider alone.
    pub fn lokasi(&self) -> String {
        match &self.sub {
            Some(sub) => format!("{} - {sub}", self.provider.stored()),
            None => self.provider.stored().to_owned(),
        }
    }
}

impl CardType {
    pub const ALL: [Self; 9] = [
        Self::Kjp,
        Self::Lansia,
        Self::Rusun,
        Self::Disabilitas,
        Self::Dasawisma,
        Self::Pekerja,
        Self::GuruHonorer,
        Self::Pjlp,
        Self::Kaj,
    ];

    /// As stored in `jenis_kartu`.
    pub const fn stored(self) -> &'static str {
        match self {
            Self::Kjp => "KJP",
            Self::Lansia => "LANSIA",
            Self::Rusun => "RUSUN",
            Self::Disabilitas => "DISABILITAS",
            Self::Dasawisma => "DASAWISMA",
            Self::Pekerja => "PEKERJA",
            Self::GuruHonorer => "GURU HONORER",
            Self::Pjlp => "PJLP",
            Self::Kaj => "KAJ",
        }
    }
}

impl CardTypeSource {
    /// As stored in `jenis_kartu_sumber`.
    pub const fn stored(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Prefix => "prefix",
            Self::Correction => "koreksi",
        }
    }
}

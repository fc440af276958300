//! Invented people and the messages they would write, the same ones for the same seed.
//!
//! Numbers have the right form and belong to nobody on purpose: cards `50494885` + 8 digits, NIKs
//! and KKs of Tanah Abang, Jakarta (`317101`) + birth date + serial.

/// People that one seed can make before a NIK comes back: 28 days × 10,000 serials.
pub const PEOPLE_PER_SEED: u32 = 280_000;

/// Seeds that share no number with each other: each has a month of birth of its own.
pub const DISJOINT_SEEDS: u64 = 12;

/// People that one customer can register. Fewer than [`NAMES`], because a customer's names must
/// differ within a day.
pub const PEOPLE_PER_CUSTOMER: usize = 2_000;

/// Customers of one seed.
pub const CUSTOMERS_PER_SEED: usize = PEOPLE_PER_SEED as usize / PEOPLE_PER_CUSTOMER;

/// Names before one comes back.
const NAMES: u32 = (FIRST.len() * MIDDLE.len() * LAST.len()) as u32;

/// Coprime with [`NAMES`], so that stepping by it visits every name, and neighbours look unlike.
const NAME_STEP: u32 = 1_009;

/// People on one family card.
const FAMILY: u32 = 4;

const FIRST: [&str; 24] = [
    "Siti", "Agus", "Dewi", "Bambang", "Rina", "Joko", "Wulan", "Hendra", "Yuni", "Slamet", "Ratna", "Andi",
    "Kartika", "Fajar", "Nurul", "Irfan", "Mega", "Dimas", "Lestari", "Rizky", "Putri", "Teguh", "Maya",
    "Arif",
];
const MIDDLE: [&str; 16] = [
    "Nur", "Adi", "Ayu", "Eka", "Tri", "Dwi", "Indah", "Budi", "Sri", "Galih", "Anisa", "Bayu", "Citra",
    "Eko", "Fitri", "Ilham",
];
const LAST: [&str; 20] = [
    "Santoso",
    "Wijaya",
    "Lestari",
    "Hidayat",
    "Saputra",
    "Permata",
    "Kusuma",
    "Pratama",
    "Rahayu",
    "Nugroho",
    "Setiawan",
    "Utami",
    "Hakim",
    "Maulana",
    "Suryani",
    "Firmansyah",
    "Anggraini",
    "Gunawan",
    "Purnama",
    "Yulianti",
];

/// A person to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub nama: String,
    /// Card number, 16 digits; its prefix says KJP.
    pub kjp: String,
    /// 16 digits.
    pub nik: String,
    /// Family card, 16 digits; four people share one.
    pub kk: String,
}

impl Person {
    /// The `n`th person of a seed, `n` below [`PEOPLE_PER_SEED`].
    ///
    /// No two people of one seed share a card or NIK; nor do people of seeds that differ modulo
    /// [`DISJOINT_SEEDS`]. Names repeat after 7,680 people.
    pub fn nth(seed: u64, n: u32) -> Self {
        assert!(n < PEOPLE_PER_SEED, "person {n} of a seed that has {PEOPLE_PER_SEED}");
        let month = seed % DISJOINT_SEEDS + 1;
        let (day, serial) = (n / 10_000 + 1, n % 10_000);
        let name = (n % NAMES) * NAME_STEP % NAMES;
        let (first, rest) = (name as usize % FIRST.len(), name as usize / FIRST.len());
        let (middle, last) = (rest % MIDDLE.len(), rest / MIDDLE.len());
        let family = n / FAMILY;
        Self {
            nama: format!("{} {} {}", FIRST[first], MIDDLE[middle], LAST[last]),
            kjp: (5_049_488_500_000_000 + (month - 1) * 1_000_000 + u64::from(n)).to_string(),
            nik: format!("317101{day:02}{month:02}90{serial:04}"),
            kk: format!("317101{:02}{month:02}10{:04}", family / 10_000 + 1, family % 10_000),
        }
    }

    /// The four lines of Dharmajaya and Foodstation (`registration/RULES.md` 1.1), bare.
    pub fn lines(&self) -> String {
        format!("{}\nKJP {}\n{}\n{}", self.nama, self.kjp, self.nik, self.kk)
    }

    /// The same lines with the labels that many people write.
    pub fn labelled(&self) -> String {
        format!("Nama: {}\nKJP: {}\nKTP: {}\nKK: {}", self.nama, self.kjp, self.nik, self.kk)
    }
}

/// Someone who writes to the bot and registers many people, each only once.
#[derive(Debug, Clone)]
pub struct Customer {
    name: String,
    seed: u64,
    place: u32,
}

impl Customer {
    /// The `n`th customer of seed 0.
    pub fn invented(n: usize) -> Self {
        Self::of_seed(0, n)
    }

    /// The `n`th customer of a seed, `n` below [`CUSTOMERS_PER_SEED`]. Customers of one seed never
    /// register the same person.
    pub fn of_seed(seed: u64, n: usize) -> Self {
        assert!(n < CUSTOMERS_PER_SEED, "customer {n} of a seed that has {CUSTOMERS_PER_SEED}");
        let place = u32::try_from(n).expect("smaller than CUSTOMERS_PER_SEED");
        Self { name: format!("{} {}", FIRST[n % FIRST.len()], n + 1), seed, place }
    }

    /// No other customer of the seed has that name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `n`th person this customer registers, `n` below [`PEOPLE_PER_CUSTOMER`]. No two have the
    /// same name.
    pub fn person(&self, n: usize) -> Person {
        assert!(n < PEOPLE_PER_CUSTOMER, "person {n} of a customer who has {PEOPLE_PER_CUSTOMER}");
        Person::nth(self.seed, self.place * PEOPLE_PER_CUSTOMER as u32 + n as u32)
    }

    /// The message that registers the `n`th person at a provider with four lines per person; every
    /// third one has labels.
    pub fn registration_text(&self, n: usize) -> String {
        let person = self.person(n);
        if n % 3 == 2 { person.labelled() } else { person.lines() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_makes_the_same_people() {
        assert_eq!(Person::nth(7, 4_711), Person::nth(7, 4_711));
        assert_ne!(Person::nth(7, 4_711), Person::nth(8, 4_711));
    }

    #[test]
    fn no_two_people_share_a_card_or_nik() {
        let people: Vec<Person> =
            (0..DISJOINT_SEEDS).flat_map(|seed| (0..11_000).map(move |n| Person::nth(seed, n))).collect();
        let cards: HashSet<&str> = people.iter().map(|p| p.kjp.as_str()).collect();
        let niks: HashSet<&str> = people.iter().map(|p| p.nik.as_str()).collect();
        assert_eq!((cards.len(), niks.len()), (people.len(), people.len()));
    }

    #[test]
    fn every_number_has_its_length_and_prefix() {
        for n in [0, 1, 9_999, 10_000, PEOPLE_PER_SEED - 1] {
            for seed in [0, 11, u64::MAX] {
                let Person { kjp, nik, kk, .. } = Person::nth(seed, n);
                assert_eq!((kjp.len(), nik.len(), kk.len()), (16, 16, 16), "person {n} of seed {seed}");
                assert!(kjp.starts_with("50494885") && nik.starts_with("317101") && kk.starts_with("317101"));
                assert!(kjp != nik && nik != kk);
            }
        }
    }

    #[test]
    fn customers_never_register_the_same_person_and_no_customer_repeats_a_name() {
        let mut niks = HashSet::new();
        for place in [0, 1, 2, CUSTOMERS_PER_SEED - 1] {
            let customer = Customer::invented(place);
            let mut names = HashSet::new();
            for n in 0..PEOPLE_PER_CUSTOMER {
                let person = customer.person(n);
                assert!(niks.insert(person.nik.clone()), "{} registers {} again", customer.name, person.nik);
                assert!(names.insert(person.nama.clone()), "{} repeats {}", customer.name, person.nama);
                assert_eq!(customer.registration_text(n).lines().count(), 4);
            }
        }
    }

    #[test]
    fn customers_have_names_of_their_own() {
        let names: HashSet<String> = (0..CUSTOMERS_PER_SEED).map(|n| Customer::invented(n).name).collect();
        assert_eq!(names.len(), CUSTOMERS_PER_SEED);
    }
}

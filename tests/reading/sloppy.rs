//! Messages as families write them, with what they mean. Everybody in them is invented: serial numbers end with
//! zeros, which no office issues.

use bot_kjp::registration::Provider;
use jiff::civil::{Date, date};

use super::seed::Random;

/// How sloppily people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The given order, every spelling of labels and numbers.
    A,
    /// Greetings, list numbers, a line that is missing or broken.
    B,
    /// Whoever never saw a format: any order with labels, one line, tables, fields that nobody asked for.
    C,
}

/// A person as the writer means them.
#[derive(Debug, Clone)]
pub struct Meant {
    pub nama: String,
    pub kjp: String,
    pub kind: &'static str,
    pub ktp: String,
    pub kk: String,
    pub lahir: Date,
    /// Something of it is missing or broken: nobody is to be registered.
    pub broken: bool,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub provider: Provider,
    pub text: String,
    pub people: Vec<Meant>,
}

const FIRST: &[&str] = &[
    "Ani",
    "Budi",
    "Citra",
    "Dedi",
    "Eka",
    "Fitri",
    "Gilang",
    "Hendra",
    "Indah",
    "Joko",
    "Kartika",
    "Lina",
    "Maya",
    "Nur",
    "Oki",
    "Putri",
    "Rina",
    "Siti",
    "Tono",
    "Umar",
    "Vina",
    "Wati",
    "Yanto",
    "Zahra",
    "Muhammad",
    "M.",
    "Hj. Siti",
    "H. Ahmad",
    "Bpk. Slamet",
    "Ibu Sri",
    "R.A. Dewi",
    "Purnama",
];
const LAST: &[&str] = &[
    "Lestari",
    "Pratama",
    "Hidayat",
    "Sari",
    "Permata",
    "Santoso",
    "Wijaya",
    "Nugroho",
    "Ma'ruf",
    "Nur'aini",
    "Siregar",
    "Rahmawati",
    "Setiawan",
    "Anggraini",
    "Maulana",
    "binti Hasan",
    "bin Ali",
    "Nama'ah",
    "Putra, S.Pd",
    "(Alm) Yusuf",
];
const KINDS: &[(&str, &str)] = &[
    ("KJP", "KJP"),
    ("kjp", "KJP"),
    ("Kartu Jakarta Pintar", "KJP"),
    ("LANSIA", "LANSIA"),
    ("klj", "LANSIA"),
    ("Lanjut usia", "LANSIA"),
    ("rusun", "RUSUN"),
    ("Rumah Susun", "RUSUN"),
    ("disabilitas", "DISABILITAS"),
    ("disablitas", "DISABILITAS"),
    ("penyandang disabilitas", "DISABILITAS"),
    ("KPDJ", "DISABILITAS"),
    ("dasawisma", "DASAWISMA"),
    ("dasa wisma", "DASAWISMA"),
    ("kpj", "PEKERJA"),
    ("pkj", "PEKERJA"),
    ("guru honorer", "GURU HONORER"),
    ("pjlp", "PJLP"),
    ("KAJ", "KAJ"),
    ("kartu anak jakarta", "KAJ"),
];
const NIK_LABELS: &[&str] =
    &["NIK", "nik", "KTP", "Ktp", "No KTP", "No. KTP", "Nomor KTP", "no nik", "NIK KTP", "No KTP/NIK"];
const KK_LABELS: &[&str] =
    &["KK", "kk", "No KK", "No. KK", "Nomor KK", "Kartu Keluarga", "No Kartu Keluarga", "nomer kk"];
const NAME_LABELS: &[&str] = &[
    "Nama",
    "nama",
    "NAMA",
    "Nama Lengkap",
    "nama anak",
    "Nama penerima",
    "Nm",
    "a.n.",
    "Nama (sesuai KTP)",
    "*Nama*",
];
const DATE_LABELS: &[&str] = &["Tgl lahir", "Tanggal lahir", "TTL", "Lahir", "tgl"];
const JOINTS: &[&str] = &[" ", ": ", ":", " : ", "=", " = ", "..", " .. ", "."];
const GREETINGS: &[&str] = &[
    "Selamat pagi min",
    "Assalamualaikum",
    "Assalamu'alaikum wr wb",
    "Pagi admin",
    "Halo kak",
    "Mohon didaftarkan ya",
    "Saya mau daftar",
    "Daftar",
    "Izin daftar",
    "Permisi, mau daftar untuk besok",
    "Selamat siang pak",
    "Data sebagai berikut:",
    "tolong daftarkan",
    "Daftar Cakung",
    "Ijin mendaftar",
];
const THANKS: &[&str] = &[
    "terima kasih",
    "Terima kasih banyak",
    "makasih ya kak",
    "Trims",
    "thanks",
    "Mohon dibantu ya min",
    "Wassalam",
    "Semoga sehat selalu",
    "🙏",
    "tks min 🙏🙏",
];
const OTHERS: &[&str] = &[
    "No HP: 081200000000",
    "HP 0812-0000-0000",
    "WA +62 812 0000 0000",
    "Alamat: Jl. Mawar No 12 RT 001/RW 002",
    "Jl Melati 5",
    "RT 003 RW 004",
    "Kec. Cakung",
    "Kelurahan Cakung Timur",
    "Agama: Islam",
    "Jenis kelamin: P",
    "Sekolah: SDN 05 Pagi",
    "Kelas 4",
    "Umur 12 th",
    "Laki-laki",
    "Kota Jakarta Timur",
    "Telp 081200000001",
];

fn pick<'a, T: ?Sized>(random: &mut Random, from: &[&'a T]) -> &'a T {
    from[random.below(from.len())]
}

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap_or(0))).collect()
}

const REGIONS: &[&str] = &["317101", "317206", "317308", "317410", "317505", "320101", "367103", "327501"];

fn sixteen(random: &mut Random) -> String {
    let (day, month, year) = (1 + random.below(28), 1 + random.below(12), random.below(100));
    let woman = if random.below(2) == 0 { 40 } else { 0 };
    format!("{}{:02}{month:02}{year:02}{}0", pick(random, REGIONS), day + woman, digits(random, 3))
}

fn person(random: &mut Random, number: usize) -> Meant {
    let mut nama = pick(random, FIRST).to_owned();
    if random.below(4) > 0 {
        nama = format!("{nama} {}", pick(random, LAST));
    }
    if random.below(5) == 0 {
        nama = nama.to_uppercase();
    }
    // No two of one message are called the same.
    if number > 0 {
        nama = format!("{nama} {}", ["Dwi", "Tri", "Catur", "Panca", "Sapta"][(number - 1) % 5]);
    }
    let long = random.below(4) == 0;
    let (kind, prefix) =
        if random.below(2) == 0 { ("KJP", "85") } else { (KINDS[random.below(KINDS.len())].0, "86") };
    // No two of one message have the same card.
    let card =
        format!("504948{prefix}{}{}0000{}", number % 10, digits(random, 3), if long { "00" } else { "" });
    let lahir = date(
        i16::try_from(1930 + random.below(95)).unwrap_or(2000),
        i8::try_from(1 + random.below(12)).unwrap_or(1),
        i8::try_from(1 + random.below(28)).unwrap_or(1),
    );
    Meant { nama, kjp: card, kind, ktp: sixteen(random), kk: sixteen(random), lahir, broken: false }
}

impl Meant {
    /// The kind that is stored.
    pub fn stored_kind(&self) -> &'static str {
        if self.kjp.starts_with("50494885") {
            return "KJP";
        }
        KINDS.iter().find(|(written, _)| *written == self.kind).map_or("KJP", |(_, stored)| stored)
    }
}

/// The same number as somebody else writes it.
fn spelled(random: &mut Random, number: &str) -> String {
    let grouped = |by: usize, gap: &str| {
        let groups: Vec<&str> =
            number.as_bytes().chunks(by).map(|c| std::str::from_utf8(c).unwrap_or("")).collect();
        groups.join(gap)
    };
    match random.below(14) {
        0 => grouped(4, " "),
        1 => grouped(4, "-"),
        2 => grouped(4, "."),
        3 => number.chars().flat_map(|c| [c, '\u{200B}']).collect(),
        4 => number.chars().map(|c| char::from_u32(0xFF10 + u32::from(c) - 48).unwrap_or(c)).collect(),
        5 => format!("{number}."),
        6 => format!("*{number}*"),
        _ => number.to_owned(),
    }
}

fn born(random: &mut Random, day: Date) -> String {
    const MONTHS: [&str; 12] = [
        "Januari",
        "Pebruari",
        "Maret",
        "April",
        "Mei",
        "Juni",
        "Juli",
        "Agustus",
        "September",
        "Oktober",
        "Nopember",
        "Desember",
    ];
    let (d, m, y) = (day.day(), day.month(), day.year());
    let name = MONTHS[usize::try_from(m - 1).unwrap_or(0)];
    match random.below(9) {
        0 => format!("{d}/{m}/{y}"),
        1 => format!("{d:02} {m:02} {y}"),
        2 => format!("{d} {name} {y}"),
        3 => format!("{d:02}{m:02}{y}"),
        4 => format!("Jakarta, {d:02}-{m:02}-{y}"),
        5 => format!("{d} {} {y}", &name[..3]),
        6 => format!("{d:02}.{m:02}.{y}"),
        7 => format!("{d:02}-{m:02}-{y} (8 th)"),
        _ => format!("{d:02}-{m:02}-{y}"),
    }
}

fn with_label(random: &mut Random, labels: &[&str], value: &str, always: bool) -> String {
    if !always && random.below(2) == 0 {
        return value.to_owned();
    }
    format!("{}{}{value}", pick(random, labels), pick(random, JOINTS))
}

fn name_line(random: &mut Random, person: &Meant, always: bool) -> String {
    if !always && random.below(3) > 0 {
        return person.nama.clone();
    }
    let label = pick(random, NAME_LABELS);
    let joint = if label == "a.n." { " " } else { pick(random, &[": ", " : ", ":", " = ", "= "]) };
    format!("{label}{joint}{}", person.nama)
}

fn card_line(random: &mut Random, person: &Meant) -> String {
    let number = spelled(random, &person.kjp);
    if person.kjp.starts_with("50494885") && random.below(3) == 0 {
        return number;
    }
    match random.below(8) {
        0 => format!("{number} {}", person.kind),
        1 => format!("No. {} {number}", person.kind),
        2 => format!("{}: {number}", person.kind),
        3 => format!("{} = {number}", person.kind),
        4 => format!(
            "Kartu {} {number}",
            person.kind.trim_start_matches("kartu ").trim_start_matches("Kartu ")
        ),
        5 => format!("{number} ({})", person.kind),
        _ => format!("{} {number}", person.kind),
    }
}

/// The lines of a person, in order.
fn lines(random: &mut Random, provider: Provider, person: &Meant, labelled: bool) -> Vec<String> {
    let nik = spelled(random, &person.ktp);
    let kk = spelled(random, &person.kk);
    let mut lines = vec![
        name_line(random, person, labelled),
        card_line(random, person),
        with_label(random, NIK_LABELS, &nik, labelled),
        with_label(random, KK_LABELS, &kk, labelled),
    ];
    if provider == Provider::PasarJaya {
        let date = born(random, person.lahir);
        lines.push(with_label(random, DATE_LABELS, &date, labelled));
    }
    lines
}

/// Lines joined or cut as domain rules list it.
fn rearranged(random: &mut Random, provider: Provider, person: &Meant) -> Vec<String> {
    let Meant { nama, kjp, kind, ktp, kk, .. } = person;
    let mut lines = match random.below(9) {
        0 => vec![format!("{nama} {kind} {kjp}"), ktp.clone(), kk.clone()],
        1 => vec![nama.clone(), format!("{kind} {kjp} nik {ktp}"), format!("kk {kk}")],
        2 => vec![nama.clone(), format!("{kind} {kjp}"), format!("NIK: {ktp} KK: {kk}")],
        3 => vec![format!("{nama} {kind}:{kjp}"), format!("NIK:{ktp}KK:{kk}")],
        4 => vec![
            nama.clone(),
            format!("{kind}:"),
            kjp.clone(),
            "NIK".to_owned(),
            ktp.clone(),
            "No KK".to_owned(),
            kk.clone(),
        ],
        5 => vec![format!("{nama} {kind} {kjp} {ktp} {kk}")],
        6 => vec![nama.clone(), format!("{kjp} {kind}"), format!("{ktp} nik"), format!("{kk} kk")],
        7 => vec![nama.clone(), format!("{kind} {kjp}"), format!("{ktp}{kk}")],
        _ => vec![nama.clone(), format!("{kind} {kjp} nik {ktp} kk {kk}")],
    };
    if provider == Provider::PasarJaya {
        lines.push(born(random, person.lahir));
    }
    lines
}

fn provider(random: &mut Random) -> Provider {
    Provider::ALL[random.below(Provider::ALL.len())]
}

/// An invented message.
pub fn message(random: &mut Random, level: Level) -> Message {
    let provider = provider(random);
    let count = [1, 1, 1, 2, 2, 3, 4][random.below(7)];
    let mut people: Vec<Meant> = (0..count).map(|number| person(random, number)).collect();
    let text = match level {
        Level::A => plain(random, provider, &people),
        Level::B => disturbed(random, provider, &mut people),
        Level::C => free(random, provider, &mut people),
    };
    Message { provider, text, people }
}

fn plain(random: &mut Random, provider: Provider, people: &[Meant]) -> String {
    let gap = pick(random, &["\n", "\n\n", "\r\n\r\n", "\n \n"]);
    let blocks: Vec<String> = people
        .iter()
        .map(|person| {
            let lines = if random.below(3) == 0 {
                rearranged(random, provider, person)
            } else {
                lines(random, provider, person, false)
            };
            lines.join("\n")
        })
        .collect();
    blocks.join(gap)
}

fn disturbed(random: &mut Random, provider: Provider, people: &mut [Meant]) -> String {
    let gap = if random.below(4) == 0 { "\n" } else { "\n\n" };
    let broken = if random.below(2) == 0 { Some(random.below(people.len())) } else { None };
    let numbered = random.below(3);
    let mut blocks = Vec::new();
    for (number, person) in people.iter_mut().enumerate() {
        let mut lines = lines(random, provider, person, false);
        if broken == Some(number) {
            person.broken = true;
            if random.below(2) == 0 {
                lines.remove(1 + random.below(lines.len() - 1));
            } else {
                // A card of 18 digits is still one with 17.
                let at = if person.kjp.len() > 16 { 2 + random.below(2) } else { 1 + random.below(3) };
                // One digit less, at the end.
                let digit = lines[at]
                    .char_indices()
                    .rev()
                    .find(|(_, c)| c.is_numeric())
                    .map(|(at, c)| (at, c.len_utf8()));
                if let Some((place, length)) = digit {
                    lines[at].replace_range(place..place + length, "");
                }
            }
        }
        match numbered {
            1 => lines[0] = format!("{}. {}", number + 1, lines[0]),
            2 => {
                lines.iter_mut().enumerate().for_each(|(line, text)| *text = format!("{}) {text}", line + 1))
            }
            _ => {}
        }
        blocks.push(lines.join("\n"));
    }
    let mut text = blocks.join(gap);
    if random.below(2) == 0 {
        let blank = if random.below(2) == 0 { "\n" } else { "\n\n" };
        text = format!("{}{blank}{text}", pick(random, GREETINGS));
    }
    if random.below(2) == 0 {
        text = format!("{text}\n{}", pick(random, THANKS));
    }
    text
}

fn free(random: &mut Random, provider: Provider, people: &mut [Meant]) -> String {
    let dated = provider == Provider::PasarJaya;
    let gap = if random.below(3) == 0 { "\n" } else { "\n\n" };
    match random.below(9) {
        // Any order, every line with its label.
        0 => {
            let order = random.next();
            let blocks: Vec<String> = people
                .iter()
                .map(|person| {
                    let mut lines = vec![
                        name_line(random, person, true),
                        format!("{} : {}", person.kind, person.kjp),
                        with_label(random, NIK_LABELS, &person.ktp, true),
                        with_label(random, KK_LABELS, &person.kk, true),
                    ];
                    if dated {
                        let date = born(random, person.lahir);
                        lines.push(with_label(random, DATE_LABELS, &date, true));
                    }
                    // The same order for everybody of a message.
                    let mut shuffle = Random::from_seed(order);
                    for at in (1..lines.len()).rev() {
                        lines.swap(at, shuffle.below(at + 1));
                    }
                    lines.join("\n")
                })
                .collect();
            blocks.join(gap)
        }
        // Everything on one line.
        1 => {
            let separator = pick(random, &[",", ", ", " / ", "/", " | ", "|", "\t", " - ", ";", " ; "]);
            let lines: Vec<String> = people
                .iter()
                .map(|person| {
                    let card = if person.kjp.starts_with("50494885") {
                        person.kjp.clone()
                    } else {
                        format!("{} {}", person.kind, person.kjp)
                    };
                    let mut cells =
                        vec![person.nama.replace(',', ""), card, person.ktp.clone(), person.kk.clone()];
                    if dated {
                        cells.push(person.lahir.strftime("%d-%m-%Y").to_string());
                    }
                    cells.join(separator)
                })
                .collect();
            lines.join("\n")
        }
        // A table with its head.
        2 => {
            let separator = pick(random, &["\t", " | ", ";", ", "]);
            let kk_first = random.below(2) == 0;
            let mut head = vec!["Nama", "Kartu"];
            head.extend(if kk_first { ["KK", "NIK"] } else { ["NIK", "KK"] });
            if dated {
                head.push("Tgl lahir");
            }
            let mut lines = vec![head.join(separator)];
            for person in people.iter() {
                let mut cells = vec![person.nama.replace(',', ""), format!("{} {}", person.kind, person.kjp)];
                let (nik, kk) = (person.ktp.clone(), person.kk.clone());
                cells.extend(if kk_first { [kk, nik] } else { [nik, kk] });
                if dated {
                    cells.push(person.lahir.strftime("%d-%m-%Y").to_string());
                }
                lines.push(cells.join(separator));
            }
            lines.join("\n")
        }
        // Fields that nobody asked for.
        3 => {
            let blocks: Vec<String> = people
                .iter()
                .map(|person| {
                    let mut lines = lines(random, provider, person, true);
                    for _ in 0..=random.below(3) {
                        lines.insert(1 + random.below(lines.len()), pick(random, OTHERS).to_owned());
                    }
                    lines.join("\n")
                })
                .collect();
            blocks.join(gap)
        }
        // One KK for all.
        4 => {
            let kk = people[0].kk.clone();
            let bottom = random.below(2) == 0;
            let blocks: Vec<String> = people
                .iter_mut()
                .map(|person| {
                    person.kk.clone_from(&kk);
                    let mut lines = lines(random, provider, person, false);
                    lines.remove(3);
                    lines.join("\n")
                })
                .collect();
            let line = format!("{} {kk}", pick(random, KK_LABELS));
            if bottom {
                format!("{}\n\n{line}", blocks.join("\n\n"))
            } else {
                format!("{line}\n\n{}", blocks.join("\n\n"))
            }
        }
        // Letters where digits belong.
        5 => {
            let broken = random.below(people.len());
            let blocks: Vec<String> = people
                .iter_mut()
                .enumerate()
                .map(|(number, person)| {
                    let mut nik = person.ktp.clone();
                    if number == broken {
                        person.broken = true;
                        let at = 1 + random.below(14);
                        nik.replace_range(at..=at, pick(random, &["O", "o", "l", "I", "B", "S"]));
                    }
                    let mut lines = vec![
                        person.nama.clone(),
                        format!("{} {}", person.kind, person.kjp),
                        nik,
                        person.kk.clone(),
                    ];
                    if dated {
                        lines.push(born(random, person.lahir));
                    }
                    lines.join("\n")
                })
                .collect();
            blocks.join("\n\n")
        }
        // All people on one line.
        6 => {
            let separator = pick(random, &[" ", ", ", " / ", " | "]);
            let cells: Vec<String> = people
                .iter()
                .map(|person| {
                    let kind = if person.kjp.starts_with("50494885") {
                        String::new()
                    } else {
                        format!("{} ", person.kind)
                    };
                    let name = person.nama.replace(',', "");
                    let mut cells =
                        vec![name, format!("{kind}{}", person.kjp), person.ktp.clone(), person.kk.clone()];
                    if dated {
                        cells.push(person.lahir.strftime("%d-%m-%Y").to_string());
                    }
                    cells.join(separator)
                })
                .collect();
            cells.join(separator)
        }
        // A form with labels, greetings around it, and something missing or broken.
        7 => {
            let broken = random.below(people.len());
            let blocks: Vec<String> = people
                .iter_mut()
                .enumerate()
                .map(|(number, person)| {
                    let mut lines = lines(random, provider, person, true);
                    if number == broken {
                        person.broken = true;
                        lines.remove(random.below(lines.len()));
                    }
                    lines.join("\n")
                })
                .collect();
            format!("{}\n\n{}\n\n{}", pick(random, GREETINGS), blocks.join("\n\n"), pick(random, THANKS))
        }
        // Labels behind numbers.
        _ => {
            let one_line = random.below(2) == 0;
            let blocks: Vec<String> = people
                .iter()
                .map(|person| {
                    let mut lines = vec![
                        person.nama.clone(),
                        format!("{} {}", person.kjp, person.kind),
                        format!("{} {}", person.ktp, pick(random, &["NIK", "(NIK)", "ktp", "(KTP)"])),
                        format!("{} {}", person.kk, pick(random, &["KK", "(KK)", "kk", "kartu keluarga"])),
                    ];
                    if dated {
                        lines.push(person.lahir.strftime("%d-%m-%Y").to_string());
                    }
                    lines.join(if one_line { " " } else { "\n" })
                })
                .collect();
            blocks.join("\n\n")
        }
    }
}

//! Every Indonesian sentence that a customer reads.
//!
//! Plain WhatsApp text, `*bold*`. A reply shows nothing of other people, and no personal number but
//! the sender's own; examples write digits as `X`.

use super::{Conclusion, Reason, Refused, Registered, Reply, Saved};
use crate::personal::Written;
use crate::registration::fault::{BirthDateFault, Fault, Field, NameFault};
use crate::registration::{Clash, ClashField, Place, Provider, Rulebook, Unreadable, Warning, card};

/// Longest reply, in characters: WhatsApp takes far more, nobody reads more.
pub const REPLY_MAX_CHARS: usize = 4000;
/// Room for the lists of a conclusion together; the rest is for headings and hints.
const CONCLUSION_LISTS_MAX_CHARS: usize = 3300;
/// Room for refused people: they need action, so they come first.
const REFUSED_MAX_CHARS: usize = 1800;
/// Room for left-over lines.
const REMAINDER_MAX_CHARS: usize = 300;
/// Room for people who were registered before: nobody has to act on them.
const KNOWN_MAX_CHARS: usize = 400;
/// Room for what registered people should look at.
const WARNED_MAX_CHARS: usize = 500;
/// What refused and saved people leave at least to the list of today.
const TODAY_MIN_CHARS: usize = 500;
/// Room for the list of today when it is asked for.
const LIST_MAX_CHARS: usize = 3600;
/// Longest piece of a customer's own text inside a reply, in characters.
const QUOTE_MAX_CHARS: usize = 40;

/// Longest text of joined replies, in bytes: some ten conclusions of a family.
pub const JOINED_MAX_BYTES: usize = 12 * 1024;

/// Between joined replies.
const JOINT: &str = "\n\n———\n\n";

/// Begins the list of today in a conclusion.
const TODAY: &str = "*Data Anda hari ini (";

/// The last section of a conclusion: without and with somebody who was registered.
const END_OF_CONCLUSION: [&str; 2] = [
    "Ketik *2* untuk cek data, *1* untuk lokasi lain, *6* untuk bantuan.",
    "Masih ada? Silakan kirim lagi. Ketik *2* untuk cek data, *1* untuk lokasi lain.",
];

/// Stands for replies that a joined one has no room for.
const MORE_WAS_DONE: &str = "Pesan Bapak/Ibu sesudahnya juga sudah diproses. Ketik *CEK* untuk melihat data \
     yang tersimpan. Nama yang tidak ada di daftar itu belum terdaftar: silakan kirim lagi.";

const CARD_TYPES: &str = "KJP, LANSIA, RUSUN, DISABILITAS, DASAWISMA, PEKERJA, GURU HONORER, PJLP, KAJ";

const MENU: &str = "Ketik angka:\n*1* Daftar\n*2* Cek data saya\n*6* Bantuan";

/// For replies that are given in any state: in a list of choices, numbers mean something else.
const COMMANDS: &str = "Ketik *DAFTAR* untuk mendaftar, *BANTUAN* untuk bantuan.";

/// Two replies to the same person in one, little above [`JOINED_MAX_BYTES`] at most. Nothing is said twice:
/// what the newer one repeats, and the list of today and the hints that stand in it too, go from the older.
pub fn joined(older: &str, newer: &str) -> String {
    let repeated = |part: &str| newer.split(JOINT).any(|new| without_list(new) == without_list(part));
    let listed = newer.contains(TODAY);
    let mut parts: Vec<String> = older
        .split(JOINT)
        .filter(|part| !repeated(part))
        .map(|part| if listed { without_list(part) } else { part.to_owned() })
        .collect();
    let more_was_done = parts.iter().any(|part| part == MORE_WAS_DONE);
    let bytes: usize = parts.iter().map(|part| part.len() + JOINT.len()).sum();
    if more_was_done || bytes + newer.len() > JOINED_MAX_BYTES {
        if !more_was_done {
            parts.push(MORE_WAS_DONE.to_owned());
        }
    } else {
        parts.push(newer.to_owned());
    }
    parts.join(JOINT)
}

/// A reply without its list of today and what comes with every such list.
fn without_list(reply: &str) -> String {
    let is_own = |section: &&str| !section.starts_with(TODAY) && !END_OF_CONCLUSION.contains(section);
    reply.split("\n\n").filter(is_own).collect::<Vec<_>>().join("\n\n")
}

impl Reply {
    /// The message to send: never empty, at most [`REPLY_MAX_CHARS`].
    pub fn text(&self, rules: &Rulebook) -> String {
        match self {
            Self::Menu => format!("Selamat datang di *Pendaftaran Pangan Bersubsidi*. 🙏\n\n{MENU}"),
            Self::Greeting => {
                "Maaf, pesan Bapak/Ibu belum kami pahami. Ketik *1* untuk mendaftar atau *MENU* untuk pilihan lain."
                    .to_owned()
            }
            Self::Help => help(rules),
            Self::ProviderMenu { waiting } => format!("{}{}", not_checked_yet(*waiting), provider_menu()),
            Self::PlaceMenu { provider, waiting } => {
                format!("{}{}", not_checked_yet(*waiting), place_menu(*provider))
            }
            Self::NoSuchChoice(menu) => format!("Maaf, pilihan itu tidak ada.\n\n{}", menu.text(rules)),
            Self::FormatGuide(place) => format!(
                "Lokasi: *{}*\n\n{}\n\nSilakan kirim datanya. Ketik *1* untuk lokasi lain, *0* untuk batal.",
                place_name(place),
                format_guide(rules, place.provider)
            ),
            Self::NotRead { provider, why, waiting } => not_read(*provider, *why, *waiting),
            Self::Incomplete { provider } => format!(
                "⚠️ *Data belum lengkap dan belum disimpan.* Kirim semua baris satu orang dalam satu pesan.\n\n{}",
                format_guide(rules, provider.unwrap_or(Provider::DharmaJaya))
            ),
            Self::TooLong => format!(
                "⚠️ Pesan terlalu panjang, *tidak ada yang disimpan*. Mohon dibagi menjadi beberapa pesan, \
                 paling banyak {} orang sekali kirim.",
                rules.most_people
            ),
            Self::WaitingFull => "⚠️ Lokasi belum dipilih, jadi *pesan terakhir ini tidak disimpan*. Pilih \
                 lokasi dahulu, lalu kirim ulang pesan itu."
                .to_owned(),
            Self::SendAgain => "🙏 Maaf, satu pesan Anda tidak terbaca oleh kami karena ada gangguan. \
                Mohon kirim sekali lagi pesan yang belum mendapat jawaban."
                .to_owned(),
            Self::NoRoom => "🙏 Maaf, pendaftaran sedang tidak dapat kami terima karena penyimpanan kami penuh. \
                 Data yang baru dikirim *belum terdaftar*. Petugas sudah diberi tahu; mohon kirim ulang datanya \
                 nanti."
                .to_owned(),
            Self::Left => format!(
                "Baik, tidak ada langkah yang menunggu. Data yang sudah tersimpan tetap tersimpan.\n\n{MENU}"
            ),
            Self::MediaUnread { provider } => format!(
                "Maaf, gambar dan dokumen tidak dapat kami baca. Mohon ketik datanya sebagai teks.\n\n{}",
                format_guide(rules, provider.unwrap_or(Provider::DharmaJaya))
            ),
            Self::Dropped(next) => format!(
                "⚠️ Data yang dikirim sebelumnya *tidak disimpan*. Mohon kirim ulang setelah memilih lokasi.\n\n{}",
                next.text(rules)
            ),
            Self::Conclusion(conclusion) => conclusion_text(conclusion),
            Self::Today(rows) => today(rows),
        }
    }
}

fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::PasarJaya => "Pasarjaya",
        Provider::DharmaJaya => "Dharmajaya",
        Provider::FoodStation => "Foodstation (Cipinang)",
    }
}

fn place_name(place: &Place) -> String {
    match &place.sub {
        Some(sub) => format!("{} – {sub}", provider_name(place.provider)),
        None => provider_name(place.provider).to_owned(),
    }
}

fn not_checked_yet(waiting: usize) -> String {
    match waiting {
        0 => String::new(),
        1 => "Pesan diterima, tetapi *belum diperiksa dan belum disimpan*.\n\n".to_owned(),
        many => format!("{many} pesan diterima, tetapi *belum diperiksa dan belum disimpan*.\n\n"),
    }
}

fn provider_menu() -> String {
    let mut menu = "*Pilih tempat pengambilan* (ketik angkanya):".to_owned();
    for (number, provider) in (1..).zip(Provider::ALL) {
        menu.push_str(&format!("\n*{number}* {}", provider_name(provider)));
        if !provider.places().is_empty() {
            menu.push_str(&format!(": {}", provider.places().join(", ")));
        }
    }
    menu.push_str("\n*0* Batal");
    menu
}

fn place_menu(provider: Provider) -> String {
    let mut menu = format!("*Pilih lokasi {}* (ketik angkanya):", provider_name(provider));
    for (number, place) in (1..).zip(provider.places()) {
        menu.push_str(&format!("\n*{number}* {place}"));
    }
    menu.push_str("\n*0* Batal");
    menu
}

/// The lines of one person, with an example that the rules would accept were the `X` digits.
fn format_guide(rules: &Rulebook, provider: Provider) -> String {
    let (order, last) = match provider {
        Provider::PasarJaya => {
            ("nama, nomor kartu, nomor KTP (NIK), nomor KK, tanggal lahir", "\n20-01-2015")
        }
        Provider::DharmaJaya | Provider::FoodStation => {
            ("nama, jenis dan nomor kartu, nomor KTP (NIK), nomor KK", "")
        }
    };
    format!(
        "*Format {}*: {} baris per orang, ditulis ke bawah: {order}.\n\nContoh:\n{}{last}\n\nLebih dari satu orang: \
         beri baris kosong di antaranya, paling banyak {} orang sekali kirim.",
        provider_name(provider),
        provider.lines_per_person(),
        EXAMPLE,
        rules.most_people,
    )
}

const EXAMPLE: &str = "Ani\nKJP 504948XXXXXXXXXX\nKTP 3171XXXXXXXXXXXX\nKK 3173XXXXXXXXXXXX";

fn help(rules: &Rulebook) -> String {
    format!(
        "*Bantuan*\n\n\
         Cara mendaftar: ketik *DAFTAR*, pilih tempat pengambilan, lalu kirim data sebagai teks.\n\n\
         {}\n\n\
         Khusus *{}* tambahkan baris kelima: tanggal lahir, misalnya 20-01-2015.\n\n\
         *Kartu*: diawali {}, {}–{} angka. Jenis kartu ditulis di sebelah nomornya: {CARD_TYPES}.\n\
         *Aturan*: satu kartu, satu KTP dan satu nama hanya sekali per hari. Nomor KK boleh sama untuk satu \
         keluarga.\n\n\
         Ketik *DAFTAR* untuk mendaftar atau ganti lokasi, *CEK* untuk melihat data, *MENU* untuk pilihan, \
         *BATAL* untuk membatalkan langkah.",
        format_guide(rules, Provider::DharmaJaya),
        provider_name(Provider::PasarJaya),
        card::PREFIX,
        rules.card_digits.start(),
        rules.card_digits.end(),
    )
}

fn not_read(provider: Provider, why: Unreadable, waiting: usize) -> String {
    let name = provider_name(provider);
    match why {
        Unreadable::TooManyPeople { people, most } => format!(
            "⚠️ Terlalu banyak orang dalam satu kiriman: {people}, paling banyak {most}. *Pesan ini tidak \
             disimpan*, mohon dibagi menjadi beberapa pesan."
        ),
        Unreadable::NoBirthDates => {
            let ways = if waiting == 0 {
                "• tambahkan tanggal lahir setiap orang lalu kirim ulang, atau\n• ketik *DAFTAR* untuk memilih \
                 lokasi lain."
                    .to_owned()
            } else {
                format!(
                    "• pilih tempat lain dengan mengetik angkanya, atau\n• ketik *0*, tambahkan tanggal lahir setiap \
                     orang, lalu kirim ulang.\n\n{}",
                    provider_menu()
                )
            };
            format!(
                "⚠️ *Tanggal lahir belum ada, belum ada yang disimpan dari pesan ini.*\n\n*{name}* memerlukan tanggal \
                 lahir setiap orang, misalnya 20-01-2015.\n\n{ways}"
            )
        }
    }
}

fn conclusion_text(conclusion: &Conclusion) -> String {
    let Conclusion { place, saved, known, refused, remainder, today } = conclusion;
    let failed = refused.len() + usize::from(!remainder.is_empty());
    let name = place_name(place);
    let mut sections = vec![match (saved.len(), known.len(), failed) {
        (0, _, 0) => "ℹ️ *Data ini sudah terdaftar hari ini*, tidak perlu dikirim ulang.".to_owned(),
        (count, _, 0) => format!("✅ *Pendaftaran berhasil*: {count} orang di *{name}*."),
        (0, 0, count) => {
            format!("❌ *Belum ada data yang tersimpan*: {count} data perlu diperbaiki (*{name}*).")
        }
        (0, _, count) => {
            format!("❌ *Tidak ada data baru yang tersimpan*: {count} data perlu diperbaiki (*{name}*).")
        }
        (stored, _, count) => format!(
            "⚠️ *Hanya sebagian yang tersimpan* di *{name}*: {stored} tersimpan, {count} belum. Total hari ini: {}.",
            today.len()
        ),
    }];
    // Room is given out by importance, the lists are shown in the order of the story.
    let mut room = CONCLUSION_LISTS_MAX_CHARS;
    let mut list = |items: Vec<String>, rest: &dyn Fn(usize) -> String, leave: usize, at_most: usize| {
        let list = bounded(&items, rest, at_most.min(room.saturating_sub(leave)));
        room = room.saturating_sub(list.chars().count());
        list
    };
    let unexplained = |shown: usize| {
        let numbers: Vec<String> =
            refused[shown..].iter().map(|refused| (refused.entry + 1).to_string()).collect();
        format!("{}: data ke-{}", count_of_rest(numbers.len()), numbers.join(", "))
    };
    let refused_list = list(refused.iter().map(refused_lines).collect(), &unexplained, 0, REFUSED_MAX_CHARS);
    let uncounted = |total: usize| move |shown: usize| count_of_rest(total - shown);
    let warned: Vec<String> = saved
        .iter()
        .flat_map(|saved| saved.warnings.iter().map(|warning| warning_line(saved, *warning)))
        .collect();
    let warned_list = list(warned.clone(), &uncounted(warned.len()), 0, WARNED_MAX_CHARS);
    let rest = remainder.iter().map(|line| format!("> {}", quoted(line.expose()))).collect();
    let remainder_list = list(rest, &uncounted(remainder.len()), 0, REMAINDER_MAX_CHARS);
    let saved_list =
        list(saved.iter().map(saved_line).collect(), &uncounted(saved.len()), TODAY_MIN_CHARS, usize::MAX);
    let names = known.iter().map(|nama| format!("• {}", quoted(nama))).collect();
    let known_list = list(names, &uncounted(known.len()), TODAY_MIN_CHARS, KNOWN_MAX_CHARS);
    let rows = (1..).zip(today).map(|(number, row)| today_line(number, row)).collect();
    let today_list = list(rows, &uncounted(today.len()), 0, usize::MAX);
    if !saved.is_empty() {
        sections.push(format!("*Tersimpan:*\n{saved_list}"));
    }
    if !warned.is_empty() {
        sections.push(format!("⚠️ *Tersimpan, tetapi mohon diperiksa lagi:*\n{warned_list}"));
    }
    if !known.is_empty() {
        sections.push(format!("*Sudah terdaftar sebelumnya:*\n{known_list}"));
    }
    if !refused.is_empty() {
        sections.push(format!("*Belum tersimpan:*\n{refused_list}"));
    }
    if refused.iter().any(|refused| refused.reasons.iter().any(is_about_card_type)) {
        sections.push(format!("Jenis kartu yang berlaku: {CARD_TYPES}."));
    }
    if !remainder.is_empty() {
        sections.push(format!("*Baris yang belum kami pahami:*\n{remainder_list}"));
    }
    if !today.is_empty() {
        sections.push(format!("{TODAY}{}):*\n{today_list}", today.len()));
    }
    if failed > 0 {
        sections.push("Mohon perbaiki, lalu kirim ulang *hanya* data yang belum tersimpan.".to_owned());
    }
    if refused.iter().any(belongs_to_another) {
        sections.push(
            "Jika data itu milik Anda tetapi terdaftar lewat nomor lain, silakan hubungi admin.".to_owned(),
        );
    }
    sections.push(END_OF_CONCLUSION[usize::from(!saved.is_empty())].to_owned());
    sections.join("\n\n")
}

fn saved_line(saved: &Saved) -> String {
    let kind = saved.jenis_kartu.map_or("kartu", |kind| kind.stored());
    let mut line = format!("• {} – {kind} {}", quoted(&saved.nama), saved.kjp.expose());
    if saved.corrected {
        line.push_str(&format!(" (jenis kartu disesuaikan otomatis menjadi {kind})"));
    }
    line
}

/// What to look at, as the end of a sentence about somebody.
pub fn warning_text(warning: Warning) -> String {
    match warning {
        Warning::UnusualNik => {
            "tanggal lahir di dalam NIK tidak lazim, mungkin ada angka yang keliru".to_owned()
        }
        Warning::Underage { age, adult } => format!("menurut NIK berumur {age} tahun, belum {adult} tahun"),
        Warning::UnknownRegion => "enam angka pertama NIK bukan kode wilayah yang kami kenal".to_owned(),
    }
}

fn warning_line(saved: &Saved, warning: Warning) -> String {
    format!("• {}: {}", quoted(&saved.nama), warning_text(warning))
}

fn refused_lines(refused: &Refused) -> String {
    let number = refused.entry + 1;
    let name = quoted(refused.nama.expose());
    let mut lines = match name.as_str() {
        "" => format!("• *Data ke-{number}*"),
        name => format!("• *{name}* (data ke-{number})"),
    };
    for reason in &refused.reasons {
        lines.push_str(&format!("\n   - {}", reason_text(reason)));
    }
    lines
}

fn belongs_to_another(refused: &Refused) -> bool {
    refused.reasons.iter().any(|reason| matches!(reason, Reason::Clash(clash) if !clash.own))
}

/// Whether the list of card types helps.
fn is_about_card_type(reason: &Reason) -> bool {
    matches!(reason, Reason::Fault(Fault::CardTypeInvalid { .. } | Fault::CardTypeUnknown))
}

fn field_name(field: Field) -> &'static str {
    match field {
        Field::Nama => "Nama",
        Field::NoKjp => "Nomor kartu",
        Field::NoKtp => "Nomor KTP (NIK)",
        Field::NoKk => "Nomor KK",
        Field::TanggalLahir => "Tanggal lahir",
    }
}

fn reason_text(reason: &Reason) -> String {
    match reason {
        Reason::Fault(fault) => fault_text(fault),
        Reason::Clash(clash) => clash_text(clash),
        Reason::NotStored => "Belum dapat disimpan. Mohon kirim ulang.".to_owned(),
    }
}

/// What is wrong, in a sentence.
pub fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::Missing(field) => format!("{} kosong.", field_name(*field)),
        Fault::Length { field, digits, least, most } => length_text(*field, *digits, *least, *most),
        Fault::CardPrefix => format!("Nomor kartu harus diawali {} (semua jenis kartu).", card::PREFIX),
        Fault::CardTypeInvalid { written } => {
            format!("Jenis kartu \"{}\" tidak dikenal.", quoted(written))
        }
        Fault::CardTypeUnknown => {
            "Tulis jenis kartu di sebelah nomornya, misalnya: LANSIA 504948XXXXXXXXXX.".to_owned()
        }
        Fault::Equal { field, other } => format!(
            "{} sama dengan {}; keduanya harus berbeda.",
            field_name(*field),
            match other {
                Field::NoKjp => "nomor kartu",
                Field::NoKtp => "nomor KTP (NIK)",
                Field::NoKk => "nomor KK",
                Field::Nama => "nama",
                Field::TanggalLahir => "tanggal lahir",
            }
        ),
        Fault::Name(NameFault::NoLetters) => "Nama harus ditulis dengan huruf A–Z.".to_owned(),
        Fault::Name(NameFault::HoldsNumber) => {
            "Baris nama berisi nomor. Tulis nama saja, setiap nomor di barisnya sendiri.".to_owned()
        }
        Fault::Name(NameFault::TooLong { most }) => {
            format!("Nama terlalu panjang, paling banyak {most} huruf.")
        }
        Fault::BirthDate(BirthDateFault::Unreadable) => {
            "Tanggal lahir tidak terbaca. Tulis hari-bulan-tahun, misalnya 20-01-2015.".to_owned()
        }
        Fault::BirthDate(BirthDateFault::NoSuchDay) => {
            "Tanggal lahir tidak ada di kalender. Mohon periksa hari dan bulannya.".to_owned()
        }
        Fault::BirthDate(BirthDateFault::Future) => {
            "Tanggal lahir harus sebelum hari ini. Mohon periksa tanggal dan tahunnya.".to_owned()
        }
        Fault::BirthDate(BirthDateFault::TooEarly { earliest }) => {
            format!("Tahun lahir sebelum {earliest}. Mohon periksa tahunnya.")
        }
        Fault::NoSuchNik => {
            "Nomor KTP (NIK) itu bukan nomor yang pernah diterbitkan. Mohon lihat lagi di KTP atau KK."
                .to_owned()
        }
        Fault::Letter { field, letter, place } => format!(
            "{} berisi huruf \"{letter}\" di urutan ke-{place}; semuanya harus angka.",
            field_name(*field)
        ),
        Fault::Spreadsheet(field) => format!(
            "{} tersingkat oleh Excel sehingga angkanya hilang. Mohon ketik lagi semua angkanya.",
            field_name(*field)
        ),
        Fault::Unclear { field, readings } => unclear_text(*field, readings),
        Fault::Repeats { field, entry } => {
            format!("{} sama dengan data ke-{} di pesan ini.", field_name(*field), entry + 1)
        }
    }
}

fn unclear_text(field: Field, readings: &[Written]) -> String {
    let name = field_name(field);
    let readings: Vec<String> =
        readings.iter().map(|text| format!("\"{}\"", quoted(text.expose()))).collect();
    if readings.is_empty() {
        format!(
            "{name} dapat dibaca dengan lebih dari satu cara. Mohon kirim ulang orang ini sendiri, satu data per baris."
        )
    } else {
        format!("{name} belum jelas: {}? Mohon kirim ulang yang benar.", readings.join(" atau "))
    }
}

fn length_text(field: Field, digits: usize, min: usize, max: usize) -> String {
    let name = field_name(field);
    let wanted = if min == max { format!("{min}") } else { format!("{min}–{max}") };
    if digits < min {
        format!("{name} kurang {} angka (terbaca {digits}, harus {wanted}).", min - digits)
    } else {
        format!("{name} kelebihan {} angka (terbaca {digits}, harus {wanted}).", digits.saturating_sub(max))
    }
}

/// Only the sender's own earlier registration is named (`registration/RULES.md` 7.3).
fn clash_text(clash: &Clash) -> String {
    let what = match clash.field {
        ClashField::Kjp => "Nomor kartu",
        ClashField::Ktp => "Nomor KTP (NIK)",
        ClashField::Nama => "Nama",
    };
    match (clash.field, clash.own) {
        (ClashField::Nama, _) => {
            format!(
                "{what} ini sudah Anda pakai hari ini. Gunakan nama lain atau tambahkan angka, misalnya \"Ani 2\"."
            )
        }
        (_, true) => {
            format!("{what} ini sudah Anda daftarkan hari ini atas nama *{}*.", quoted(&clash.earlier_nama))
        }
        (_, false) => format!("{what} ini sudah didaftarkan hari ini oleh nomor WhatsApp lain."),
    }
}

fn today_line(number: usize, row: &Registered) -> String {
    let kind = row.jenis_kartu.as_deref().unwrap_or("kartu");
    format!("{number}. {} – {kind} {} – {}", quoted(&row.nama), row.kjp.expose(), quoted(&row.lokasi))
}

fn today(rows: &[Registered]) -> String {
    if rows.is_empty() {
        return format!("Belum ada data yang Anda daftarkan hari ini. {COMMANDS}");
    }
    let items: Vec<String> = (1..).zip(rows).map(|(number, row)| full_row(number, row)).collect();
    format!(
        "*Data Anda hari ini: {} orang*\n\n{}\n\n{COMMANDS}",
        rows.len(),
        bounded(&items, &|shown| count_of_rest(items.len() - shown), LIST_MAX_CHARS)
    )
}

/// Everything of a row, so that whoever copies it to register again is understood.
fn full_row(number: usize, row: &Registered) -> String {
    let kind = row.jenis_kartu.as_deref().unwrap_or("Kartu");
    let mut text = format!(
        "{number}. Nama: *{}*\n   {kind} {}\n   KTP {}\n   KK {}",
        plain(&row.nama),
        row.kjp.expose(),
        row.ktp.expose(),
        row.kk.expose()
    );
    if let Some(born) = row.tanggal_lahir {
        text.push_str(&format!("\n   Lahir {}", born.strftime("%d-%m-%Y")));
    }
    text.push_str(&format!("\n   {}", quoted(&row.lokasi)));
    text
}

/// A customer's own text inside a reply: one line, bounded, without characters that would turn the
/// rest of the reply bold.
fn quoted(text: &str) -> String {
    let plain = plain(text);
    if plain.chars().count() <= QUOTE_MAX_CHARS {
        return plain;
    }
    let kept: String = plain.chars().take(QUOTE_MAX_CHARS - 1).collect();
    format!("{kept}…")
}

fn plain(text: &str) -> String {
    text.replace(['*', '~', '`', '\n'], "")
}

/// As many items as fit into `max_chars`, one per line; `rest` says what follows so many of them.
fn bounded(items: &[String], rest: &dyn Fn(usize) -> String, max_chars: usize) -> String {
    let mut list = String::new();
    let mut chars = 0;
    for (shown, item) in items.iter().enumerate() {
        chars += item.chars().count() + 1;
        if chars > max_chars {
            return format!("{list}{}", rest(shown));
        }
        list.push_str(item);
        list.push('\n');
    }
    list.truncate(list.trim_end().len());
    list
}

/// So many items are not shown.
fn count_of_rest(count: usize) -> String {
    format!("… dan {count} lagi")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::{Action, Content, Message, State, Submission, conclude, conclude_list, step};
    use crate::personal::{CardNumber, Kk, Nik};
    use crate::registration::{CardType, Outcome, fields, people};
    use jiff::civil::{Date, date};
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 24);
    const ANI: &str = "Ani\nKJP 5049488500000000\n3171010101900000\n3171010101100000";

    fn row(number: usize) -> Registered {
        Registered {
            nama: format!("Nama yang sangat panjang sekali untuk orang nomor {number}"),
            kjp: CardNumber::new(format!("5049488500{number:04}0000")),
            jenis_kartu: Some("GURU HONORER".into()),
            ktp: Nik::new(format!("31710101{number:04}0000")),
            kk: Kk::new("3171010101100000"),
            tanggal_lahir: Some(date(2015, 1, 20)),
            lokasi: "PASARJAYA - Mini DC Kec. Cengkareng".into(),
        }
    }

    /// Rows of one provider, with names of which some are words that mean something else. No NIK is the KK.
    fn rows() -> impl Strategy<Value = Vec<Registered>> {
        let words = vec![
            "Ani", "Budi", "Siti", "Nur'aini", "bin", "Hj.", "M.", "S.Pd.", "(Alm)", "Kelas", "Guru",
            "Jalan", "Kasih", "Amin", "Sehat", "Kartu", "KJP", "Rusun", "Daftar", "Terima", "Anak", "Agung",
            "Juli", "P", "Nama",
        ];
        let name = proptest::collection::vec(proptest::sample::select(words), 1..5)
            .prop_map(|words| words.join(" "))
            .prop_filter("a name", |name| {
                fields::name(name) == *name && fields::check_name(name, 80).is_ok()
            });
        let kinds = CardType::ALL.to_vec();
        let one = (name, proptest::option::of(1..9), 0..1000u32, proptest::sample::select(kinds), 0..4000i32);
        (proptest::collection::vec(one, 1..6), any::<bool>()).prop_map(|(people, dated)| {
            let row = |(place, (name, namesake, number, kind, day)): (
                usize,
                (String, Option<i32>, u32, CardType, i32),
            )| {
                let prefix = if kind == CardType::Kjp { "50494885" } else { "50494886" };
                Registered {
                    // No two have the same name, card or NIK.
                    nama: format!("{name} {}", 10 * place as i32 + namesake.unwrap_or(0)),
                    kjp: CardNumber::new(format!("{prefix}{number:03}{place}0000")),
                    jenis_kartu: (!dated).then(|| kind.stored().to_owned()),
                    ktp: Nik::new(format!("3171010101{number:03}{place}00")),
                    kk: Kk::new("3273010101100000"),
                    tanggal_lahir: dated
                        .then(|| date(2010, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap()),
                    lokasi: if dated {
                        "PASARJAYA - Mini DC Kec. Cengkareng"
                    } else {
                        "DHARMAJAYA - Duri Kosambi"
                    }
                    .into(),
                }
            };
            people.into_iter().enumerate().map(row).collect()
        })
    }

    fn every_fault() -> Vec<Fault> {
        let fields = [Field::Nama, Field::NoKjp, Field::NoKtp, Field::NoKk, Field::TanggalLahir];
        let mut faults: Vec<Fault> = fields.map(Fault::Missing).into();
        faults.extend(fields.map(|field| Fault::Repeats { field, entry: 28 }));
        faults.extend(fields.map(|other| Fault::Equal { field: Field::NoKk, other }));
        for field in [Field::NoKjp, Field::NoKtp, Field::NoKk] {
            faults.extend([15, 19].map(|digits| Fault::Length { field, digits, least: 16, most: 18 }));
        }
        faults.extend(
            [NameFault::HoldsNumber, NameFault::NoLetters, NameFault::TooLong { most: 80 }].map(Fault::Name),
        );
        faults.extend(
            [
                BirthDateFault::Unreadable,
                BirthDateFault::NoSuchDay,
                BirthDateFault::Future,
                BirthDateFault::TooEarly { earliest: 1900 },
            ]
            .map(Fault::BirthDate),
        );
        faults.extend([
            Fault::CardPrefix,
            Fault::CardTypeInvalid { written: "x".repeat(5000) },
            Fault::CardTypeUnknown,
            Fault::NoSuchNik,
        ]);
        for field in [Field::NoKjp, Field::NoKtp, Field::NoKk] {
            faults.push(Fault::Letter { field, letter: 'O', place: 7 });
            faults.push(Fault::Spreadsheet(field));
            faults.push(Fault::Unclear { field, readings: vec!["x".repeat(5000).into(), "y".into()] });
        }
        faults.push(Fault::Unclear { field: Field::Nama, readings: Vec::new() });
        faults
    }

    fn clash(field: ClashField, own: bool) -> Clash {
        Clash { field, own, earlier_nama: "Wati".into() }
    }

    /// A conclusion with `saved` and `refused` people; every refused one has the five longest faults
    /// that one person can have.
    fn conclusion(saved: usize, known: usize, refused: usize, rest: usize, today: usize) -> Reply {
        let mut faults = every_fault();
        faults.sort_by_key(|fault| std::cmp::Reverse(fault_text(fault).len()));
        let reasons: Vec<Reason> = faults.into_iter().take(5).map(Reason::Fault).collect();
        let one = |number: usize| row(number);
        Reply::Conclusion(Conclusion {
            place: Provider::PasarJaya.place(3).unwrap(),
            known: (0..known).map(|number| one(number).nama).collect(),
            saved: (0..saved)
                .map(|number| Saved {
                    nama: one(number).nama,
                    kjp: one(number).kjp,
                    jenis_kartu: Some(CardType::GuruHonorer),
                    corrected: true,
                    warnings: vec![
                        Warning::UnknownRegion,
                        Warning::UnusualNik,
                        Warning::Underage { age: 16, adult: 17 },
                    ],
                })
                .collect(),
            refused: (0..refused)
                .map(|entry| Refused {
                    entry,
                    nama: one(entry).nama.into(),
                    reasons: [reasons.clone(), vec![Reason::Clash(clash(ClashField::Kjp, false))]].concat(),
                })
                .collect(),
            remainder: vec!["x".repeat(5000).into(); rest],
            today: (0..today).map(row).collect(),
        })
    }

    fn every_reply() -> Vec<Reply> {
        let mut replies = vec![
            Reply::Menu,
            Reply::Greeting,
            Reply::Help,
            Reply::TooLong,
            Reply::WaitingFull,
            Reply::NoRoom,
            Reply::SendAgain,
            Reply::Left,
            Reply::Today(Vec::new()),
            Reply::Today((0..1000).map(row).collect()),
        ];
        for waiting in 0..3 {
            replies.push(Reply::ProviderMenu { waiting });
            for provider in Provider::ALL {
                replies.push(Reply::PlaceMenu { provider, waiting });
                for why in [Unreadable::NoBirthDates, Unreadable::TooManyPeople { people: 99, most: 30 }] {
                    replies.push(Reply::NotRead { provider, why, waiting });
                }
            }
        }
        for provider in Provider::ALL {
            let place = Place { provider, sub: provider.places().first().map(|name| (*name).to_owned()) };
            replies.push(Reply::FormatGuide(place));
        }
        for provider in Provider::ALL.map(Some).into_iter().chain([None]) {
            replies.extend([Reply::Incomplete { provider }, Reply::MediaUnread { provider }]);
        }
        for (saved, known, refused, rest, today) in [
            (1, 0, 0, 0, 1),
            (0, 1, 0, 0, 1),
            (0, 0, 1, 0, 0),
            (0, 0, 0, 3, 0),
            (30, 0, 0, 0, 500),
            (0, 30, 0, 0, 500),
            (0, 0, 30, 20, 500),
            (10, 10, 10, 20, 500),
        ] {
            replies.push(conclusion(saved, known, refused, rest, today));
        }
        let wrapped: Vec<Reply> =
            replies.iter().map(|reply| Reply::Dropped(Box::new(reply.clone()))).collect();
        let menu = Reply::ProviderMenu { waiting: 2 };
        [replies, wrapped, vec![Reply::NoSuchChoice(Box::new(menu))]].concat()
    }

    /// Runs of 16 or more digits.
    fn long_numbers(text: &str) -> Vec<&str> {
        text.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() >= 16).collect()
    }

    #[test]
    fn joined_replies_say_everything_once_and_stay_short_enough_to_send() {
        assert_eq!(joined("A", "B"), "A\n\n———\n\nB");
        assert_eq!(joined(&joined("A", "B"), "A"), joined("B", "A"));
        let mut text = "first".to_owned();
        for n in 0..1000 {
            text = joined(&text, &format!("{n} {}", "x".repeat(REPLY_MAX_CHARS)));
            assert!(text.len() < JOINED_MAX_BYTES + JOINT.len() + MORE_WAS_DONE.len());
        }
        assert!(text.starts_with("first") && text.ends_with(MORE_WAS_DONE));
        assert_eq!(text.matches(MORE_WAS_DONE).count(), 1);
    }

    #[test]
    fn of_joined_conclusions_only_the_last_lists_the_day() {
        let end = END_OF_CONCLUSION[1];
        let said = |what: &str, list: &str| format!("{what}\n\n{}{list}\n\n{end}", super::TODAY);
        let text = joined(&said("Ani", "1):*\n1. Ani"), &said("Budi", "2):*\n1. Ani\n2. Budi"));
        assert_eq!(text, format!("Ani{JOINT}{}", said("Budi", "2):*\n1. Ani\n2. Budi")));
        let again = joined(&text, &said("Budi", "2):*\n1. Ani\n2. Budi"));
        assert_eq!(again, text);
    }

    #[test]
    fn every_reply_says_something_and_is_short_enough_to_be_read() {
        for reply in every_reply() {
            let text = reply.text(&Rulebook::default());
            assert!(!text.trim().is_empty());
            let chars = text.chars().count();
            assert!(chars <= REPLY_MAX_CHARS, "{chars} characters:\n{text}");
        }
    }

    #[test]
    fn no_reply_without_data_shows_a_number_that_could_be_somebodys() {
        for reply in every_reply() {
            if !matches!(reply, Reply::Conclusion(_) | Reply::Today(_) | Reply::Dropped(_)) {
                assert_eq!(long_numbers(&reply.text(&Rulebook::default())), [""; 0], "{reply:?}");
            }
        }
    }

    #[test]
    fn the_example_of_every_guide_would_be_accepted() {
        for provider in Provider::ALL {
            let guide = format_guide(&Rulebook::default(), provider);
            let example = guide.split("Contoh:\n").nth(1).unwrap().split("\n\n").next().unwrap();
            let reading =
                people::read(&Rulebook::default(), provider, [example.replace('X', "0").as_str()], TODAY)
                    .unwrap();
            assert!(reading.entries[0].verdict.is_ok(), "{provider:?}: {reading:?}");
            assert!(reading.remainder.is_empty());
        }
    }

    #[test]
    fn every_fault_is_told_in_its_own_words() {
        let mut told: Vec<String> = every_fault().iter().map(fault_text).collect();
        told.extend([ClashField::Kjp, ClashField::Ktp].map(|field| clash_text(&clash(field, false))));
        told.extend(
            [ClashField::Kjp, ClashField::Ktp, ClashField::Nama].map(|field| clash_text(&clash(field, true))),
        );
        let all = told.len();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), all);
        assert!(length_text(Field::NoKjp, 14, 16, 18).contains("kurang 2 angka"));
        assert!(length_text(Field::NoKtp, 17, 16, 16).contains("kelebihan 1 angka"));
    }

    #[test]
    fn a_stranger_is_never_named() {
        for field in [ClashField::Kjp, ClashField::Ktp, ClashField::Nama] {
            assert!(!clash_text(&clash(field, false)).contains("Wati"));
        }
        assert!(clash_text(&clash(ClashField::Ktp, true)).contains("Wati"));
        let refused = |own| {
            let reasons = vec![Reason::Clash(clash(ClashField::Ktp, own))];
            vec![Refused { entry: 0, nama: "Ani".into(), reasons }]
        };
        let text = |own| {
            let place = Provider::DharmaJaya.place(1).unwrap();
            let (saved, known, remainder, today) = (vec![], vec![], vec![], vec![]);
            Reply::Conclusion(Conclusion { place, saved, known, refused: refused(own), remainder, today })
                .text(&Rulebook::default())
        };
        assert!(text(false).contains("admin") && !text(true).contains("admin"));
    }

    #[test]
    fn waiting_data_is_never_called_saved_or_valid() {
        for reply in [
            Reply::ProviderMenu { waiting: 1 },
            Reply::PlaceMenu { provider: Provider::DharmaJaya, waiting: 2 },
        ] {
            assert!(reply.text(&Rulebook::default()).contains("belum diperiksa dan belum disimpan"));
        }
    }

    #[test]
    fn a_conclusion_counts_what_it_does_not_show() {
        let text = conclusion(15, 0, 15, 1, 40).text(&Rulebook::default());
        assert!(text.contains("15 tersimpan, 16 belum. Total hari ini: 40."), "{text}");
        // Of saved, of warnings, of refused people, and of all of today.
        assert_eq!(text.matches("… dan ").count(), 4, "{text}");
        let whole_success = conclusion(15, 0, 0, 0, 1).text(&Rulebook::default());
        // All who were saved, and the one of today.
        assert_eq!(whole_success.matches("GURU HONORER 504948").count(), 16, "{whole_success}");
        let rest = |shown| format!("after {shown}");
        assert_eq!(bounded(&["a".into(), "b".into(), "c".into()], &rest, 4), "a\nb\nafter 2");
        assert_eq!(bounded(&["a".into(), "b".into()], &rest, 4), "a\nb");
    }

    #[test]
    fn everybody_who_was_not_stored_is_told_at_least_by_number() {
        let text = conclusion(0, 0, 30, 0, 0).text(&Rulebook::default());
        let (explained, rest) = text.split_once("lagi: data ke-").expect("not all fit");
        let (rest, _) = rest.split_once('\n').expect("more follows");
        let mut told: Vec<usize> =
            (1..=30).filter(|number| explained.contains(&format!("(data ke-{number})"))).collect();
        told.extend(rest.split(", ").map(|number| number.parse::<usize>().expect(rest)));
        assert_eq!(told, (1..=30).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn data_that_is_sent_again_is_known_and_needs_no_repair() {
        let again = conclusion(0, 1, 0, 0, 1).text(&Rulebook::default());
        assert!(again.contains("sudah terdaftar") && !again.contains("perbaiki"), "{again}");
        assert!(!again.contains("Belum tersimpan"), "{again}");
        let more = conclusion(1, 1, 0, 0, 2).text(&Rulebook::default());
        assert!(more.contains("berhasil*: 1 orang") && more.contains("Sudah terdaftar sebelumnya"), "{more}");
    }

    #[test]
    fn a_name_cannot_change_the_look_of_a_reply() {
        assert_eq!(quoted("*Ani*\n~x~`"), "Anix");
        assert_eq!(quoted(&"é".repeat(50)).chars().count(), QUOTE_MAX_CHARS);
    }

    proptest! {
        #[test]
        fn the_list_of_today_is_read_back_as_what_it_lists(rows in rows()) {
            let text = Reply::Today(rows.clone()).text(&Rulebook::default());
            let provider = if rows[0].jenis_kartu.is_none() { Provider::PasarJaya } else { Provider::DharmaJaya };
            let reading = people::read(&Rulebook::default(), provider, [text.as_str()], TODAY).unwrap();
            prop_assert!(reading.remainder.is_empty(), "{text}");
            prop_assert_eq!(reading.entries.len(), rows.len(), "{}", text);
            for (entry, row) in reading.entries.iter().zip(&rows) {
                let person = entry.verdict.as_ref().map_err(|faults| TestCaseError::fail(format!("{faults:?}\n{text}")))?;
                prop_assert_eq!(&person.nama, &row.nama);
                prop_assert_eq!((&person.kjp, &person.ktp, &person.kk), (&row.kjp, &row.ktp, &row.kk));
                prop_assert_eq!(person.tanggal_lahir, row.tanggal_lahir);
                prop_assert_eq!(person.jenis_kartu.map(|(kind, _)| kind.stored()), row.jenis_kartu.as_deref());
            }
        }

        #[test]
        fn replies_hold_only_numbers_of_the_sender(
            written in "([ -~]{0,20}\n){0,8}|([0-9]{14,19}\n){4,40}",
            place in any::<bool>(),
            own in any::<bool>(),
        ) {
            let state = if place { State::Ready { place: Provider::DharmaJaya.place(1).unwrap() } } else { State::Idle };
            let message = Message { at: 1_795_496_400, content: Content::Text(written.as_str().into()) };
            let reply = match step(&Rulebook::default(), &state, message.at, &message).action {
                Action::Reply(reply) => reply,
                Action::Ignore => return Ok(()),
                Action::ListToday { .. } => conclude_list(Vec::new()),
                Action::Register(submission) => {
                    let clash = Outcome::Duplicate(clash(ClashField::Ktp, own));
                    conclude(&submission, &vec![clash; submission.people().count()], &[])
                }
            };
            let text = reply.text(&Rulebook::default());
            prop_assert!(!text.is_empty() && text.chars().count() <= REPLY_MAX_CHARS);
            for number in long_numbers(&text) {
                prop_assert!(written.contains(number));
            }
        }
    }

    #[test]
    fn the_reply_to_a_whole_success_shows_people_total_and_what_to_do_next() {
        let place = Provider::DharmaJaya.place(4).unwrap();
        let people::Reading { entries, remainder } =
            people::read(&Rulebook::default(), place.provider, [ANI], TODAY).unwrap();
        let submission = Submission { place, day: TODAY, entries, remainder };
        let text = conclude(&submission, &[Outcome::Stored], &[row(1), row(2)]).text(&Rulebook::default());
        for part in ["berhasil", "1 orang", "Cakung", "Ani", "KJP 5049488500000000", "hari ini (2)", "*2*"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}

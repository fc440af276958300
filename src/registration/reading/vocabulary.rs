//! The words that families write beside their data: labels, kinds of card, places, chat (RULES.md §3).

use super::tokens::APOSTROPHES;
use crate::registration::CardType;

/// What a word or phrase says about what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    Name,
    Card,
    Kind(CardType),
    Nik,
    Kk,
    BirthDate,
    /// A field that nobody asked for: what follows it is passed over.
    Other,
    /// One of these, with a number that may look like one of ours.
    Foreign,
    /// Where the food is handed out. It stands for itself.
    Place,
    /// `no`, `nomor`: of whatever comes.
    Number,
}

use Label::{BirthDate, Card, Foreign, Kind, Kk, Name, Nik, Number, Other, Place};

/// Phrases of lower-case ASCII words with single spaces between them, in order. Dots, dashes, slashes and
/// brackets between the words of a text make no difference.
const PHRASES: &[(&str, Label)] = &[
    ("a n", Name),
    ("agama", Other),
    ("alamat", Other),
    ("an", Name),
    ("anak", Name),
    ("anak ke", Other),
    ("antrian", Other),
    ("apartemen", Other),
    ("asal sekolah", Other),
    ("atas nama", Name),
    ("atm", Card),
    ("ayah", Other),
    ("bambu larangan", Place),
    ("bapak", Other),
    ("berat badan", Other),
    ("berlaku", Other),
    ("berlaku sampai", Other),
    ("birth date", BirthDate),
    ("blok", Other),
    ("born", BirthDate),
    ("bpjs", Foreign),
    ("cacat", Kind(CardType::Disabilitas)),
    ("cakung", Place),
    ("catatan", Other),
    ("cengkareng", Place),
    ("cipinang", Place),
    ("cita cita", Other),
    ("clj", Kind(CardType::Lansia)),
    ("dasa wisma", Kind(CardType::Dasawisma)),
    ("dasawisma", Kind(CardType::Dasawisma)),
    ("date of birth", BirthDate),
    ("dawis", Kind(CardType::Dasawisma)),
    ("desa", Other),
    ("dharma jaya", Place),
    ("dharmajaya", Place),
    ("dibuat", Other),
    ("difabel", Kind(CardType::Disabilitas)),
    ("dikeluarkan", Other),
    ("disabilitas", Kind(CardType::Disabilitas)),
    ("disablitas", Kind(CardType::Disabilitas)),
    ("diterbitkan", Other),
    ("dob", BirthDate),
    ("domisili", Other),
    ("duri kosambi", Place),
    ("dusun", Other),
    ("e ktp", Nik),
    ("ektp", Nik),
    ("email", Other),
    ("exp", Other),
    ("expire", Other),
    ("expired", Other),
    ("fod station", Place),
    ("food station", Place),
    ("foodstation", Place),
    ("gang", Other),
    ("gerai", Other),
    ("gg", Other),
    ("gol darah", Other),
    ("golongan darah", Other),
    ("guru", Kind(CardType::GuruHonorer)),
    ("guru honorer", Kind(CardType::GuruHonorer)),
    ("guruhonorer", Kind(CardType::GuruHonorer)),
    ("handphone", Foreign),
    ("hari lahir", BirthDate),
    ("hobi", Other),
    ("honorer", Kind(CardType::GuruHonorer)),
    ("hp", Foreign),
    ("hp wa", Foreign),
    ("hubungan", Other),
    ("ibu", Other),
    ("istri", Other),
    ("jakgrosir", Other),
    ("jakmart", Other),
    ("jalan", Other),
    ("jenis", Card),
    ("jenis kartu", Card),
    ("jenis kelamin", Other),
    ("jk", Other),
    ("jl", Other),
    ("jln", Other),
    ("k k", Kk),
    ("kab", Other),
    ("kabupaten", Other),
    ("kaj", Kind(CardType::Kaj)),
    ("kakek", Other),
    ("kampung", Other),
    ("kapuk jagal", Place),
    ("kartu", Card),
    ("kartu anak jakarta", Kind(CardType::Kaj)),
    ("kartu atm", Card),
    ("kartu dasawisma", Kind(CardType::Dasawisma)),
    ("kartu jakarta pintar", Kind(CardType::Kjp)),
    ("kartu keluarga", Kk),
    ("kartu lansia", Kind(CardType::Lansia)),
    ("kartu lansia jakarta", Kind(CardType::Lansia)),
    ("kartu pekerja", Kind(CardType::Pekerja)),
    ("kartu pekerja jakarta", Kind(CardType::Pekerja)),
    ("kartu penyandang disabilitas", Kind(CardType::Disabilitas)),
    ("kartu penyandang disabilitas jakarta", Kind(CardType::Disabilitas)),
    ("kartu tanda penduduk", Nik),
    ("kec", Other),
    ("kecamatan", Other),
    ("kedoya", Place),
    ("kel", Other),
    ("kelahiran", BirthDate),
    ("kelamin", Other),
    ("kelas", Other),
    ("kelurahan", Other),
    ("kepala keluarga", Other),
    ("keterangan", Other),
    ("kewarganegaraan", Other),
    ("kip", Foreign),
    ("kjmu", Card),
    ("kjp", Kind(CardType::Kjp)),
    ("kjp plus", Kind(CardType::Kjp)),
    ("kk", Kk),
    ("klj", Kind(CardType::Lansia)),
    ("kode pos", Foreign),
    ("komplek", Other),
    ("kompleks", Other),
    ("kota", Other),
    ("kp", Other),
    ("kpdj", Kind(CardType::Disabilitas)),
    ("kpj", Kind(CardType::Pekerja)),
    ("ktp", Nik),
    ("lahir", BirthDate),
    ("lahir tanggal", BirthDate),
    ("lahir tgl", BirthDate),
    ("lanjut usia", Kind(CardType::Lansia)),
    ("lansia", Kind(CardType::Lansia)),
    ("lantai", Other),
    ("lhr", BirthDate),
    ("lns", Kind(CardType::Lansia)),
    ("lokasi", Other),
    ("lorong", Other),
    ("ls", Kind(CardType::Lansia)),
    ("mama", Other),
    ("masa berlaku", Other),
    ("mini dc", Other),
    ("nama", Name),
    ("nama ayah", Other),
    ("nama bapak", Other),
    ("nama bapak ibu", Name),
    ("nama ibu", Other),
    ("nama ibu bapak", Name),
    ("nama istri", Other),
    ("nama kepala keluarga", Other),
    ("nama lokasi", Other),
    ("nama orang tua", Other),
    ("nama orangtua", Other),
    ("nama ortu", Other),
    ("nama pasangan", Other),
    ("nama pengambil", Other),
    ("nama pengirim", Other),
    ("nama sekolah", Other),
    ("nama suami", Other),
    ("nama wali", Other),
    ("name", Name),
    ("nenek", Other),
    ("nik", Nik),
    ("nik ayah", Foreign),
    ("nik bapak", Foreign),
    ("nik ibu", Foreign),
    ("nik kepala keluarga", Foreign),
    ("nik orang tua", Foreign),
    ("nik ortu", Foreign),
    ("nik wali", Foreign),
    ("nip", Foreign),
    ("nis", Foreign),
    ("nisn", Foreign),
    ("nm", Name),
    ("nmr", Number),
    ("no", Number),
    ("no induk kependudukan", Nik),
    ("no induk siswa", Foreign),
    ("no kip", Foreign),
    ("nomer", Number),
    ("nomor", Number),
    ("nomor induk kependudukan", Nik),
    ("nomor induk siswa", Foreign),
    ("note", Other),
    ("npwp", Foreign),
    ("nuptk", Foreign),
    ("orang tua", Other),
    ("orangtua", Other),
    ("papa", Other),
    ("pasar", Other),
    ("pasar jaya", Place),
    ("pasarjaya", Place),
    ("paspor", Foreign),
    ("pekerja", Kind(CardType::Pekerja)),
    ("pekerja jakarta", Kind(CardType::Pekerja)),
    ("pekerjaan", Other),
    ("pemohon", Name),
    ("penanggung jawab", Other),
    ("pendaftar", Name),
    ("pendidikan", Other),
    ("penerima", Name),
    ("pengambil", Other),
    ("pengirim", Other),
    ("penyandang disabilitas", Kind(CardType::Disabilitas)),
    ("perum", Other),
    ("perumahan", Other),
    ("peserta", Name),
    ("pjlp", Kind(CardType::Pjlp)),
    ("pkh", Foreign),
    ("pkj", Kind(CardType::Pekerja)),
    ("pkja", Kind(CardType::Pekerja)),
    ("ponsel", Foreign),
    ("prov", Other),
    ("provinsi", Other),
    ("pulo gadung", Place),
    ("pulogadung", Place),
    ("rek", Foreign),
    ("rekening", Foreign),
    ("rt", Other),
    ("rumah susun", Kind(CardType::Rusun)),
    ("rusun", Kind(CardType::Rusun)),
    ("rusun pesakih", Place),
    ("rusunpesakih", Place),
    ("rw", Other),
    ("sdn", Other),
    ("sekolah", Other),
    ("sma", Other),
    ("sman", Other),
    ("smk", Other),
    ("smkn", Other),
    ("smp", Other),
    ("smpn", Other),
    ("status", Other),
    ("suami", Other),
    ("tanggal", BirthDate),
    ("tanggal ambil", Other),
    ("tanggal daftar", Other),
    ("tanggal kelahiran", BirthDate),
    ("tanggal lahir", BirthDate),
    ("tanggal lhr", BirthDate),
    ("tanggal pendaftaran", Other),
    ("tanggal pengambilan", Other),
    ("tanggal terbit", Other),
    ("telepon", Foreign),
    ("telp", Foreign),
    ("telpon", Foreign),
    ("tempat dan tanggal lahir", BirthDate),
    ("tempat dan tgl lahir", BirthDate),
    ("tempat lahir", Other),
    ("tempat tanggal lahir", BirthDate),
    ("tempat tgl lahir", BirthDate),
    ("tempat tgl lhr", BirthDate),
    ("tempat tinggal", Other),
    ("terbit", Other),
    ("tggl", BirthDate),
    ("tgl", BirthDate),
    ("tgl ambil", Other),
    ("tgl daftar", Other),
    ("tgl lahir", BirthDate),
    ("tgl lhr", BirthDate),
    ("tgl pendaftaran", Other),
    ("tgl pengambilan", Other),
    ("tgl terbit", Other),
    ("tgllahir", BirthDate),
    ("tinggi badan", Other),
    ("tl", BirthDate),
    ("tlp", Foreign),
    ("tmpt tgl lahir", BirthDate),
    ("ttl", BirthDate),
    ("ulang tahun", BirthDate),
    ("umur", Other),
    ("usia", Other),
    ("valid thru", Other),
    ("virtual account", Foreign),
    ("wa", Foreign),
    ("wali", Other),
    ("whatsapp", Foreign),
    ("yang ambil", Other),
    ("yg ambil", Other),
];

/// Labels that are also names or parts of names: only with a colon, a dot or a number behind them, or after `no`.
const ALSO_NAMES: &[&str] = &[
    "a n",
    "an",
    "anak",
    "ayah",
    "bapak",
    "born",
    "desa",
    "dob",
    "ibu",
    "istri",
    "kakek",
    "kelahiran",
    "kota",
    "mama",
    "nenek",
    "papa",
    "pemohon",
    "pendaftar",
    "penerima",
    "pengirim",
    "peserta",
    "status",
    "suami",
    "tl",
    "wa",
    "wali",
];

/// Words that may stand between `nama` and the name: whose name it is, and where it is written.
const WHOSE_NAME: &[&str] = &[
    "anak",
    "anggota",
    "asli",
    "atm",
    "bersangkutan",
    "calon",
    "di",
    "kartu",
    "keluarga",
    "kjp",
    "kk",
    "ktp",
    "lengkap",
    "murid",
    "nasabah",
    "nya",
    "orang",
    "pada",
    "pelajar",
    "pemegang",
    "pemilik",
    "pendaftar",
    "penerima",
    "penerimanya",
    "pengguna",
    "penyandang",
    "peserta",
    "saya",
    "sesuai",
    "siswa",
    "siswi",
    "sy",
    "wakil",
    "yang",
    "yg",
];

/// Somebody else of the family.
const KIN: &[&str] = &[
    "adik", "ayah", "bapak", "ibu", "istri", "kakak", "kakek", "mama", "nenek", "ortu", "papa", "suami",
    "wali",
];

/// Whose number it is, between its label and the number.
const WHOSE_NUMBER: &[&str] = &[
    "anak",
    "anaknya",
    "lengkap",
    "nya",
    "pelajar",
    "pemilik",
    "pendaftar",
    "penerima",
    "peserta",
    "saya",
    "siswa",
    "siswi",
    "sy",
    "ybs",
];

/// Words of chat that no name has.
const CHAT: &[&str] = &[
    "aamiin",
    "ada",
    "admin",
    "aku",
    "alhamdulillah",
    "ambil",
    "amiin",
    "amin2",
    "anakku",
    "anda",
    "antre",
    "antri",
    "apa",
    "apakah",
    "asalamualaikum",
    "askum",
    "aslkm",
    "aslmkm",
    "ass",
    "assalamu",
    "assalamualaikum",
    "asslamualaikum",
    "asslm",
    "asslmkm",
    "bagaimana",
    "bantu",
    "bantuan",
    "bantuannya",
    "barakallah",
    "barokallah",
    "baru",
    "batal",
    "batalkan",
    "belum",
    "benar",
    "berikut",
    "berikutnya",
    "bersubsidi",
    "besok",
    "betul",
    "bisa",
    "bismillahirohmanirohim",
    "bismillahirrahmanirrahim",
    "blm",
    "bot",
    "buat",
    "buddhaya",
    "cancel",
    "cek",
    "contoh",
    "daftar",
    "daftarin",
    "daftarkan",
    "daftarnya",
    "dah",
    "dapat",
    "dari",
    "data",
    "datanya",
    "deh",
    "demikian",
    "dengan",
    "dgn",
    "di",
    "diambil",
    "dibantu",
    "didaftarin",
    "didaftarkan",
    "ditolak",
    "ditunggu",
    "dong",
    "donk",
    "dulu",
    "format",
    "gak",
    "ganti",
    "gimana",
    "gitu",
    "gue",
    "gw",
    "habis",
    "hadeh",
    "hallo",
    "halo",
    "hapus",
    "hari",
    "hatur",
    "hbs",
    "hello",
    "help",
    "hormat",
    "ijin",
    "inggih",
    "ingin",
    "ini",
    "itu",
    "izin",
    "jakarta",
    "jakbar",
    "jakpus",
    "jaksel",
    "jaktim",
    "jakut",
    "jam",
    "jazakallah",
    "jazakumullah",
    "juga",
    "kabar",
    "kabarnya",
    "kalau",
    "kalo",
    "kami",
    "kapan",
    "ke",
    "keluarga",
    "keluargaku",
    "kenapa",
    "kepada",
    "ketik",
    "khairan",
    "khoiron",
    "kirim",
    "kita",
    "kk",
    "klo",
    "knp",
    "kok",
    "koreksi",
    "kulonuwun",
    "kuota",
    "lagi",
    "lama",
    "lanjutan",
    "lho",
    "loh",
    "maaf",
    "makasi",
    "makasih",
    "makasihh",
    "makasihya",
    "makasii",
    "makasiih",
    "malam",
    "masih",
    "masuk",
    "matur",
    "maturnuwun",
    "mau",
    "mendaftar",
    "mertua",
    "minta",
    "mksh",
    "mlm",
    "mohon",
    "monggo",
    "msh",
    "nanti",
    "nggih",
    "nih",
    "nomer",
    "nuhun",
    "nuwun",
    "nya",
    "ok",
    "oke",
    "operator",
    "orang",
    "pagi",
    "pangan",
    "pendaftaran",
    "pengambilan",
    "perbaikan",
    "perhatian",
    "perhatiannya",
    "permisi",
    "petugas",
    "pgi",
    "please",
    "pls",
    "punten",
    "punteun",
    "ralat",
    "registrasi",
    "revisi",
    "saja",
    "salah",
    "sama",
    "samlekum",
    "sampurasun",
    "sana",
    "saya",
    "sdh",
    "segitu",
    "sekalian",
    "sekian",
    "selanjutnya",
    "seluruh",
    "sembako",
    "semoga",
    "semua",
    "semuanya",
    "shalom",
    "sih",
    "sini",
    "sistem",
    "situ",
    "sng",
    "sore",
    "subsidi",
    "sudah",
    "suwon",
    "suwun",
    "swastiastu",
    "sy",
    "syalom",
    "tabik",
    "tanya",
    "tempat",
    "terdaftar",
    "terhormat",
    "terima",
    "terimakasih",
    "tersimpan",
    "tetangga",
    "thanks",
    "thx",
    "titipan",
    "tks",
    "tlg",
    "tolong",
    "trima",
    "trimakasih",
    "trims",
    "trmksh",
    "ttd",
    "tuh",
    "ubah",
    "udah",
    "udh",
    "untuk",
    "utk",
    "waalaikum",
    "wabarakatuh",
    "warahmatullahi",
    "wassalam",
    "wassalamualaikum",
    "wb",
    "wr",
    "ya",
    "yaa",
    "yah",
    "yang",
    "yg",
    "yth",
];

/// Words of chat that are names as well: chat beside other chat, or where nothing else stands.
const CHAT_OR_NAME: &[&str] = &[
    "agan",
    "aja",
    "amat",
    "amin",
    "atas",
    "bang",
    "banyak",
    "bapak",
    "bawah",
    "berkah",
    "bismillah",
    "bos",
    "bosku",
    "bpk",
    "bu",
    "bude",
    "budhe",
    "bulan",
    "bunda",
    "dan",
    "gan",
    "hai",
    "hi",
    "ibu",
    "istri",
    "jkt",
    "jumat",
    "kak",
    "kaka",
    "kakak",
    "kamis",
    "kasih",
    "kulo",
    "lancar",
    "lanjut",
    "mangga",
    "mas",
    "mba",
    "mbak",
    "met",
    "milik",
    "mimin",
    "min",
    "minggu",
    "namo",
    "om",
    "p",
    "pa",
    "pak",
    "pakde",
    "rabu",
    "sabtu",
    "salam",
    "sanget",
    "sehat",
    "sejahtera",
    "selalu",
    "selamat",
    "selasa",
    "sendiri",
    "senin",
    "siang",
    "siap",
    "sip",
    "sis",
    "suami",
    "sukses",
    "susah",
    "tahun",
    "tambahan",
    "tante",
    "tes",
    "test",
    "titip",
];

/// Words before a name, which with `guru` are how a teacher is called.
pub const TEACHERS: &[&str] = &["bapak", "bu", "ibu", "pak"];

/// Answers to fields that nobody asked for, which stand alone: sex, religion; and what stands before a date.
const ANSWERS: &[&str] = &[
    // Days, before a date.
    "ahad",
    "jakarta",
    "jkt",
    "jumat",
    "kamis",
    "minggu",
    "rabu",
    "sabtu",
    "selasa",
    "senin",
    "budha",
    "buddha",
    "hindu",
    "islam",
    "katholik",
    "katolik",
    "konghucu",
    "kristen",
    "l",
    "laki",
    "lk",
    "p",
    "perempuan",
    "pr",
    "pria",
    "protestan",
    "wanita",
    "wni",
];

/// The longest phrase that begins with the first of these words, and how many of them it takes. The words are
/// lower-case.
pub fn phrase(words: &[&str]) -> Option<(Label, usize)> {
    let first = *words.first()?;
    let from = PHRASES.partition_point(|(phrase, _)| *phrase < first);
    let mut longest = None;
    for (phrase, label) in &PHRASES[from..] {
        if !phrase.starts_with(first) {
            break;
        }
        let count = phrase.split(' ').count();
        if longest.is_none_or(|(_, so_far)| count > so_far)
            && phrase.split(' ').eq(words.iter().take(count).copied())
        {
            longest = Some((*label, count));
        }
    }
    longest
}

/// Whether a phrase begins with this word.
pub fn begins_phrase(word: &str) -> bool {
    let place = PHRASES.partition_point(|(phrase, _)| *phrase < word);
    // Of the phrases that begin with these letters the word alone, or with a space behind it, is the first.
    let behind = PHRASES.get(place).and_then(|(phrase, _)| phrase.strip_prefix(word));
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(' '))
}

/// Whether a label needs a mark behind it to be one.
pub fn is_also_name(words: &[&str]) -> bool {
    ALSO_NAMES.iter().any(|phrase| phrase.split(' ').eq(words.iter().copied()))
}

/// Somebody else of the family, whose numbers are not asked for.
pub fn is_kin(word: &str) -> bool {
    KIN.contains(&word)
}

/// Words that may stand between the label of a number and the number.
pub fn is_whose_number(word: &str) -> bool {
    WHOSE_NUMBER.contains(&word)
}

/// Whether this is an answer to a question that nobody asked, such as the sex.
pub fn is_answer(text: &str) -> bool {
    let text = text.replace(APOSTROPHES, "").to_ascii_lowercase();
    text.split(|c: char| !c.is_alphanumeric()).all(|word| word.is_empty() || ANSWERS.contains(&word))
}

pub fn is_whose_name(word: &str) -> bool {
    WHOSE_NAME.binary_search(&word).is_ok()
}

/// Beginnings of words of chat that are spelled in many ways.
const CHAT_BEGINS: &[&str] =
    &["asalam", "aslm", "assalam", "mendaftar", "pendaftar", "terimakas", "wassalam"];

/// What stands behind a name and a comma, beside what has a dot in it.
const TITLES: &[&str] = &[
    "ag", "amd", "dr", "drs", "h", "hj", "ma", "mm", "mpd", "msi", "se", "sh", "ska", "skm", "skom", "spd",
    "st",
];

/// Whether this is nothing but titles.
pub fn is_only_titles(text: &str) -> bool {
    text.split_whitespace().all(|word| {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        (word.contains('.') && letters <= 4) || TITLES.contains(&word.to_ascii_lowercase().as_str())
    })
}

/// Whether words behind a comma belong to the name before it.
pub fn is_title(text: &str) -> bool {
    text.contains('.') || TITLES.contains(&text.trim().to_ascii_lowercase().as_str())
}

/// Whether somebody is taken back with these words.
pub fn withdraws(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|word| matches!(word, "batal" | "batalkan" | "cancel"))
}

/// What words are that are no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    Name,
    /// A name only where a name must stand: in a list, or beside numbers.
    Either,
    Chat,
}

/// Tells chat from names. The words are lower-case, without apostrophes.
pub fn words(words: &[&str]) -> Words {
    let is = |list: &[&str], word: &&&str| list.binary_search(*word).is_ok();
    let begins = |word: &&&str| CHAT_BEGINS.iter().any(|begin| word.starts_with(begin));
    let chat = words.iter().filter(|word| is(CHAT, word) || begins(word)).count();
    let maybe = words.iter().filter(|word| is(CHAT_OR_NAME, word)).count();
    let answers = words.iter().filter(|word| ANSWERS.contains(*word)).count();
    let greeting =
        words.windows(2).any(|pair| pair[0] == "selamat" && CHAT_OR_NAME.binary_search(&pair[1]).is_ok());
    if chat > 0 || greeting || answers == words.len() {
        Words::Chat
    } else if maybe == words.len() {
        Words::Either
    } else {
        Words::Name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_and_words_are_in_order_so_that_they_are_found() {
        assert!(
            PHRASES.is_sorted_by(|(a, _), (b, _)| a < b),
            "{:?}",
            PHRASES.windows(2).find(|pair| pair[0].0 >= pair[1].0)
        );
        assert!(WHOSE_NAME.is_sorted() && CHAT.is_sorted() && CHAT_OR_NAME.is_sorted());
    }

    #[test]
    fn the_first_word_of_a_phrase_is_known() {
        for (phrase, _) in PHRASES {
            assert!(begins_phrase(phrase.split(' ').next().unwrap()), "{phrase}");
        }
        for word in ["kartika", "kar", "an a", "zebra"] {
            assert!(!begins_phrase(word), "{word}");
        }
    }

    #[test]
    fn the_longest_phrase_wins() {
        assert_eq!(phrase(&["kartu", "keluarga", "317"]), Some((Kk, 2)));
        assert_eq!(phrase(&["kartu", "atm", "kjp"]), Some((Card, 2)));
        assert_eq!(phrase(&["kartu"]), Some((Card, 1)));
        assert_eq!(phrase(&["kartika"]), None);
        assert_eq!(phrase(&[]), None);
    }
}

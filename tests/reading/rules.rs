//! Each rule of `src/registration/RULES.md` about reading, with small examples. C16, C18, L16, NIK and KKK stand for
//! invented numbers; an answer lists name, card, NIK, KK, date and kind, or what is wrong.

use bot_kjp::registration::{Provider, Rulebook, people};
use jiff::civil::{Date, date};

const TODAY: Date = date(2026, 11, 24);
const NUMBERS: [(&str, &str); 6] = [
    ("C16", "5049488500000000"),
    ("C18", "504948850000000000"),
    ("L16", "5049488600000000"),
    ("NIK", "3171010101900000"),
    ("KKK", "3171010101100000"),
    ("N2K", "3171010202900000"),
];

fn filled(text: &str) -> String {
    NUMBERS.iter().fold(text.to_owned(), |text, (name, digits)| text.replace(name, digits))
}

/// What was understood: one person a word group, parted by `; `.
fn answer(provider: Provider, text: &str) -> String {
    let reading = people::read_all(&Rulebook::default(), provider, [filled(text).as_str()], TODAY);
    let people = reading.entries.iter().map(|entry| {
        let what = match &entry.verdict {
            Ok(person) => {
                let mut all = vec![
                    person.kjp.expose().to_owned(),
                    person.ktp.expose().to_owned(),
                    person.kk.expose().to_owned(),
                ];
                all.extend(person.tanggal_lahir.map(|born| born.to_string()));
                all.extend(person.jenis_kartu.map(|(kind, _)| kind.stored().to_owned()));
                all.join(" ")
            }
            Err(faults) => {
                let all: Vec<String> =
                    faults.iter().map(|fault| format!("{}:{}", fault.field().wire(), fault.wire())).collect();
                all.join(" ")
            }
        };
        let warnings: String = entry.warnings.iter().map(|warning| format!(" !{}", warning.wire())).collect();
        format!("{} = {what}{warnings}", entry.nama.expose())
    });
    let mut all: Vec<String> = people.collect();
    all.extend(reading.remainder.iter().map(|line| format!("? {}", line.expose())));
    all.join("; ")
}

#[track_caller]
fn at(provider: Provider, text: &str, wanted: &str) {
    assert_eq!(answer(provider, text), filled(wanted), "{text}");
}

#[track_caller]
fn dharmajaya(text: &str, wanted: &str) {
    at(Provider::DharmaJaya, text, wanted);
}

#[track_caller]
fn pasarjaya(text: &str, wanted: &str) {
    at(Provider::PasarJaya, text, wanted);
}

const ANI: &str = "Ani = C16 NIK KKK KJP";

#[test]
fn one_person_is_a_name_a_card_a_nik_and_a_kk_and_at_pasarjaya_a_birth_date() {
    dharmajaya("Ani\nC16\nNIK\nKKK", ANI);
    at(Provider::FoodStation, "Ani\nC16\nNIK\nKKK", ANI);
    pasarjaya("Ani\nC16\nNIK\nKKK\n20-01-2015", "Ani = C16 NIK KKK 2015-01-20");
    dharmajaya("Ani\nC16\nNIK\nKKK\nBudi\nC18\nN2K\nKKK", "Ani = C16 NIK KKK KJP; Budi = C18 N2K KKK KJP");
    pasarjaya(
        "Ani\nC16\nNIK\nKKK\n20-01-2015\nBudi\nC18\nN2K\nKKK\n21-01-2015",
        "Ani = C16 NIK KKK 2015-01-20; Budi = C18 N2K KKK 2015-01-21",
    );
}

#[test]
fn what_phones_and_hands_add_is_cleaned_away() {
    for text in [
        "A\u{200B}ni\nC1\u{202A}6\nNIK\nKKK",
        "Ani\r\nC16\r\nNIK\rKKK",
        "Ani\n\u{3000}C16\nNIK\u{A0}\nKKK",
        "Ani\nKJP..C16\nNIK.\nKKK...",
        "Ani\nKJP=C16\nktp::::NIK\nkk: KKK",
    ] {
        let text = text.replace("C1\u{202A}6", "50494885\u{202A}00000000");
        dharmajaya(&text, ANI);
    }
    dharmajaya("Ani\nＫＪＰ　５０４９４８８５００００００００\nNIK\nKKK", ANI);
    dharmajaya("Hj. Ani\nC16\nNIK\nKKK", "Hj. Ani = C16 NIK KKK KJP");
    dharmajaya("Ani\ndisablitas L16\nNIK\nKKK", "Ani = L16 NIK KKK DISABILITAS");
}

#[test]
fn a_label_alone_is_the_label_of_the_next_line() {
    for text in [
        "Ani\nC16\nKTP\nNIK\nKKK",
        "Ani\nC16\nNo KTP:\nNIK\nNo KK:\nKKK",
        "Nama\nAni\nKJP\nC16\nKTP\nNIK\nKK\nKKK",
    ] {
        dharmajaya(text, ANI);
    }
    dharmajaya("Ani\nC16\nKTP\n12345\nKKK", "Ani = no_ktp:invalid_length");
    dharmajaya("Ani\nLANSIA\nL16\nNIK\nKKK", "Ani = L16 NIK KKK LANSIA");
}

#[test]
fn what_stands_on_one_line_comes_apart() {
    for text in [
        "Ani C16\nNIK\nKKK",
        "Ani kjp:C16\nNIK\nKKK",
        "Ani kjpC16\nNIK\nKKK",
        "Ani\nkjp: C16 ktp: NIK\nKKK",
        "Ani\nkjp:C16ktp:NIK\nKKK",
        "Ani\nC16\nNik NIK Kk KKK",
        "Ani\nC16 NIK KKK",
        "Ani\nC16 kjp NIK ktp KKK kk",
        "Ani\nC16\nNIKKKK",
        "Ani KJP:C16ktp:NIKkk:KKK",
        "Ani, C16, NIK, KKK",
        "Ani / C16 / NIK / KKK",
        "Ani\tC16\tNIK\tKKK",
    ] {
        dharmajaya(text, ANI);
    }
    dharmajaya("Ani\nC18 NIK\nKKK", "Ani = C18 NIK KKK KJP");
    dharmajaya("Ani L16 lansia\nNIK\nKKK", "Ani = L16 NIK KKK LANSIA");
}

#[test]
fn every_spelling_of_a_kind_stays_with_its_card() {
    for (kind, stored) in [
        ("klj", "LANSIA"),
        ("lns", "LANSIA"),
        ("ls", "LANSIA"),
        ("lanjut usia", "LANSIA"),
        ("pkj", "PEKERJA"),
        ("pkja", "PEKERJA"),
        ("kartu pekerja jakarta", "PEKERJA"),
        ("difabel", "DISABILITAS"),
        ("cacat", "DISABILITAS"),
        ("kpdj", "DISABILITAS"),
        ("dasa wisma", "DASAWISMA"),
        ("dawis", "DASAWISMA"),
        ("rumah susun", "RUSUN"),
        ("guru honorer", "GURU HONORER"),
        ("guru", "GURU HONORER"),
        ("pjlp", "PJLP"),
        ("P.J.L.P", "PJLP"),
        ("KAJ", "KAJ"),
    ] {
        let wanted = format!("Ani = L16 NIK KKK {stored}");
        dharmajaya(&format!("Ani\n{kind} L16\nNIK\nKKK"), &wanted);
        dharmajaya(&format!("Ani\nL16 ({kind})\nNIK\nKKK"), &wanted);
        dharmajaya(&format!("Ani {kind} L16\nNIK\nKKK"), &wanted);
        dharmajaya(&format!("Ani\n{kind}\nL16\nNIK\nKKK"), &wanted);
    }
    for beside in ["No. KJP", "Nomor kartu KJP", "KJP/ATM", "Kjp (", "KJP-"] {
        dharmajaya(&format!("Ani\n{beside} C16\nNIK\nKKK"), ANI);
    }
    dharmajaya("Ani\nlansia kjp L16\nNIK\nKKK", "Ani = L16 NIK KKK KJP");
}

#[test]
fn the_groups_of_a_number_are_one_number_and_what_stands_behind_it_is_none_of_it() {
    for card in
        ["5049 4885 0000 0000", "5049-4885-0000-0000", "5049.4885.0000.0000", "C16 08/27", "C16 2", "2. C16"]
    {
        dharmajaya(&format!("Ani\n{card}\nNIK\nKKK"), ANI);
    }
    dharmajaya("Ani / KJP: 5049-4885-0000-0000-60 / NIK / KKK", "Ani = 504948850000000060 NIK KKK KJP");
    dharmajaya("Ani\nC16 12\nNIK\nKKK", "Ani = no_kjp:unclear");
}

#[test]
fn a_name_is_kept_as_it_is_written_without_what_stands_around_it() {
    for (written, name) in [
        ("Nama: Ani", "Ani"),
        ("Nama Lengkap: Ani", "Ani"),
        ("nama anak Ani", "Ani"),
        ("Nama Siswa/i Ani", "Ani"),
        ("Nama (sesuai KTP): Ani", "Ani"),
        ("a.n. Ani", "Ani"),
        ("1. Ani", "Ani"),
        ("• *Ani* 🙏", "Ani"),
        ("1\u{FE0F}\u{20E3} Ani", "Ani"),
        ("> _Ani_", "Ani"),
        ("Purnama", "Purnama"),
        ("Ani (2)", "Ani (2)"),
        ("Ani 2", "Ani 2"),
        ("Siti Nama'ah", "Siti Nama'ah"),
        ("Dr. H. Budi, S.Pd., M.M.", "Dr. H. Budi S.Pd. M.M."),
        ("Nama: Anak Agung", "Anak Agung"),
        ("Pak Guru", "Pak Guru"),
    ] {
        dharmajaya(&format!("{written}\nC16\nNIK\nKKK"), &format!("{name} = C16 NIK KKK KJP"));
    }
    dharmajaya("Ani 2 C16\nNIK\nKKK", "Ani 2 = C16 NIK KKK KJP");
}

#[test]
fn a_line_too_few_costs_one_person() {
    dharmajaya("Ani\nC16\nNIK\n\nBudi\nC18\nN2K\nKKK", "Ani = no_kk:required; Budi = C18 N2K KKK KJP");
    dharmajaya("Ani\nC16\nNIK\nBudi\nC18\nN2K\nKKK", "Ani = no_kk:required; Budi = C18 N2K KKK KJP");
    dharmajaya("C16\nNIK\nKKK\n\nBudi\nC18\nN2K\nKKK\n\nSuwun", " = nama:required; Budi = C18 N2K KKK KJP");
    dharmajaya("1. C16\nNIK\nKKK\n2. Budi\nC18\nN2K\nKKK", " = nama:required; Budi = C18 N2K KKK KJP");
    dharmajaya(
        "Ani\nC16\nNIK\nKKK\nBudi\nC18",
        "Ani = C16 NIK KKK KJP; Budi = no_ktp:required no_kk:required",
    );
}

#[test]
fn whoever_cannot_be_told_apart_is_asked() {
    // Does the name belong to the numbers above or below?
    dharmajaya("C16\nNIK\nKKK\nBudi\nC18\nN2K\nKKK", " = nama:required; Budi = nama:unclear");
    dharmajaya("C16\nNIK\nKKK\nBudi", "Budi = nama:unclear");
    // Which of them?
    dharmajaya("Wati\nAni\nC16\nNIK\nKKK", "Ani = nama:unclear");
    dharmajaya(
        "Ani NIK\nBudi N2K\nKKK\nC16\nC18",
        "Ani = no_kjp:required no_kk:required; Budi = no_ktp:unclear",
    );
    // Taken back, or not?
    dharmajaya("Ani\nC16\nNIK\nKKK\n(batal)", "Ani = nama:unclear");
}

#[test]
fn one_kk_that_stands_apart_is_for_all() {
    let both = "Ani = C16 NIK KKK KJP; Budi = C18 N2K KKK KJP";
    dharmajaya("KK: KKK\n\nAni\nC16\nNIK\n\nBudi\nC18\nN2K", both);
    dharmajaya("Ani\nC16\nNIK\n\nBudi\nC18\nN2K\n\nKK: KKK", both);
    // In the middle it may be anybody's.
    dharmajaya(
        "Ani\nC16\nNIK\n\nKK KKK\n\nBudi\nC18\nN2K",
        "Ani = no_kk:required; Budi = no_kk:required; ? KKK",
    );
}

#[test]
fn labels_make_any_order_safe() {
    for text in [
        "KK: KKK\nNama: Ani\nKTP: NIK\nKJP: C16",
        "KTP: NIK\nKK: KKK\nKJP: C16\nNama: Ani",
        "Nama\tKK\tKTP\tKJP\nAni\tKKK\tNIK\tC16",
    ] {
        dharmajaya(text, ANI);
    }
    dharmajaya(
        "Nama: Ani\nKJP: C16\nKTP: NIK\nKK: KKK\n\nKK: KKK\nKTP: N2K\nKJP: C18\nNama: Budi",
        "Ani = C16 NIK KKK KJP; Budi = C18 N2K KKK KJP",
    );
}

#[test]
fn fields_that_nobody_asked_for_are_passed_over() {
    for other in [
        "No HP 081200000000",
        "+62 812-0000-0000",
        "Alamat: Jl. Mawar No 12 RT 001/RW 002",
        "Agama: Islam",
        "Jenis kelamin: P",
        "Sekolah: SDN 05",
        "Kec. Cakung",
        "Hobi: memasak",
        "Nama ibu: Siti",
        "No BPJS 0001234567890123",
        "KTP ibu: N2K",
        "terima kasih 🙏",
    ] {
        dharmajaya(&format!("Ani\nC16\nNIK\nKKK\n{other}"), ANI);
        dharmajaya(&format!("Nama: Ani\nC16\n{other}\nNIK\nKKK"), ANI);
    }
}

#[test]
fn a_number_of_the_wrong_length_or_kind_is_told() {
    dharmajaya("Ani\n504948850000000\nNIK\nKKK", "Ani = no_kjp:invalid_length");
    dharmajaya("Ani\nC180\nNIK\nKKK", "Ani = no_kjp:invalid_length");
    dharmajaya("Ani\n5049440000000000\nNIK\nKKK", "Ani = no_kjp:invalid_prefix");
    dharmajaya("Ani\n50494885000000000\nNIK\nKKK", "Ani = 50494885000000000 NIK KKK KJP");
    dharmajaya("Ani\nC16\nNIK0\n31710101011000", "Ani = no_ktp:invalid_length no_kk:invalid_length");
    dharmajaya("Ani\nC16\n31710101O1900000\nKKK", "Ani = no_ktp:invalid_character");
    dharmajaya("Ani\nC16\nNIK\n3,17101E+15", "Ani = no_kk:invalid_character");
    dharmajaya("Ani\nC16\n1111111111111111\nKKK", "Ani = no_ktp:invalid_nik");
    dharmajaya("Ani\nC16\n1234567890123456\nKKK", "Ani = no_ktp:invalid_nik");
    dharmajaya("Ani\nC16\nNIK\nNIK", "Ani = no_kk:same_as_other");
    dharmajaya("Ani\nC16\nC16\nKKK", "Ani = no_ktp:same_as_other");
    dharmajaya("Ani\nC16\nNIK\nC16", "Ani = no_kk:same_as_other");
    dharmajaya("Ani\nC16\n081200000000\nKKK", "Ani = no_kk:required");
}

#[test]
fn the_number_or_the_words_beside_it_tell_the_kind_of_card() {
    dharmajaya("Ani\nLANSIA C16\nNIK\nKKK", ANI);
    dharmajaya("Ani\nL16\nNIK\nKKK", "Ani = no_kjp:unknown_card_type");
    dharmajaya("Ani\nsakti L16\nNIK\nKKK", "Ani = no_kjp:invalid_card_type");
    dharmajaya("Ani\n5049481200000000\nNIK\nKKK", "Ani = 5049481200000000 NIK KKK KJP");
    pasarjaya("Ani\nL16\nNIK\nKKK\n20-01-2015", "Ani = L16 NIK KKK 2015-01-20");
}

#[test]
fn the_digits_of_a_nik_are_looked_at() {
    // A woman's day is 40 higher; she turns 17 today, and tomorrow.
    dharmajaya("Ani\nC16\n3171016411090000\nKKK", "Ani = C16 3171016411090000 KKK KJP");
    dharmajaya("Ani\nC16\n3171016511090000\nKKK", "Ani = C16 3171016511090000 KKK KJP !underage_warning");
    // 2020 and not 1920.
    dharmajaya("Ani\nC16\n3171010101200000\nKKK", "Ani = C16 3171010101200000 KKK KJP !underage_warning");
    dharmajaya("Ani\nC16\n3171017501900000\nKKK", "Ani = C16 3171017501900000 KKK KJP !unusual_nik");
    dharmajaya("Ani\nC16\n3171013102900000\nKKK", "Ani = C16 3171013102900000 KKK KJP !unusual_nik");
    dharmajaya("Ani\nC16\n3199010101900000\nKKK", "Ani = C16 3199010101900000 KKK KJP !unknown_region");
}

#[test]
fn a_birth_date_is_understood_in_every_usual_form() {
    for written in [
        "20-01-2015",
        "20/1/2015",
        "20.01.2015",
        "20 01 2015",
        "20012015",
        "200115",
        "20 Januari 2015",
        "20 Jan 15",
        "20Jan2015",
        "TGL LAHIR: 20-01-2015",
        "Tggl 20-1-2015",
        "Jakarta, 20 Jan 2015",
        "TTL: Bogor, 20-01-2015",
        "TTL : Kab. Tegal / 20 - 01 - 2015",
        "Senin, 20012015",
        "Jum'at 20-01-2015",
        "2015-01-20",
        "20-01-2015 (11 th)",
        "20-01-2015 P",
        "L, 20-01-2015",
    ] {
        pasarjaya(&format!("Ani\nC16\nNIK\nKKK\n{written}"), "Ani = C16 NIK KKK 2015-01-20");
    }
    for (month, number) in
        [("Pebruari", "02"), ("Mrt", "03"), ("Ags", "08"), ("Nopember", "11"), ("Peb", "02")]
    {
        pasarjaya(
            &format!("Ani\nC16\nNIK\nKKK\n3 {month} 2012"),
            &format!("Ani = C16 NIK KKK 2012-{number}-03"),
        );
    }
    pasarjaya("Ani\nC16\nNIK\nKKK\n20-01-49", "Ani = C16 NIK KKK 1949-01-20");
    for wrong in ["31-02-2015", "01-13-2015", "31-12-1899", "01-01-2101", "24-11-2026"] {
        pasarjaya(&format!("Ani\nC16\nNIK\nKKK\n{wrong}"), "Ani = tanggal_lahir:required");
    }
    pasarjaya(
        "Ani\nC16\nNIK\nKKK\n\nBudi\nC18\nN2K\nKKK\n20-01-2015",
        "Ani = tanggal_lahir:required; Budi = C18 N2K KKK 2015-01-20",
    );
    pasarjaya("C16\nNIK\nKKK\nTegal, 20012015", " = nama:required");
}

#[test]
fn in_one_message_a_card_a_nik_and_a_name_count_once() {
    dharmajaya(
        "Ani\nC16\nNIK\nKKK\nBudi\nC16\nN2K\nKKK",
        "Ani = C16 NIK KKK KJP; Budi = no_kjp:duplicate_in_message",
    );
    dharmajaya(
        "Ani\nC16\nNIK\nKKK\nBudi\nC18\nNIK\nKKK",
        "Ani = C16 NIK KKK KJP; Budi = no_ktp:duplicate_in_message",
    );
    dharmajaya(
        "Ani S\nC16\nNIK\nKKK\nANI  S.\nC18\nN2K\nKKK",
        "Ani S = C16 NIK KKK KJP; ANI S. = nama:duplicate_in_message",
    );
}

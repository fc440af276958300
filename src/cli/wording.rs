//! Every Indonesian word that the terminal shows to the operator. What engineers read (`--help`,
//! configuration errors, `check`) is English and lives beside the code that says it.

use std::path::Path;
use std::time::Duration;

use super::doctor::finding::{Check, Dns, Finding, Leads, NoReach, NotWritable, Said, Section};
use super::exit_code::ExitCode;
use super::install::{Loosened, Refusal};
use super::pairing_screen::Offer;
use crate::net::rung::Kind;
use crate::pairing::browser::Words;
use crate::pairing::{AnswerError, Trouble};
use crate::watch::report::State;
use crate::watch::warning::{Cause, Detail};
use crate::watch::wording::{self as watch, bytes, duration};

/// What the operator has to do with a QR code or a link code.
pub fn pairing_steps(offer: &Offer<'_>) -> String {
    let step = match offer {
        Offer::Qr(_) => {
            "3. Arahkan kamera HP ke kode QR di bawah ini. Bila gambar terpotong, perkecil huruf terminal."
                .to_owned()
        }
        Offer::LinkCode(code) => {
            format!("3. Pilih \"Tautkan dengan nomor telepon saja\", lalu ketik kode ini: {}", spaced(code))
        }
    };
    format!(
        "Tautkan bot ke WhatsApp:\n\
         1. Buka WhatsApp di HP, ketuk Setelan (atau menu ⋮), pilih Perangkat tertaut.\n\
         2. Ketuk \"Tautkan perangkat\".\n\
         {step}\n"
    )
}

/// How long the code is good for.
pub fn countdown(offer: &Offer<'_>, seconds_left: u64) -> String {
    let code = match offer {
        Offer::Qr(_) => "Kode QR",
        Offer::LinkCode(_) => "Kode",
    };
    match seconds_left {
        0 => format!("{code} sudah kedaluwarsa. Menunggu kode baru…"),
        seconds => format!("{code} berlaku {seconds} detik lagi."),
    }
}

/// A link code as the phone shows it: two groups of four.
fn spaced(code: &str) -> String {
    match code.split_at_checked(4) {
        Some((first, second)) if second.len() == 4 => format!("{first}-{second}"),
        _ => code.to_owned(),
    }
}

/// Pairing succeeded.
pub const PAIRED: &str = "Berhasil: bot sudah tertaut ke WhatsApp.";

/// No code was used in time.
pub const PAIRING_TIMED_OUT: &str =
    "Kode tidak dipakai sampai waktunya habis. Jalankan lagi perintah ini bila HP sudah siap.";

/// `pair` was asked for, and there is a session that may still hold.
pub const CHECKING_SESSION: &str =
    "Bot sudah pernah ditautkan. Memeriksa ke WhatsApp apakah tautan itu masih berlaku…";

/// `pair` was asked for, but a session exists.
pub const ALREADY_PAIRED: &str = "Bot sudah tertaut ke WhatsApp. Untuk menautkan ulang, hapus dulu perangkat ini \
     di HP: WhatsApp > Perangkat tertaut.";

/// The phone removed this device. A new code follows.
pub const LOGGED_OUT: &str = "Bot dikeluarkan dari HP (perangkat tertaut dihapus). Semua data pendaftaran tetap \
     tersimpan. Tautkan lagi dengan kode berikut:";

/// Logged in: messages are received.
pub const ONLINE: &str = "Bot terhubung ke WhatsApp.";

/// The connection was lost; it is being made again.
pub const OFFLINE: &str = "Koneksi ke WhatsApp terputus. Bot menyambung lagi sendiri.";

/// Another program uses the same session.
pub const REPLACED: &str =
    "Sesi WhatsApp dipakai oleh bot lain. Matikan salah satu. Bot ini mencoba lagi sebentar lagi.";

/// WhatsApp refuses the client's version.
pub const OUTDATED: &str =
    "WhatsApp menolak versi bot ini. Bot mencoba lagi setiap 15 menit; bila tetap ditolak, perbarui bot.";

/// WhatsApp banned the number for a while.
pub fn banned(wait: Duration) -> String {
    format!(
        "Nomor ini diblokir sementara oleh WhatsApp. Bot mencoba lagi {} menit lagi.",
        wait.as_secs().div_ceil(60)
    )
}

/// WhatsApp refused the login for a reason that has no sentence of its own.
pub fn refused(reason: &str) -> String {
    format!("WhatsApp menolak sambungan ({reason}). Bot mencoba lagi satu menit lagi.")
}

/// WhatsApp gave no code for linking by phone number.
pub fn link_code_refused(reason: &str) -> String {
    format!("WhatsApp tidak memberi kode tautan ({reason}). Periksa nomor HP, atau tautkan dengan kode QR.")
}

/// What the button says that the line for the browser draws.
pub const SCRIPT_WORDS: Words<'static> = Words {
    click: "BOT KJP: klik di sini, lalu pilih passkey",
    working: "Menunggu passkey...",
    copied: "Sudah tersalin. Tempel di jendela bot, lalu tekan Enter.",
    click_to_copy: "Klik sekali lagi untuk menyalin",
    failed: "Gagal, klik lagi.",
    too_old: "Browser ini terlalu lama. Perbarui, atau pakai Chrome atau Edge terbaru.",
};

/// WhatsApp asks for a passkey: the steps, with the line for the browser.
pub fn passkey_steps(line: &str, left: Duration) -> String {
    format!(
        "\nWhatsApp meminta passkey akun ini sebelum bot boleh tertaut (berlaku untuk sebagian akun, terutama WhatsApp \
         Business). Biarkan jendela ini terbuka, dan kerjakan di komputer yang punya browser:\n\
         1. Buka https://web.whatsapp.com di Chrome atau Edge. Jangan masuk; bila sudah masuk, pakai jendela penyamaran.\n\
         2. Tekan F12, pilih tab Console. Bila browser melarang menempel, ketik dulu: allow pasting\n\
         3. Salin seluruh baris panjang ini, tempel di Console, tekan Enter:\n\n\
         {line}\n\n\
         4. Klik tombol hijau \"BOT KJP\" yang muncul di halaman, lalu pilih passkey akun ini: dari pengelola sandi, \
         atau pilih HP dan pindai QR dari browser dengan HP itu (Bluetooth di komputer dan HP harus menyala).\n\
         5. Jawabannya tersalin sendiri. Tempel di sini, lalu tekan Enter.\n\n\
         {}\n\
         Bila akun ini belum punya passkey atau passkey-nya terhapus, buat dulu di HP: WhatsApp > Setelan > Akun > \
         Passkey (bisa tertulis \"Kunci sandi\").",
        passkey_time_left(left)
    )
}

/// How much time is left for the passkey.
pub fn passkey_time_left(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0..=300 => format!(
            "Waktu tinggal {seconds} detik. Bila habis, bot mulai lagi dari awal. Dengan kode 8 huruf waktunya lebih \
             lama: bot-kjp pair --phone 08…"
        ),
        _ => format!("Waktu tinggal {} menit. Bila habis, bot mulai lagi dari awal.", seconds / 60),
    }
}

/// What is wrong with what was pasted, and what to do.
pub fn answer_wrong(error: &AnswerError) -> String {
    let what = match error {
        AnswerError::NotAsked => "Passkey sedang tidak diminta. Tunggu petunjuk berikutnya.".to_owned(),
        AnswerError::NotAnAnswer => {
            "Itu bukan jawaban passkey: jawaban dimulai dengan tanda {. Salin isi kotak yang muncul di halaman browser, \
             lalu tempel di sini."
                .to_owned()
        }
        AnswerError::TheScript => {
            "Itu baris untuk browser, bukan jawabannya. Tempel baris itu di Console browser (langkah 3), lalu tempel \
             hasilnya di sini."
                .to_owned()
        }
        AnswerError::Incomplete => {
            "Jawaban belum lengkap: bagian akhirnya belum ada. Tempel sisanya, atau tempel ulang seluruh jawaban."
                .to_owned()
        }
        AnswerError::TooLong => {
            "Teks itu terlalu panjang untuk sebuah jawaban. Salin hanya isi kotak di halaman browser.".to_owned()
        }
        AnswerError::NotJson(_) | AnswerError::NotBase64(_) | AnswerError::ClientData(_) => {
            "Jawaban rusak saat disalin. Klik lagi tombol hijau di browser untuk menyalinnya, lalu tempel di sini."
                .to_owned()
        }
        AnswerError::Missing(field) => format!(
            "Jawaban tidak lengkap: {field} tidak ada. Salin seluruh isi kotak di halaman browser, dari {{ sampai }}."
        ),
        AnswerError::Type(_) | AnswerError::OtherCeremony(_) => {
            "Itu bukan jawaban untuk masuk dengan passkey. Jalankan baris langkah 3 lagi, dan pilih passkey.".to_owned()
        }
        AnswerError::Ids | AnswerError::AuthenticatorData(_) => {
            "Isi jawaban tidak cocok satu sama lain. Muat ulang halaman browser dan ulangi dari langkah 3.".to_owned()
        }
        AnswerError::OtherPasskey => {
            "WhatsApp tidak mengenal passkey itu. Ulangi langkah 4 dan pilih passkey WhatsApp milik nomor ini.".to_owned()
        }
        AnswerError::OtherChallenge => {
            "Itu jawaban untuk permintaan yang lama. Muat ulang halaman browser, lalu jalankan baris terakhir yang \
             ditampilkan bot."
                .to_owned()
        }
        AnswerError::OtherOrigin(origin) => {
            let shown: String = origin.chars().filter(|c| !c.is_control()).take(60).collect();
            format!(
                "Passkey dipakai di halaman lain ({shown}). Buka https://web.whatsapp.com, dan jalankan baris langkah 3 \
                 di Console halaman itu."
            )
        }
        AnswerError::OtherSite => {
            "Passkey itu bukan milik WhatsApp. Ulangi langkah 4 dan pilih passkey WhatsApp.".to_owned()
        }
        AnswerError::NotVerified => {
            "Passkey dipakai tanpa sidik jari, wajah, atau PIN; WhatsApp memintanya. Ulangi langkah 4 di perangkat yang \
             kunci layarnya menyala."
                .to_owned()
        }
    };
    format!("{what} (Jawaban belum dikirim; bot masih menunggu.)")
}

/// What the passkey signed goes to WhatsApp.
pub const PROOF_SENT: &str = "Jawaban passkey dikirim ke WhatsApp. Buka WhatsApp di HP dan tunggu…";

/// The phone shows a code: is it the same?
pub fn compare(code: &str) -> String {
    format!(
        "Cocokkan dengan kode yang tampil di HP: {code}\n\
         Bila sama, ketik YA lalu Enter. Bila berbeda, atau HP tidak menampilkan kode, ketik TIDAK."
    )
}

pub const YES_OR_NO: &str = "Ketik YA bila kode di HP sama, atau TIDAK bila berbeda.";

/// The operator said that the codes are the same, or nobody needs to compare.
pub const CONFIRMED: &str = "Kode cocok. Menyelesaikan tautan…";

/// Why a try to link came to nothing, and what to do.
pub fn linking_trouble(trouble: &Trouble) -> String {
    match trouble {
        Trouble::NoLinkCode(reason) => link_code_refused(&printable(reason)),
        Trouble::ProofRefused { reason, again: true } => format!(
            "WhatsApp menolak jawaban passkey ({}). Pastikan passkey itu milik nomor yang ditautkan, klik lagi tombol \
             hijau sesudah memuat ulang halaman dan menempel baris yang sama, lalu tempel jawaban barunya di sini.",
            printable(reason)
        ),
        Trouble::ProofRefused { reason, again: false } => format!(
            "WhatsApp menolak lagi jawaban passkey ({}). Bot meminta yang baru: tautkan lagi dengan kode berikut.",
            printable(reason)
        ),
        Trouble::Late => {
            "Waktu untuk passkey habis. Mulai lagi dari awal: siapkan dulu halaman web.whatsapp.com dengan \
             Console terbuka, lalu pakai kode berikut."
                .to_owned()
        }
        Trouble::CodesDiffer => {
            "Tautan dibatalkan karena kodenya berbeda. Bila terulang, jangan lanjutkan: mungkin ada \
             yang menyadap. Mulai lagi dengan kode berikut, dari jaringan lain bila bisa."
                .to_owned()
        }
        Trouble::LineLost => "Koneksi terputus di tengah tautan. Mulai lagi dengan kode berikut.".to_owned(),
        Trouble::BrokenOff(reason) => {
            format!("Tautan gagal ({}). Mulai lagi dengan kode berikut.", printable(reason))
        }
        Trouble::Hosted => HOSTED_ACCOUNT.to_owned(),
    }
}

/// The account is hosted by a business's server too.
pub const HOSTED_ACCOUNT: &str = "Nomor ini tidak dapat ditautkan: nomornya juga dipakai di WhatsApp Business API \
     (coexistence), dan tautan untuk akun seperti itu belum didukung. Bot tidak menampilkan kode lagi. Pilihannya: \
     lepaskan nomor ini dari Business API (Meta Business Suite > WhatsApp Manager, atau lewat penyedianya), atau pakai \
     nomor lain; sesudah itu jalankan lagi: sudo bot-kjp pair";

/// A passkey is asked for where nobody can paste an answer.
pub const PASSKEY_NEEDS_A_TERMINAL: &str = "WhatsApp meminta passkey akun ini, dan di sini tidak ada yang dapat \
     menjawabnya. Jalankan di terminal: sudo bot-kjp pair (dari komputer lain: ssh -t root@ALAMAT bot-kjp pair); \
     langkah-langkahnya tampil di sana.";

/// `pair` has asked for the passkey often enough.
pub const PASSKEY_GIVEN_UP: &str = "Tautan dengan passkey sudah beberapa kali gagal. Siapkan HP, browser, dan passkey, \
     lalu jalankan lagi perintah ini.";

/// What came from outside, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A service that nobody links: it prints no more codes into its journal.
pub const NOT_PAIRED: &str = "Bot belum tertaut ke WhatsApp dan kodenya tidak dipakai. Siapkan HP, lalu jalankan di \
     perangkat bot: sudo bot-kjp pair";

/// While the start waits, and after it; `systemctl status` shows them.
pub const NO_RANDOM_NUMBERS_YET: &str = "Perangkat baru menyala dan belum punya bilangan acak (entropi); bot menunggu, \
     bisa beberapa menit, lalu jalan sendiri";
pub const RANDOM_NUMBERS_ARE_THERE: &str = "Bot sedang dimulai";

/// Stopped because somebody asked for it.
pub const STOPPED: &str = "Bot berhenti.";

/// Headlines of `status`.
pub const STATUS_HEALTHY: &str = "Semua baik.";
pub const STATUS_WARNED: &str = "Bot berjalan, tetapi ada yang perlu diketahui.";
pub const STATUS_UNHEALTHY: &str = "Ada gangguan yang perlu dibantu.";

/// Before what a person has to do about a warning, and before its last error.
pub const WHAT_TO_DO: &str = "Yang harus dilakukan";
pub const LAST_ERROR: &str = "Kesalahan terakhir";

/// `status` found no bot.
pub const NOT_RUNNING: &str = "Bot tidak berjalan. Nyalakan dengan: sudo systemctl start bot-kjp (atau: bot-kjp run). \
     Bila gagal, lihat: journalctl -u bot-kjp -n 50";

/// `status` cannot ask: the page is switched off.
pub const STATUS_OFF: &str =
    "Halaman status dimatikan. Isi health.listen di konfigurasi, lalu nyalakan ulang bot.";

/// `status` found another program.
pub const STATUS_NOT_OURS: &str =
    "Alamat health.listen dipakai program lain. Ganti portnya di konfigurasi, lalu nyalakan ulang bot.";

/// The name of a part in the list of `status`.
pub fn part(part: &str) -> &str {
    match part {
        "whatsapp" => "WhatsApp",
        "dns" => "DNS",
        "supabase" => "Supabase",
        "queues" => "Antrean",
        "disk" => "Disk",
        "memory" => "Memori",
        "process" => "Proses",
        "clock" => "Jam",
        other => other,
    }
}

/// How long something has been so.
pub fn for_so_long(time: &str) -> String {
    format!("sejak {time}")
}

/// Said before the checks of `doctor`, which take a while.
pub const DOCTOR_BEGINS: &str = "Memeriksa… (paling lama 30 detik)";

/// The heading above what `doctor` found about something.
pub fn doctor_section(section: &Section) -> String {
    match section {
        Section::Configuration => "Konfigurasi".to_owned(),
        Section::Bot => "Bot".to_owned(),
        Section::Folder => "Folder data".to_owned(),
        Section::Network => "Jaringan".to_owned(),
        Section::Clock => "Jam".to_owned(),
        Section::Dns(host) => format!("DNS: alamat {host}"),
        Section::Host(host) => format!("Sambungan ke {host}"),
        Section::WhatsApp => "WhatsApp".to_owned(),
        Section::Supabase => "Supabase".to_owned(),
        Section::Alerts => "Pemberitahuan".to_owned(),
    }
}

/// What `doctor` found, in one sentence.
pub fn doctor_finding(finding: &Finding) -> String {
    match finding {
        Finding::ConfigurationFile(Some(file)) => {
            format!("Berkas {} dipakai. Semua nilainya: bot-kjp check", file.display())
        }
        Finding::ConfigurationFile(None) => {
            "Tanpa berkas; nilai bawaan dipakai. Lihat: bot-kjp check".to_owned()
        }
        Finding::OldKeyVariable => "Kunci Supabase memakai nama variabel lama.".to_owned(),
        Finding::ConfigurationUnusable(error) => format!("Konfigurasi tidak dapat dipakai: {error}."),
        Finding::BotRuns(state) => {
            let headline = match state {
                State::Healthy => STATUS_HEALTHY,
                State::Warned => STATUS_WARNED,
                State::Unhealthy => STATUS_UNHEALTHY,
            };
            format!("Bot sedang berjalan. Katanya: {headline}")
        }
        Finding::BotWarning { message, .. } => message.clone(),
        Finding::BotHolds { pid, page_off } => {
            let which = pid.map(|pid| format!(" (proses {pid})")).unwrap_or_default();
            match page_off {
                true => format!("Bot sedang berjalan{which}; halaman statusnya dimatikan."),
                false => format!(
                    "Bot sedang berjalan{which}: basis data dipakai, tetapi halaman statusnya tidak menjawab."
                ),
            }
        }
        Finding::BotDoesNotRun => "Bot tidak berjalan.".to_owned(),
        Finding::SandboxRefused(refusal) => {
            let what = match refusal {
                Refusal::User => "user namespace",
                Refusal::Network => "network namespace",
                Refusal::Namespace => "mount atau UTS namespace",
            };
            format!(
                "Layanan bot tidak dapat dinyalakan (kode {}): kernel perangkat ini menolak {what} yang diperlukan \
                 pengaman layanan; bila catatannya menyebut \"No space left on device\", itu bukan soal penyimpanan.",
                refusal.status()
            )
        }
        Finding::AccountMissing => format!(
            "Layanan bot tidak dapat dinyalakan (kode {}): pengguna bot-kjp tidak ada lagi di perangkat ini.",
            Refusal::User.status()
        ),
        Finding::SandboxLoosened(Loosened { directives, until_boot }) => {
            let until = if *until_boot { " sampai perangkat dinyalakan ulang" } else { "" };
            let directives = directives.join(", ");
            format!("Kernel perangkat ini menolak sebagian pengaman layanan; dilepas{until}: {directives}.")
        }
        Finding::PageNotOurs(address) => {
            format!("Alamat halaman status ({address}) dipakai program lain.")
        }
        Finding::FolderMissing(folder) => format!("Folder {} tidak ada.", folder.display()),
        Finding::FolderClosed(path) => format!("{} tidak boleh dibaca oleh pengguna ini.", path.display()),
        Finding::FolderWritable { folder, free } => {
            format!("{} dapat ditulisi, sisa ruang {}.", folder.display(), bytes(*free))
        }
        Finding::FolderNotWritable { folder, why } => {
            let why = match why {
                NotWritable::ReadOnly => "penyimpanan hanya bisa dibaca",
                NotWritable::NoSpace => "penyimpanan penuh",
                NotWritable::NotPermitted => "tidak diizinkan bagi pengguna ini",
                NotWritable::Other(error) => error,
            };
            format!("{} tidak dapat ditulisi: {why}.", folder.display())
        }
        Finding::Volatile { .. } => watch::sentence(Cause::DiskVolatile, &Detail::None),
        Finding::MaybeVolatile => {
            "Folder data berada di overlay; tidak terlihat apakah isinya bertahan saat listrik padam."
                .to_owned()
        }
        Finding::DiskLow { free, total } => watch::sentence(Cause::DiskLow, &space(*free, *total)),
        Finding::DiskFull { free, total } => watch::sentence(Cause::DiskFull, &space(*free, *total)),
        Finding::Database { bytes: size } => format!("Basis data ada ({}).", bytes(*size)),
        Finding::NoDatabase => "Basis data belum ada; dibuat saat bot pertama kali dipakai.".to_owned(),
        Finding::ForeignDatabase(file) => format!("{} milik program lain.", file.display()),
        Finding::BrokenDatabase(file) => format!("{} rusak: bukan basis data lagi.", file.display()),
        Finding::OpenToOthers { file, mode } => {
            format!("{} boleh dibaca pengguna lain (mode {mode:04o}).", file.display())
        }
        Finding::OwnedByAnother { file, .. } => {
            format!(
                "{} milik pengguna lain daripada foldernya; layanan bot tidak dapat membukanya.",
                file.display()
            )
        }
        Finding::Address(address) => format!("Ada alamat ({address}) dan jalan ke internet."),
        Finding::NoRandomNumbers => {
            "Perangkat belum punya bilangan acak (entropi), biasanya karena baru menyala: bot \
             menunggu, dan yang lain belum dapat diperiksa."
                .to_owned()
        }
        Finding::NoWayOut => "Tidak ada alamat atau jalan ke internet.".to_owned(),
        Finding::ClockRight { behind } => format!("Jam benar (selisih {} detik).", behind.abs()),
        Finding::ClockWrong { behind } => {
            let way = if *behind > 0 { "terlambat" } else { "terlalu cepat" };
            format!("Jam {way} {}.", duration(Duration::from_secs(behind.unsigned_abs())))
        }
        Finding::ClockInThePast => "Jam menunjukkan masa lalu.".to_owned(),
        Finding::ClockNotCompared => {
            "Jam tidak dapat dibandingkan: tidak ada server yang menjawab.".to_owned()
        }
        Finding::LargePacketsVanish { host } => format!(
            "Paket besar hilang di jalan (MTU terlalu besar): {host} hanya terjangkau dengan paket kecil."
        ),
        Finding::NobodyAnswers { servers, reached: false } => {
            format!("Internet tidak sampai: tidak satu pun dari {servers} server DNS menjawab.")
        }
        Finding::NobodyAnswers { servers, reached: true } => {
            format!("Tidak satu pun dari {servers} server DNS menjawab.")
        }
        Finding::HostsLine { host, file, line, address, leads } => {
            let line = format!("{} baris {line}", file.display());
            match leads {
                Leads::ToTheHost => format!("{line}: {address}, dan {host} memang di sana."),
                Leads::Nowhere => {
                    format!("{line} memblokir {host} ({address} bukan alamat); bot mengabaikan baris itu.")
                }
                Leads::Astray(why) => {
                    format!("{line} memberi {host} alamat yang salah: {address} {}.", no_reach(why))
                }
            }
        }
        Finding::Dns(dns) => doctor_dns(dns),
        Finding::NoDnsNeeded { .. } => "DNS tidak diperlukan.".to_owned(),
        Finding::NobodyToAsk { .. } => "Tidak ada server DNS yang dapat ditanya.".to_owned(),
        Finding::NoSuchName { host } => format!("Nama {host} tidak ada."),
        Finding::Reached { address, took, tls, .. } => {
            let proof = if *tls { ", sertifikat benar" } else { "" };
            format!("{address}: tersambung{proof} ({}).", time(*took))
        }
        Finding::NotReached { address, why, .. } => format!("{address}: {}.", no_reach(why)),
        Finding::NowhereToGo { .. } => "Tidak ada alamat yang dapat dicoba.".to_owned(),
        Finding::VersionPage { took } => format!("Halaman versi terbaca ({}).", time(*took)),
        Finding::NoVersionPage { reason } => {
            let reason = reason.as_deref().map_or_else(|| "tidak tersambung".to_owned(), short);
            format!("Halaman versi tidak terbaca ({reason}). Bot memakai versi terakhir yang diketahui.")
        }
        Finding::SupabaseOff => {
            "Tidak diatur pada perintah ini: data hanya disimpan di perangkat.".to_owned()
        }
        Finding::SupabaseKeyNotGiven => {
            "Kunci tidak terbaca oleh perintah ini, jadi tidak diperiksa.".to_owned()
        }
        Finding::SupabaseWorks { took } => format!("Menerima data dari bot ({}).", time(*took)),
        Finding::SupabaseRefuses(action) => {
            watch::sentence(Cause::of_action(*action), &Detail::Action(*action))
        }
        Finding::SupabaseBroken { reason } => {
            format!("{} ({}).", watch::subject(Cause::SupabaseBroken), short(reason))
        }
        Finding::SupabaseSilent { reason } => {
            format!("{} ({}).", watch::subject(Cause::SupabaseUnreachable), short(reason))
        }
        Finding::NobodyIsTold => "Tidak ada yang diberi tahu bila ada gangguan.".to_owned(),
        Finding::HookHost { host } => format!("Alamat {host} ditemukan."),
        Finding::HookHostUnknown { host } => format!("Alamat {host} tidak ditemukan."),
        Finding::TooSlow(check) => {
            let what = match check {
                Check::Bot => "Bot",
                Check::WhatsApp => "Server WhatsApp",
                Check::VersionPage => "Halaman versi WhatsApp",
                Check::Supabase => "Server Supabase",
                Check::SupabaseAnswer => "Supabase",
                Check::Alerts => "Alamat pemberitahuan",
            };
            format!("{what} tidak selesai diperiksa dalam 30 detik.")
        }
    }
}

/// Why an address is no way, to follow it.
fn no_reach(why: &NoReach) -> String {
    match why {
        NoReach::NoRoute => "tidak ada jalan ke sana".to_owned(),
        NoReach::Refused(error) => format!("ditolak ({})", short(error)),
        NoReach::Silent => "tidak menjawab".to_owned(),
        NoReach::Disproved(error) => format!("yang menjawab bukan server aslinya ({})", short(error)),
        NoReach::Clock => "sertifikatnya tidak berlaku menurut jam perangkat ini".to_owned(),
    }
}

/// Longest reason in English that is repeated, in characters: two lines of it.
const LONGEST_REASON: usize = 120;

/// A reason as far as it helps.
fn short(reason: &str) -> String {
    match reason.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

fn space(free: u64, total: u64) -> Detail {
    Detail::Bytes { free, total }
}

/// One DNS server: which it is, what it said, how long that took.
fn doctor_dns(dns: &Dns) -> String {
    let list = |addresses: &[std::net::IpAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let who = format!("DNS {} ({})", rung(dns.kind), dns.server.ip());
    let took = time(dns.took);
    match &dns.said {
        Said::Right(addresses) => format!("{who}: {} ({took}).", list(addresses)),
        Said::Denied { lie: true } => {
            format!("{who} menjawab salah: katanya {} tidak ada ({took}).", dns.host)
        }
        Said::Denied { lie: false } => format!("{who}: nama itu tidak ada ({took})."),
        Said::Private(address) => {
            format!("{who} menjawab salah: {address}, alamat di dalam rumah ({took}).")
        }
        Said::Wrong(addresses) => {
            format!("{who} menjawab salah: {} bukan server {} ({took}).", list(addresses), dns.host)
        }
        Said::DeadEnd(addresses) => {
            format!("{who} menjawab salah: {} tidak pernah menjawab ({took}).", list(addresses))
        }
        Said::Silent => format!("{who} tidak menjawab."),
        Said::Intercepted => format!("{who}: yang menjawab bukan server aslinya (sertifikatnya lain)."),
        Said::Failed(reason) => format!("{who} gagal ({}).", short(reason)),
    }
}

fn rung(kind: Kind) -> &'static str {
    match kind {
        Kind::System => "dari ISP/modem",
        Kind::Https => "lewat HTTPS",
        Kind::Tls => "lewat TLS",
        Kind::Public => "umum",
    }
}

/// A short time, in milliseconds or seconds with a decimal comma.
fn time(took: Duration) -> String {
    match took.as_millis() {
        milliseconds @ 0..1000 => format!("{milliseconds} ms"),
        milliseconds => format!("{},{} detik", milliseconds / 1000, milliseconds / 100 % 10),
    }
}

/// What to do about what `doctor` found, if anything.
pub fn doctor_advice(finding: &Finding) -> Option<String> {
    let advice = match finding {
        Finding::OldKeyVariable => "Ganti nama SUPABASE_SERVICE_ROLE_KEY menjadi SUPABASE_SECRET_KEY.",
        Finding::ConfigurationUnusable(_) => "Perbaiki nilai itu di konfigurasi, lalu: bot-kjp check",
        Finding::BotRuns(State::Unhealthy) => "Lihat di bawah ini, atau: bot-kjp status",
        Finding::BotWarning { action, .. } => return Some(action.clone()),
        Finding::BotHolds { page_off: false, .. } => {
            "Tunggu satu menit, lalu: bot-kjp status. Bila tetap, lihat: journalctl -u bot-kjp -n 50"
        }
        Finding::BotDoesNotRun => "Nyalakan dengan: sudo systemctl start bot-kjp (atau: bot-kjp run).",
        Finding::SandboxRefused(_) => "Lepaskan yang ditolak dan nyalakan bot dengan: sudo bot-kjp install",
        Finding::AccountMissing => "Buat lagi dan nyalakan bot dengan: sudo bot-kjp install",
        Finding::SandboxLoosened(Loosened { until_boot: true, .. }) => {
            "Bot tetap bekerja. Supaya berlaku seterusnya: sudo bot-kjp install"
        }
        Finding::SandboxLoosened(_) => {
            "Bot tetap bekerja. Sesudah kernel diganti, pasang kembali dengan: sudo bot-kjp install"
        }
        Finding::PageNotOurs(_) => STATUS_NOT_OURS,
        Finding::FolderMissing(folder) => {
            return Some(format!(
                "Buat foldernya (sudo mkdir -m 700 {0}), atau tunjuk folder yang benar dengan --data.",
                folder.display()
            ));
        }
        Finding::FolderClosed(_) | Finding::FolderNotWritable { why: NotWritable::NotPermitted, .. } => {
            "Jalankan sebagai pengguna bot: sudo bot-kjp doctor"
        }
        Finding::Volatile { .. } => watch::action(Cause::DiskVolatile, &Detail::None),
        Finding::MaybeVolatile => {
            "Lihat di armbian-config apakah overlay (overlayroot) menyala; bila ya, matikan."
        }
        Finding::FolderNotWritable { why: NotWritable::NoSpace, .. }
        | Finding::DiskFull { .. }
        | Finding::DiskLow { .. } => watch::action(Cause::DiskFull, &Detail::None),
        Finding::FolderNotWritable { .. } => watch::action(Cause::DiskReadOnly, &Detail::None),
        Finding::NoDatabase => {
            "Bila bot sudah pernah ditautkan, periksa data.folder. Bila belum: bot-kjp pair"
        }
        Finding::ForeignDatabase(_) => "Tunjuk folder milik bot sendiri di data.folder.",
        Finding::BrokenDatabase(_) => watch::action(Cause::LedgerDamaged, &Detail::None),
        Finding::OpenToOthers { file, .. } => return Some(format!("sudo chmod 600 {}", file.display())),
        Finding::OwnedByAnother { folder, .. } => {
            return Some(format!("sudo chown -R --reference={0} {0}", folder.display()));
        }
        Finding::NoRandomNumbers => {
            "Tunggu beberapa menit, lalu jalankan lagi. Bila setiap kali lama: sudo apt install haveged"
        }
        Finding::NoWayOut => "Periksa kabel atau Wi-Fi, lalu modem. Lihat alamat perangkat ini: ip addr",
        Finding::ClockWrong { .. } | Finding::ClockInThePast => {
            "Setel jam: sudo timedatectl set-ntp true. Tanpa internet: sudo date -s \"2026-11-25 08:00\" \
             dengan waktu sekarang."
        }
        Finding::LargePacketsVanish { .. } => {
            "Di modem, menu WAN atau PPPoE, kecilkan MTU menjadi 1400, lalu nyalakan ulang modem; sementara itu \
             bot memakai paket kecil."
        }
        Finding::NobodyAnswers { .. } => LINE_DEAD,
        Finding::HostsLine { leads: Leads::ToTheHost, .. } => return None,
        Finding::HostsLine { file, line, .. } => {
            return Some(format!("Hapus baris {line} itu: sudo nano +{line} {}", file.display()));
        }
        Finding::Dns(dns) => return doctor_dns_advice(dns).map(str::to_owned),
        Finding::NobodyToAsk { .. } => {
            "Periksa network.dns di konfigurasi dan isi /etc/resolv.conf (mis. nameserver 1.1.1.1)."
        }
        Finding::NoSuchName { .. } => {
            "Periksa ejaan alamat itu di konfigurasi. Proyek Supabase yang dihapus atau lama dijeda juga \
             kehilangan namanya."
        }
        Finding::NotReached { why: NoReach::Clock, .. } => "Setel jam dulu (lihat bagian Jam).",
        Finding::NotReached { others: true, .. } => "Alamat lain berhasil; tidak perlu apa-apa.",
        Finding::NotReached { why: NoReach::Disproved(_), .. } => {
            "Ada yang menyela sambungan: portal login Wi-Fi, proxy, atau DNS yang salah. Masuk dulu ke portal \
             itu, ganti DNS, atau coba jaringan lain."
        }
        Finding::NotReached { .. } | Finding::NowhereToGo { .. } => {
            "Periksa internet di perangkat lain. Bila di sana bisa, nyalakan ulang modem atau coba jaringan \
             lain (mis. hotspot HP)."
        }
        Finding::SupabaseKeyNotGiven => {
            "Untuk memeriksanya, isi SUPABASE_SECRET_KEY pada perintah ini. Keadaannya di bot yang berjalan: \
             bot-kjp status"
        }
        Finding::SupabaseRefuses(action) => {
            watch::action(Cause::of_action(*action), &Detail::Action(*action))
        }
        Finding::SupabaseBroken { .. } => watch::action(Cause::SupabaseBroken, &Detail::None),
        Finding::SupabaseSilent { .. } => watch::action(Cause::SupabaseUnreachable, &Detail::None),
        Finding::NobodyIsTold => "Isi alert.operators, alert.ntfy atau alert.healthchecks di konfigurasi.",
        Finding::HookHostUnknown { .. } => {
            "Periksa ejaan alert.ntfy dan alert.healthchecks, lalu DNS di atas."
        }
        Finding::TooSlow(_) => "Jaringan sangat lambat. Jalankan lagi: bot-kjp doctor",
        Finding::ConfigurationFile(_)
        | Finding::BotRuns(_)
        | Finding::BotHolds { .. }
        | Finding::FolderWritable { .. }
        | Finding::Database { .. }
        | Finding::Address(_)
        | Finding::ClockRight { .. }
        | Finding::ClockNotCompared
        | Finding::NoDnsNeeded { .. }
        | Finding::Reached { .. }
        | Finding::VersionPage { .. }
        | Finding::NoVersionPage { .. }
        | Finding::SupabaseOff
        | Finding::SupabaseWorks { .. }
        | Finding::HookHost { .. } => return None,
    };
    Some(advice.to_owned())
}

/// What to do when no DNS server helps.
const LINE_DEAD: &str = "Nyalakan ulang modem atau coba jaringan lain (mis. hotspot HP). Sementara itu, pasang \
     alamat server di network.pinned.";

fn doctor_dns_advice(dns: &Dns) -> Option<&'static str> {
    match (&dns.said, dns.kind) {
        (Said::Right(_) | Said::Denied { lie: false }, _) => None,
        _ if !dns.others => Some(LINE_DEAD),
        (Said::Silent | Said::Failed(_), Kind::System) if dns.beside => {
            Some("Server kedua menjawab; tidak mendesak.")
        }
        (_, Kind::System) => Some(
            "Ganti DNS di modem (atau di perangkat ini) menjadi 1.1.1.1 atau 8.8.8.8, atau hubungi ISP. Bot \
             sendiri memakai jalur lain yang bertanda ✔.",
        ),
        (_, Kind::Https | Kind::Tls | Kind::Public) => {
            Some("Biasanya ISP yang memblokir atau membelokkan; tidak mendesak selama jalur lain bertanda ✔.")
        }
    }
}

/// The last sentence of `doctor`.
pub fn doctor_summary(bad: usize, notes: usize) -> String {
    match (bad, notes) {
        (0, 0) => "Semua baik.".to_owned(),
        (0, notes) => format!("Tidak ada yang rusak; {notes} hal bertanda ! perlu diketahui."),
        (bad, 0) => format!("Ada {bad} hal bertanda ✖ yang perlu diperbaiki."),
        (bad, notes) => {
            format!(
                "Ada {bad} hal bertanda ✖ yang perlu diperbaiki, dan {notes} bertanda ! yang perlu diketahui."
            )
        }
    }
}

/// What became of the database; `None`: nothing, it is sound or not there.
pub fn set_aside(folder: Option<&Path>) -> String {
    match folder {
        None => "Basis data tidak rusak; tidak ada yang diubah.\n".to_owned(),
        Some(folder) => format!(
            "Basis data yang rusak disisihkan ke folder:\n  {}\nJangan dihapus: pendaftaran di dalamnya \
             mungkin masih bisa diselamatkan teknisi.\nBot sekarang mulai dari awal. Tautkan lagi: bot-kjp \
             pair, lalu nyalakan layanannya.\n",
            folder.display()
        ),
    }
}

/// When the bot refuses to work in memory.
pub const VOLATILE: &str = "Folder data hanya di memori: sesi WhatsApp dan semua pendaftaran hilang saat listrik padam. \
                            Matikan overlay (overlayroot) di armbian-config, atau pindahkan data.folder ke kartu.";

/// One sentence for the operator when the program ends with `code`; the details, in English, stand
/// above it. Nothing to say about a stop that was asked for.
pub fn summary(code: ExitCode) -> Option<&'static str> {
    match code {
        ExitCode::Stopped => None,
        ExitCode::Unhealthy => Some("Ada gangguan yang perlu dibantu. Lihat daftar di atas."),
        ExitCode::Unavailable => Some(NOT_RUNNING),
        ExitCode::Usage => Some("Perintah salah tulis. Lihat: bot-kjp --help"),
        ExitCode::DamagedDatabase => Some(
            "Basis data rusak atau dari versi lain. Jangan hapus apa pun; hubungi teknisi dan tunjukkan \
                 pesan di atas. Basis data yang rusak dapat disisihkan dengan: bot-kjp set-aside",
        ),
        ExitCode::Missing => Some("Berkas atau folder tidak ditemukan. Periksa pesan di atas."),
        ExitCode::Bug => Some("Terjadi kesalahan pada program. Kirim pesan di atas kepada teknisi."),
        ExitCode::CannotCreate => Some(
            "Berkas atau folder tidak dapat dibuat. Periksa apakah penyimpanan penuh atau hanya bisa dibaca.",
        ),
        ExitCode::InputOutput => Some("Gagal membaca atau menulis. Periksa kartu memori atau penyimpanan."),
        ExitCode::Temporary => Some(
            "Bot sudah berjalan di proses lain, atau gangguan sementara. Coba lagi sebentar lagi, atau dengan sudo.",
        ),
        ExitCode::NotPermitted => {
            Some("Tidak diizinkan oleh sistem. Jalankan sebagai pengguna yang benar (mis. dengan sudo).")
        }
        ExitCode::Configuration => {
            Some("Konfigurasi salah. Perbaiki baris yang disebut di atas, lalu: bot-kjp check")
        }
    }
}

/// What `bot-kjp read` says about a message.
pub mod read {
    pub const NAME: &str = "nama";
    pub const CARD: &str = "kartu";
    pub const NIK: &str = "NIK";
    pub const KK: &str = "KK";
    pub const SIXTEEN: &str = "NIK atau KK";
    pub const KIND: &str = "jenis kartu";
    pub const BORN: &str = "tanggal lahir";
    pub const LABEL: &str = "keterangan untuk baris berikutnya";
    pub const WITHDRAWN: &str = "dibatalkan";
    pub const PASSED_OVER: &str = "dilewati";
    pub const REGISTERED: &str = "✔ akan didaftarkan";
    pub const NOBODY: &str = "Tidak ada orang yang terbaca di pesan ini.";

    pub fn person(number: usize, nama: &str) -> String {
        let nama = if nama.is_empty() { "(tanpa nama)" } else { nama };
        format!("{number}. {nama}")
    }

    pub fn left_over(line: &str) -> String {
        format!("Belum dipahami: {line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_countdown_says_how_long_and_then_that_it_is_over() {
        assert_eq!(countdown(&Offer::Qr("2@a"), 20), "Kode QR berlaku 20 detik lagi.");
        assert_eq!(countdown(&Offer::LinkCode("ABCD1234"), 0), "Kode sudah kedaluwarsa. Menunggu kode baru…");
    }

    #[test]
    fn a_link_code_is_shown_in_two_groups() {
        assert!(pairing_steps(&Offer::LinkCode("ABCD1234")).contains("kode ini: ABCD-1234\n"));
        assert!(!pairing_steps(&Offer::Qr("2@rahasia")).contains("rahasia"));
    }

    #[test]
    fn a_wrong_answer_is_told_with_what_to_do_and_nothing_from_outside_reaches_the_terminal_raw() {
        let text = || "\u{1b}[2J".to_owned();
        for error in [
            AnswerError::NotAnAnswer,
            AnswerError::TheScript,
            AnswerError::Incomplete,
            AnswerError::TooLong,
            AnswerError::NotJson(text()),
            AnswerError::Missing("rawId"),
            AnswerError::NotBase64("id"),
            AnswerError::Type(text()),
            AnswerError::Ids,
            AnswerError::OtherPasskey,
            AnswerError::ClientData(text()),
            AnswerError::OtherCeremony(text()),
            AnswerError::OtherChallenge,
            AnswerError::OtherOrigin(format!("https://{}", text())),
            AnswerError::AuthenticatorData(3),
            AnswerError::OtherSite,
            AnswerError::NotVerified,
        ] {
            let told = answer_wrong(&error);
            let what_to_do = ["salin", "tempel", "ulangi", "jalankan"];
            assert!(what_to_do.iter().any(|word| told.to_lowercase().contains(word)), "{told}");
            assert!(!told.contains('\u{1b}'), "{told}");
        }
        let refused = Trouble::ProofRefused { reason: text(), again: true };
        for trouble in [refused, Trouble::BrokenOff(text()), Trouble::NoLinkCode(text())] {
            assert!(!linking_trouble(&trouble).contains('\u{1b}'), "{trouble:?}");
        }
    }

    #[test]
    fn every_end_but_a_wanted_one_has_a_summary() {
        for code in ExitCode::ALL {
            assert_eq!(summary(code).is_none(), code == ExitCode::Stopped, "{code:?}");
        }
    }
}

//! Every Indonesian word that the terminal shows to the operator. What engineers read (`--help`,
//! configuration errors, `check`) is English and lives beside the code that says it.

use std::time::Duration;

use super::exit_code::ExitCode;
use super::pairing_screen::Offer;

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

/// A service that nobody links: it prints no more codes into its journal.
pub const NOT_PAIRED: &str = "Bot belum tertaut ke WhatsApp dan kodenya tidak dipakai. Hentikan layanan ini, \
     jalankan: bot-kjp pair, lalu nyalakan lagi.";

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

/// One sentence for the operator when the program ends with `code`; the details, in English, stand
/// above it. Nothing to say about a stop that was asked for.
pub fn summary(code: ExitCode) -> Option<&'static str> {
    match code {
        ExitCode::Stopped => None,
        ExitCode::Unhealthy => Some("Ada gangguan yang perlu dibantu. Lihat daftar di atas."),
        ExitCode::Unavailable => Some(NOT_RUNNING),
        ExitCode::Usage => Some("Perintah salah tulis. Lihat: bot-kjp --help"),
        ExitCode::DamagedDatabase => {
            Some("Basis data rusak. Jangan hapus apa pun; hubungi teknisi dan tunjukkan pesan di atas.")
        }
        ExitCode::Missing => Some("Berkas atau folder tidak ditemukan. Periksa pesan di atas."),
        ExitCode::Bug => Some("Terjadi kesalahan pada program. Kirim pesan di atas kepada teknisi."),
        ExitCode::CannotCreate => Some(
            "Berkas atau folder tidak dapat dibuat. Periksa apakah penyimpanan penuh atau hanya bisa dibaca.",
        ),
        ExitCode::InputOutput => Some("Gagal membaca atau menulis. Periksa kartu memori atau penyimpanan."),
        ExitCode::Temporary => {
            Some("Bot sudah berjalan di proses lain, atau gangguan sementara. Coba lagi sebentar lagi.")
        }
        ExitCode::NotPermitted => {
            Some("Tidak diizinkan oleh sistem. Jalankan sebagai pengguna yang benar (mis. dengan sudo).")
        }
        ExitCode::Configuration => {
            Some("Konfigurasi salah. Perbaiki baris yang disebut di atas, lalu: bot-kjp check")
        }
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
    fn every_end_but_a_wanted_one_has_a_summary() {
        for code in ExitCode::ALL {
            assert_eq!(summary(code).is_none(), code == ExitCode::Stopped, "{code:?}");
        }
    }
}

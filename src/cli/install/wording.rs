//! Every Indonesian word of `install` and `uninstall`.

use super::health::Unwell;
use super::overlay::{ACCOUNT, DATA, EXAMPLE, INIT_SCRIPT, PREVIOUS, PROGRAM};
use super::plan::{Note, Step};
use super::sandbox::DropIn;
use super::service::Manager;
use crate::watch::report::{Report, State};
use crate::watch::wording::bytes;

/// What has been done.
pub fn done(step: &Step) -> String {
    match step {
        Step::CreateAccount => format!("✔ Pengguna {ACCOUNT} dibuat."),
        Step::MakeFolder(folder) => format!("✔ Folder /{} dibuat.", folder.path),
        Step::CorrectFolder(folder) => format!("✔ Pemilik dan izin folder /{} diperbaiki.", folder.path),
        Step::Write(file) => format!("✔ /{} dipasang.", file.path),
        Step::Correct(file) => format!("✔ Pemilik dan izin /{} diperbaiki; isinya tetap.", file.path),
        Step::SwitchProgram => format!("✔ Program dipasang: /{PROGRAM}"),
        Step::CorrectProgram => format!("✔ Pemilik dan izin /{PROGRAM} diperbaiki."),
        Step::TakeOff(drop_in) => format!(
            "! Kernel perangkat ini menolak sebagian pengaman {}; dilepas: {}. Bot tetap bekerja.",
            drop_in.unit,
            directives(drop_in)
        ),
        Step::GiveBack(drop_in) => {
            format!("✔ Pengaman {} dipasang kembali: {}.", drop_in.unit, directives(drop_in))
        }
        Step::Enable => "✔ Bot menyala sendiri setiap perangkat dihidupkan.".to_owned(),
        Step::Start => "✔ Bot berjalan dan sehat.".to_owned(),
    }
}

fn directives(drop_in: &DropIn) -> String {
    drop_in.directives().collect::<Vec<_>>().join(", ")
}

/// What had to be taken off when the service was started.
pub fn taken_off_until_boot(directives: &[&str]) -> String {
    let directives = directives.join(", ");
    format!("! Kernel menolak sebagian pengaman; dilepas sampai perangkat dinyalakan ulang: {directives}.")
}

/// Said while the new process is waited for.
pub const WAITING: &str = "… Bot dinyalakan; menunggu sampai sehat (paling lama 90 detik).";

/// Nothing had to be done.
pub fn nothing_to_do(version: &str) -> String {
    format!("Versi {version} sudah terpasang dan berjalan; tidak ada yang diubah.")
}

/// The same where nothing runs.
pub fn nothing_to_do_stopped(version: &str) -> String {
    format!("Versi {version} sudah terpasang; tidak ada yang diubah. Bot tidak dijalankan.")
}

pub fn note(note: Note) -> String {
    match note {
        Note::ExampleChanged => {
            format!("! Pengaturan Anda tidak diubah. Ada contoh pengaturan yang baru: /{EXAMPLE}")
        }
        Note::EnableByHand => format!(
            "! Agar menyala sendiri, tambahkan baris ini ke /etc/inittab: ::once:/{INIT_SCRIPT} start"
        ),
    }
}

/// How the bot is and what comes next.
pub fn next(report: Option<&Report>) -> String {
    let code = report.and_then(|report| report.parts.first()).map(|part| part.code.as_str());
    let (state, next) = match (code, report.map(|report| report.state)) {
        (Some("whatsapp.not_paired" | "whatsapp.logged_out" | "whatsapp.pairing"), _) => {
            ("Bot belum tertaut ke WhatsApp.", "tautkan dengan HP: sudo bot-kjp pair")
        }
        (_, Some(State::Unhealthy)) => ("Ada yang perlu dibantu.", "lihat: sudo bot-kjp status"),
        _ => ("Selesai.", "lihat keadaannya kapan saja: sudo bot-kjp status"),
    };
    format!("{state} Langkah berikutnya: {next}")
}

/// Installed below a folder, for an image.
pub fn in_folder(folder: &str) -> String {
    format!("Terpasang di {folder}. Tidak ada yang dijalankan.")
}

/// Installed, and not started.
pub fn not_started(manager: Manager) -> String {
    format!("Terpasang, belum dijalankan. Nyalakan dengan: {}", start_command(manager))
}

pub fn start_command(manager: Manager) -> &'static str {
    match manager {
        Manager::Systemd => "sudo systemctl start bot-kjp",
        Manager::InitScript => "sudo /etc/init.d/bot-kjp start",
    }
}

/// Only root installs.
pub const ONLY_ROOT: &str =
    "Hanya root yang dapat memasang. Jalankan dengan sudo, mis.: sudo ./bot-kjp install";

pub const BUSY: &str = "Pemasangan lain sedang berjalan. Tunggu sampai selesai, lalu ulangi.";

pub fn no_space(needed: u64, free: u64) -> String {
    format!(
        "Ruang kosong kurang: perlu {}, tersisa {}. Hapus berkas yang tidak perlu, lalu ulangi. Belum ada yang diubah.",
        bytes(needed),
        bytes(free)
    )
}

pub fn volatile() -> String {
    format!("{} Belum ada yang diubah.", crate::cli::wording::VOLATILE)
}

pub const CONFIGURATION: &str = "Pengaturan di perangkat ini tidak dapat dipakai versi ini; bot yang sekarang tidak disentuh. \
     Perbaiki baris yang disebut di atas, lalu ulangi.";

pub const FAILED: &str = "Pemasangan gagal. Perbaiki sebab di atas, lalu ulangi perintah yang sama.";

/// Why the new process is not well.
fn unwell(why: &Unwell) -> String {
    match why {
        Unwell::Ended(how) => format!("Bot yang baru mati lagi ({how})."),
        Unwell::TooLate(what) => format!("Bot yang baru tidak sehat dalam 90 detik ({what})."),
    }
}

/// What became of a version that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The one before runs again.
    RolledBack,
    /// The one before is back, and not well either.
    RolledBackUnwell(Unwell),
    /// There is none before.
    FirstInstall,
}

pub fn unhealthy(why: &Unwell, last_lines: &[String], outcome: &Outcome) -> String {
    let mut text = format!("✖ {}\n", unwell(why));
    if !last_lines.is_empty() {
        text.push_str("Catatan terakhirnya:\n");
        for line in last_lines {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text.push_str(&match outcome {
        Outcome::RolledBack => {
            "Versi sebelumnya sudah dipasang kembali dan berjalan. Kirim pesan ini kepada teknisi.".to_owned()
        }
        Outcome::RolledBackUnwell(why) => format!(
            "Versi sebelumnya dipasang kembali, tetapi juga tidak sehat: {} Periksa: sudo bot-kjp doctor",
            unwell(why)
        ),
        Outcome::FirstInstall => {
            "Tidak ada versi sebelumnya; bot dicoba lagi sendiri. Periksa: sudo bot-kjp doctor".to_owned()
        }
    });
    text
}

/// Where the version before is.
pub fn previous() -> String {
    format!("Versi sebelumnya disimpan. Untuk kembali: sudo /{PREVIOUS} install")
}

pub const STOPPED: &str = "✔ Bot dihentikan.";
pub const DISABLED: &str = "✔ Bot tidak lagi menyala sendiri.";
pub const ACCOUNT_REMOVED: &str = "✔ Pengguna bot-kjp dihapus.";
pub const NOT_INSTALLED: &str = "Bot tidak terpasang; tidak ada yang diubah.";

pub fn removed(path: &str) -> String {
    format!("✔ /{path} dihapus.")
}

/// What was kept.
pub fn kept() -> String {
    format!(
        "Bot dilepas. Data (/{DATA}) dan pengaturan (/etc/bot-kjp, /etc/default/bot-kjp) tetap ada. Untuk \
         menghapusnya juga: bot-kjp uninstall --purge {PURGE_WORD}"
    )
}

pub const PURGED: &str =
    "Bot, data, dan pengaturannya dihapus. Hapus juga perangkat ini di HP: WhatsApp > Perangkat tertaut.";

/// The word without which no data is deleted.
pub const PURGE_WORD: &str = "hapus-semua-data";

/// Before and after pairing on a box whose service was running.
pub const SERVICE_PAUSED: &str = "Layanan bot dihentikan sebentar untuk penautan.";
pub const SERVICE_RESUMED: &str = "Layanan bot dinyalakan lagi.";

/// Paired, while the service was stopped before already.
pub fn service_still_stopped(manager: Manager) -> String {
    format!("Layanan bot tidak berjalan. Nyalakan dengan: {}", start_command(manager))
}

/// The service did not come back after pairing.
pub fn service_not_resumed(manager: Manager) -> String {
    format!("Layanan bot tidak dapat dinyalakan lagi. Nyalakan dengan: {}", start_command(manager))
}

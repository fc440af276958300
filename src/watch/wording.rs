//! Every Indonesian word about the state of the bot: on the health page, in `bot-kjp status` and in
//! alerts. No sentence holds a personal number.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::Offset;

use super::facts::{ClockError, Facts};
use super::warning::{Cause, Detail, Severity, Warning};
use crate::ledger::process_start::{Cause as Start, Restarts};
use crate::net::rung::{Condition, Kind};
use crate::pairing::Obstacle;
use crate::supabase::sync;
use crate::supabase::verdict::Action;
use crate::whatsapp::connection::standing::{Phase, Standing};

/// The short name of a cause, fit for "… sudah pulih".
pub const fn subject(cause: Cause) -> &'static str {
    match cause {
        Cause::DiskReadOnly => "Penyimpanan hanya bisa dibaca",
        Cause::DiskFull => "Penyimpanan penuh",
        Cause::DiskFailing => "Penyimpanan gagal menulis",
        Cause::LedgerDamaged => "Basis data tidak terbaca",
        Cause::DiskVolatile => "Data hanya di memori",
        Cause::DiskLow => "Penyimpanan hampir penuh",
        Cause::LineDown => "Internet putus",
        Cause::DnsDead => "DNS tidak berfungsi",
        Cause::DnsSystemLying => "DNS dari ISP menjawab salah",
        Cause::DnsHttpsLying => "DNS lewat HTTPS menjawab salah",
        Cause::DnsTlsLying => "DNS lewat TLS menjawab salah",
        Cause::DnsPublicLying => "DNS umum menjawab salah",
        Cause::DnsSystemFailing => "DNS dari ISP tidak menjawab",
        Cause::LoggedOut => "Bot dikeluarkan dari HP",
        Cause::NotPaired => "Bot belum tertaut ke WhatsApp",
        Cause::Replaced => "Sesi WhatsApp dipakai bot lain",
        Cause::Outdated => "Versi bot ditolak WhatsApp",
        Cause::Banned => "Nomor diblokir sementara oleh WhatsApp",
        Cause::Storm => "Terlalu sering menyambung ke WhatsApp",
        Cause::Offline => "WhatsApp terputus",
        Cause::Deaf => "Tidak ada pesan masuk",
        Cause::RepliesLate => "Balasan terlambat",
        Cause::PhoneUnseen => "HP operator lama tidak aktif",
        Cause::RepliesRefused => "Balasan ditolak WhatsApp",
        Cause::RepliesGivenUp => "Balasan tidak terkirim",
        Cause::SupabaseRefused => "Supabase menolak data",
        Cause::SupabaseBlocked => "Jalan ke Supabase terhalang",
        Cause::SupabaseBroken => "Supabase tidak memahami bot",
        Cause::SupabaseUnreachable => "Supabase tidak dapat dihubungi",
        Cause::SyncLate => "Data terlambat masuk Supabase",
        Cause::SyncParked => "Ada data yang ditolak Supabase",
        Cause::Restarts => "Bot berulang kali mati",
        Cause::ClockWrong => "Jam perangkat salah",
        Cause::MemoryHigh => "Pemakaian memori tinggi",
    }
}

/// What is wrong, in one or two sentences.
pub fn sentence(cause: Cause, detail: &Detail) -> String {
    let more = match (cause, detail) {
        (Cause::DiskLow, Detail::Bytes { free, total }) => {
            format!("tersisa {} dari {}.", bytes(*free), bytes(*total))
        }
        (Cause::DiskFull, Detail::Bytes { free, total }) => format!(
            "tersisa {} dari {}. Pendaftaran baru ditolak dengan sopan sampai ada ruang.",
            bytes(*free),
            bytes(*total)
        ),
        (Cause::DiskVolatile, _) => {
            "sesi WhatsApp dan semua pendaftaran hilang saat listrik padam.".to_owned()
        }
        (Cause::MemoryHigh, Detail::Bytes { total, .. }) => format!("{}.", bytes(*total)),
        (Cause::DiskReadOnly | Cause::DiskFull | Cause::DiskFailing, _) => {
            "pendaftaran baru tidak dapat disimpan. Pesan warga tetap aman di WhatsApp.".to_owned()
        }
        (Cause::LedgerDamaged, _) => "pendaftaran tidak dapat dilayani.".to_owned(),
        (Cause::LineDown, _) => {
            "bot tidak dapat menjangkau internet. Pesan warga menunggu di WhatsApp dan dijawab setelah \
             internet kembali."
                .to_owned()
        }
        (Cause::DnsDead, _) => {
            "internet ada, tetapi tidak satu pun server DNS memberi jawaban yang benar.".to_owned()
        }
        (
            Cause::DnsSystemLying
            | Cause::DnsHttpsLying
            | Cause::DnsTlsLying
            | Cause::DnsPublicLying
            | Cause::DnsSystemFailing,
            _,
        ) => "bot memakai jalur DNS lain dan tetap berjalan.".to_owned(),
        (Cause::LoggedOut, _) => {
            "perangkat tertaut ini dihapus di HP. Data pendaftaran tetap tersimpan.".to_owned()
        }
        (Cause::NotPaired, Detail::Obstacle(Obstacle::Passkey)) => {
            "WhatsApp meminta passkey sebelum bot boleh tertaut; warga belum dapat dilayani.".to_owned()
        }
        (Cause::NotPaired, Detail::Obstacle(Obstacle::Hosted)) => {
            "nomor ini juga dipakai di WhatsApp Business API (coexistence) dan tidak dapat ditautkan."
                .to_owned()
        }
        (Cause::NotPaired, _) => "warga belum dapat dilayani.".to_owned(),
        (Cause::Replaced, _) => "dua bot berebut satu sesi WhatsApp.".to_owned(),
        (Cause::Outdated, _) => "bot mencoba lagi setiap 15 menit.".to_owned(),
        (Cause::Banned, _) => "bot mencoba lagi setelah masa blokir selesai.".to_owned(),
        (Cause::Storm, Detail::For(wait)) => {
            format!("demi keamanan nomor, bot menunggu {} sebelum mencoba lagi.", duration(*wait))
        }
        (Cause::Storm, _) => "demi keamanan nomor, bot menunggu sebelum mencoba lagi.".to_owned(),
        (Cause::Offline, Detail::Failures(failures)) if *failures > 0 => {
            format!("{failures} kali gagal menyambung berturut-turut. Bot terus mencoba sendiri.")
        }
        (Cause::Offline, _) => "bot sedang mencoba menyambung lagi sendiri.".to_owned(),
        (Cause::Deaf, Detail::For(silence)) => format!(
            "sudah {} tidak ada pesan dari siapa pun pada jam buka, walaupun bot terhubung.",
            duration(*silence)
        ),
        (Cause::RepliesLate, Detail::Waiting(waiting)) => format!(
            "{} orang menunggu balasan, yang terlama sudah {}. Semua tetap dijawab menurut giliran.",
            waiting.chats,
            duration(waiting.longest)
        ),
        (Cause::RepliesLate, _) => "semua tetap dijawab menurut giliran.".to_owned(),
        (Cause::PhoneUnseen, Detail::Days(days)) => format!(
            "HP yang tertaut sudah {days} hari tidak terhubung ke WhatsApp. Setelah 14 hari WhatsApp \
             mengeluarkan bot."
        ),
        (Cause::RepliesRefused, Detail::Refused { people, replies, until }) => {
            let until = match until {
                Some(until) => format!(
                    "WhatsApp membatasi nomor ini sampai sekitar {} WIB; warga yang baru pertama kali menulis \
                     belum bisa dibalas",
                    moment(*until)
                ),
                None => "WhatsApp belum mengizinkan bot membalas sebagian warga".to_owned(),
            };
            format!(
                "{until}. {people} orang ditolak, {replies} balasan disimpan dan dikirim begitu diizinkan."
            )
        }
        (Cause::RepliesGivenUp, Detail::Count(replies)) => format!(
            "{replies} balasan tidak dapat dikirim dalam 24 jam terakhir: ditolak WhatsApp, atau HP penerimanya \
             tidak terjangkau. Data yang sudah dicatat tetap aman."
        ),
        (Cause::SupabaseRefused, Detail::Action(action)) => supabase_problem(*action).to_owned(),
        (Cause::SupabaseBlocked, _) => supabase_problem(Action::ClearTheWay).to_owned(),
        (Cause::SupabaseBroken, _) => {
            "jawabannya tidak cocok dengan versi bot ini. Data aman di perangkat ini.".to_owned()
        }
        (Cause::SupabaseUnreachable, _) => {
            "warga tetap dilayani; data menunggu di perangkat ini dan dikirim setelah pulih.".to_owned()
        }
        (Cause::SyncLate, Detail::For(age)) => {
            format!("data tertua sudah menunggu {}.", duration(*age))
        }
        (Cause::SyncParked, Detail::Count(rows)) => {
            format!("{rows} pendaftaran tersimpan di perangkat ini, tetapi tidak ada di Supabase.")
        }
        (Cause::Restarts, Detail::Restarts(restarts)) => format!(
            "{} kali menyala ulang sendiri dalam satu jam terakhir ({}).",
            restarts.total(),
            by_cause(restarts)
        ),
        (Cause::ClockWrong, Detail::Clock(ClockError::Differs { behind })) => {
            let way = if *behind > 0 { "terlambat" } else { "terlalu cepat" };
            format!("{way} {} dari jam WhatsApp.", duration(Duration::from_secs(behind.unsigned_abs())))
        }
        (Cause::ClockWrong, _) => "jam menunjukkan masa lalu.".to_owned(),
        _ => return format!("{}.", subject(cause)),
    };
    format!("{}: {more}", subject(cause))
}

const fn supabase_problem(action: Action) -> &'static str {
    match action {
        Action::CheckKey => "kunci Supabase salah atau tidak berlaku lagi. Data menunggu di perangkat ini.",
        Action::UseSecretKey => "kunci yang dipasang adalah kunci umum. Data menunggu di perangkat ini.",
        Action::GrantRights => "kunci tidak punya hak menyimpan. Data menunggu di perangkat ini.",
        Action::InstallSchema => "tabel atau fungsi bot belum dipasang. Data menunggu di perangkat ini.",
        Action::CheckUrl => "alamat Supabase salah. Data menunggu di perangkat ini.",
        Action::FreeDiskSpace => "penyimpanan proyek Supabase penuh. Data menunggu di perangkat ini.",
        Action::CheckRole => {
            "semua permintaan ditolak, apa pun isinya, karena pengaturan peran (role) di Supabase atau kuncinya. \
             Data menunggu di perangkat ini."
        }
        Action::CheckTable => {
            "setiap baris ditolak dengan alasan yang sama, jadi sebabnya aturan tabel, bukan datanya. Data menunggu \
             di perangkat ini."
        }
        Action::LiftRestriction => {
            "proyeknya dibatasi karena kuota habis atau tagihan belum dibayar. Data menunggu di perangkat ini."
        }
        Action::ClearTheWay => {
            "yang menjawab bukan Supabase, tetapi halaman lain (portal Wi-Fi, firewall, atau ISP). Data menunggu di \
             perangkat ini."
        }
    }
}

const CLEAR_THE_WAY: &str = "Buka situs apa saja dari internet yang sama dan masuk (login) bila diminta; bila tidak ada, \
                             nyalakan ulang modem, lalu hubungi ISP.";

/// What a person has to do about it.
pub fn action(cause: Cause, detail: &Detail) -> &'static str {
    match (cause, detail) {
        (Cause::DiskReadOnly | Cause::DiskFailing, _) => {
            "Nyalakan ulang perangkat. Bila terulang, kartu memori rusak: salin folder data, lalu ganti kartu."
        }
        (Cause::DiskVolatile, _) => {
            "Matikan overlay (overlayroot) di armbian-config, atau pindahkan data.folder ke kartu, lalu nyalakan ulang."
        }
        (Cause::DiskFull | Cause::DiskLow, _) => {
            "Hapus berkas yang tidak perlu (jangan yang namanya diawali bot-kjp.db). Lihat pemakaian: df -h"
        }
        (Cause::LedgerDamaged, _) => {
            "Jangan hapus apa pun. Hubungi teknisi. Untuk mulai dari awal tanpa data lama: bot-kjp set-aside"
        }
        (Cause::LineDown, _) => "Periksa modem, kabel, dan paket data. Bot menyambung sendiri setelah pulih.",
        (Cause::DnsDead, _) => {
            "Nyalakan ulang modem. Bila tetap, pasang alamat cadangan di network.pinned atau hubungi ISP."
        }
        (Cause::DnsSystemLying | Cause::DnsSystemFailing, _) => {
            "Tidak mendesak. Bila mau, ganti DNS di modem menjadi 1.1.1.1 atau 8.8.8.8."
        }
        (Cause::DnsHttpsLying | Cause::DnsTlsLying | Cause::DnsPublicLying, _) => {
            "Tidak mendesak. Server itu dapat dihapus dari network.dns di konfigurasi."
        }
        (Cause::NotPaired, Detail::Obstacle(Obstacle::Passkey)) => {
            "Siapkan HP dan komputer dengan browser, lalu jalankan di terminal: sudo bot-kjp pair (langkah passkey tampil \
             di sana)"
        }
        (Cause::NotPaired, Detail::Obstacle(Obstacle::Hosted)) => {
            "Lepaskan nomor ini dari WhatsApp Business API, atau pakai nomor lain; lalu jalankan: sudo bot-kjp pair"
        }
        (Cause::LoggedOut, _) => "Siapkan HP, lalu jalankan di perangkat bot: sudo bot-kjp pair",
        (Cause::NotPaired, _) => {
            "Siapkan HP, lalu jalankan di perangkat bot: sudo bot-kjp pair (bila WhatsApp meminta passkey, langkahnya \
             tampil di sana)"
        }
        (Cause::Replaced, _) => "Matikan bot lain yang memakai nomor ini.",
        (Cause::Outdated, _) => "Bila tidak pulih dalam satu jam, perbarui bot.",
        (Cause::Banned, _) => {
            "Tunggu. Jangan menautkan ulang dan jangan mengirim pesan massal dari nomor ini."
        }
        (Cause::Storm | Cause::Offline, _) => {
            "Tunggu sebentar. Bila lama, periksa internet, lalu jalankan: bot-kjp status"
        }
        (Cause::Deaf, _) => {
            "Kirim pesan percobaan ke nomor bot. Bila tidak dijawab, nyalakan ulang bot. Bila dijawab, abaikan."
        }
        (Cause::PhoneUnseen, _) => "Buka WhatsApp di HP yang tertaut dan biarkan terhubung ke internet.",
        (Cause::RepliesRefused, _) => {
            "Tunggu. Jangan menautkan ulang atau mengirim pesan massal. Bila mendesak, balas dari HP yang tertaut."
        }
        (Cause::RepliesGivenUp, _) => {
            "Buka WhatsApp di HP yang tertaut dan balas sendiri warga yang chatnya belum dijawab bot."
        }
        (Cause::SupabaseRefused, Detail::Action(action)) => match action {
            Action::CheckKey | Action::UseSecretKey => {
                "Pasang kunci rahasia proyek (sb_secret_…) di SUPABASE_SECRET_KEY, lalu nyalakan ulang bot."
            }
            Action::GrantRights | Action::InstallSchema => {
                "Jalankan SQL dari perintah bot-kjp schema di SQL Editor Supabase."
            }
            Action::CheckUrl => "Periksa supabase.url di konfigurasi (https://….supabase.co).",
            Action::FreeDiskSpace => "Kosongkan penyimpanan atau naikkan paket proyek Supabase.",
            Action::CheckRole => {
                "Jalankan di SQL Editor Supabase: alter role service_role reset all; notify pgrst, 'reload schema'; \
                 (bila tetap, pasang kunci rahasia proyek, sb_secret_…)"
            }
            Action::CheckTable => {
                "Batalkan perubahan terakhir pada tabel data_harian di Supabase (kolom wajib, trigger, aturan)."
            }
            Action::LiftRestriction => {
                "Buka dasbor Supabase, Billing: bayar tagihannya, naikkan paket, atau lepas batas belanja (spend cap)."
            }
            Action::ClearTheWay => CLEAR_THE_WAY,
        },
        (Cause::SupabaseRefused, _) => "Periksa proyek Supabase.",
        (Cause::SupabaseBlocked, _) => CLEAR_THE_WAY,
        (Cause::SupabaseBroken, _) => {
            "Samakan versi: jalankan lagi SQL dari bot-kjp schema, atau hubungi teknisi."
        }
        (Cause::SupabaseUnreachable | Cause::SyncLate, _) => {
            "Buka dasbor Supabase: bila proyek dijeda (paused), aktifkan lagi."
        }
        (Cause::SyncParked, _) => {
            "Periksa aturan tabel di Supabase. Setelah diperbaiki, nyalakan ulang bot agar data dikirim lagi."
        }
        (Cause::Restarts, _) => "Periksa daya listrik, lalu kirim log kepada teknisi: journalctl -u bot-kjp",
        (Cause::ClockWrong, _) => {
            "Periksa jam (timedatectl) dan sambungan internet untuk penyetelan otomatis."
        }
        (Cause::RepliesLate, _) => {
            "Tidak perlu apa-apa bila sedang ramai. Bila sering, naikkan outbox.total_per_second sedikit demi \
             sedikit; terlalu cepat dapat membuat nomor diblokir."
        }
        (Cause::MemoryHigh, _) => "Nyalakan ulang bot dan laporkan kepada teknisi.",
    }
}

/// The message that tells of a cause.
pub fn raised(cause: Cause, detail: &Detail, since: i64) -> String {
    let mark = match cause.warnable().severity {
        Severity::Unhealthy => "🔴",
        Severity::Warning => "⚠️",
    };
    format!(
        "{mark} *Bot KJP* – {}\nSejak {} WIB.\n👉 {}\n({})",
        sentence(cause, detail),
        moment(since),
        action(cause, detail),
        cause.code()
    )
}

/// The message that reminds of a cause that still holds.
pub fn reminded(cause: Cause, detail: &Detail, since: i64) -> String {
    format!(
        "⏰ *Bot KJP* – masih: {}\nSejak {} WIB.\n👉 {}\n({})",
        sentence(cause, detail),
        moment(since),
        action(cause, detail),
        cause.code()
    )
}

/// The message that a cause has gone away. It stands on its own: the one that told of it may never
/// have been sent.
pub fn recovered(cause: Cause, since: i64, until: i64) -> String {
    let lasted = Duration::from_secs(u64::try_from(until.saturating_sub(since)).unwrap_or(0));
    format!(
        "✅ *Bot KJP* – sudah pulih: {}.\nSejak {} sampai {} WIB, selama {}.\n({})",
        subject(cause),
        moment(since),
        moment(until),
        duration(lasted),
        cause.code()
    )
}

/// Day and time in Jakarta.
pub fn moment(unix: i64) -> String {
    let moment = Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH);
    let local = Offset::constant(7).to_datetime(moment);
    format!("{:02}/{:02} {:02}.{:02}", local.day(), local.month(), local.hour(), local.minute())
}

/// A length of time in its one or two largest units.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} detik"),
        (0, 0, minutes) => format!("{minutes} menit"),
        (0, hours, 0) => format!("{hours} jam"),
        (0, hours, minutes) => format!("{hours} jam {minutes} menit"),
        (days, 0, _) => format!("{days} hari"),
        (days, hours, _) => format!("{days} hari {hours} jam"),
    }
}

/// A size, with a decimal comma.
pub fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let tenths = u128::from(bytes) * 10 / unit;
    format!("{},{} {name}", tenths / 10, tenths % 10)
}

/// How a part stands when no warning says it.
pub fn whatsapp(standing: &Standing) -> &'static str {
    match standing.phase {
        Phase::Online => "terhubung",
        Phase::Syncing => "terhubung, sedang mengambil pesan yang menunggu",
        Phase::Offline => "tidak terhubung, menunggu percobaan berikutnya",
        Phase::Resolving => "sedang mencari alamat server",
        Phase::Connecting => "sedang menyambung",
        Phase::Handshake => "sedang masuk",
        Phase::Pairing => "menunggu ditautkan dengan HP",
    }
}

/// The state in one line: how WhatsApp stands, and what is wrong.
pub fn headline(standing: &Standing, visible: &[Warning]) -> String {
    let mut line = format!("WhatsApp: {}", whatsapp(standing));
    for warning in visible {
        line.push_str("; ");
        line.push_str(subject(warning.cause));
    }
    line
}

/// One server of the DNS ladder.
pub fn rung(kind: Kind, condition: &Condition) -> String {
    let name = match kind {
        Kind::System => "dari ISP/modem",
        Kind::Https => "lewat HTTPS",
        Kind::Tls => "lewat TLS",
        Kind::Public => "umum",
    };
    let state = match condition {
        Condition::Unknown => "belum dipakai",
        Condition::Good => "baik",
        Condition::Failing { .. } => "tidak menjawab",
        Condition::Lying { .. } => "menjawab salah",
    };
    format!("{name}: {state}")
}

pub fn supabase(standing: Option<&sync::Standing>) -> String {
    match standing {
        None => "tidak dipakai; data hanya di perangkat ini".to_owned(),
        Some(sync::Standing::Working) => "terhubung".to_owned(),
        Some(sync::Standing::Retrying { failures, .. }) => {
            format!("{failures} kali gagal berturut-turut; dicoba lagi sendiri")
        }
        Some(sync::Standing::NeedsOperator { action, .. }) => supabase_problem(*action).to_owned(),
        Some(sync::Standing::Broken { .. }) => "jawabannya tidak cocok dengan versi bot ini".to_owned(),
    }
}

pub fn queues(facts: &Facts) -> String {
    let queues = &facts.queues;
    let mut text = format!(
        "{} pesan masuk, {} balasan, {} pendaftaran menunggu",
        queues.backlog.max(queues.inbox),
        queues.outbox.waiting,
        queues.sync.pending
    );
    if let Some(age) = facts.oldest_unsynced() {
        text.push_str(&format!(" (tertua {})", duration(age)));
    }
    if let Some(waiting) = queues.replies.filter(|waiting| waiting.chats > 1) {
        text.push_str(&format!(
            "; {} orang menunggu balasan, terlama {}",
            waiting.chats,
            duration(waiting.longest)
        ));
    }
    if queues.outbox.failed > 0 {
        text.push_str(&format!("; {} balasan gagal", queues.outbox.failed));
        let refusals = &facts.refusals;
        let reasons: Vec<String> = [
            (refusals.given_up, "ditolak WhatsApp"),
            (refusals.without_phone, "HP penerima tidak terjangkau"),
        ]
        .into_iter()
        .filter(|(replies, _)| *replies > 0)
        .map(|(replies, reason)| format!("{replies} {reason}"))
        .collect();
        if !reasons.is_empty() {
            text.push_str(&format!(" ({})", reasons.join(", ")));
        }
    }
    if facts.refusals.parked > 0 {
        text.push_str(&format!("; {} balasan menunggu izin WhatsApp", facts.refusals.parked));
    }
    if queues.sync.parked > 0 {
        text.push_str(&format!("; {} ditolak Supabase", queues.sync.parked));
    }
    text
}

pub fn disk(facts: &Facts) -> String {
    match facts.storage.disk {
        None => "tidak diketahui".to_owned(),
        Some(disk) => {
            let mode = if disk.read_only { ", hanya bisa dibaca" } else { "" };
            format!("tersisa {} dari {}{mode}", bytes(disk.free), bytes(disk.total))
        }
    }
}

pub fn memory(facts: &Facts) -> String {
    match facts.memory {
        None => "tidak diketahui".to_owned(),
        Some(memory) => {
            format!("{} (data bot {})", bytes(memory.resident), bytes(memory.anonymous))
        }
    }
}

pub fn process(facts: &Facts) -> String {
    let uptime = facts.now.saturating_duration_since(facts.started);
    let mut text = format!("menyala {}", duration(uptime));
    if let Some(cause) = facts.start {
        text.push_str(&format!(", sebelumnya {}", start(cause)));
    }
    text.push_str(&format!("; {} kali menyala ulang sendiri dalam satu jam", facts.restarts.total()));
    if facts.restarts.total() > 0 {
        text.push_str(&format!(" ({})", by_cause(&facts.restarts)));
    }
    text
}

/// What became of the process before.
pub const fn start(cause: Start) -> &'static str {
    match cause {
        Start::First => "belum pernah berjalan",
        Start::Asked => "dihentikan operator",
        Start::Update => "diperbarui",
        Start::Reboot => "perangkat dinyalakan ulang",
        Start::PowerCut => "listrik padam",
        Start::Crash => "mati mendadak",
        Start::Watchdog => "macet",
        Start::OutOfMemory => "kehabisan memori",
        Start::Failed => "berhenti karena kesalahan",
        Start::Configuration => "konfigurasi salah",
    }
}

/// How often each cause, the words of [`start`].
fn by_cause(restarts: &Restarts) -> String {
    let counts: Vec<String> =
        restarts.iter().map(|(cause, count)| format!("{count} {}", start(cause))).collect();
    counts.join(", ")
}

pub fn clock(facts: &Facts) -> String {
    let state = if facts.clock_error().is_some() { "salah" } else { "wajar" };
    format!("{state} ({} WIB)", moment(facts.unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_name_a_sentence_and_something_to_do() {
        let mut details = vec![
            Detail::None,
            Detail::Failures(7),
            Detail::Bytes { free: 1, total: 2 },
            Detail::Count(6),
            Detail::Waiting(super::super::facts::Waiting { longest: Duration::from_secs(400), chats: 2000 }),
            Detail::Restarts(Start::ALL.into_iter().map(|cause| (cause, 3)).collect()),
            Detail::For(Duration::from_secs(90)),
            Detail::Days(12),
            Detail::Clock(ClockError::BeforeBuild),
            Detail::Refused { people: 12, replies: 345, until: Some(1_795_402_800) },
            Detail::Refused { people: 1, replies: 1, until: None },
            Detail::Obstacle(Obstacle::Passkey),
            Detail::Obstacle(Obstacle::Hosted),
        ];
        details.extend(Action::ALL.map(Detail::Action));
        let mut names = std::collections::BTreeSet::new();
        for &cause in Cause::ALL {
            assert!(names.insert(subject(cause)), "{cause:?}");
            for detail in &details {
                let sentence = sentence(cause, detail);
                assert!(sentence.starts_with(subject(cause)) && sentence.ends_with('.'), "{sentence}");
                assert!(!action(cause, detail).is_empty());
                // A message that is read on a telephone.
                let message = raised(cause, detail, 1_795_402_800);
                assert!(message.chars().count() < 450, "{message}");
                assert!(message.contains("23/11 10.00 WIB"));
            }
        }
    }

    #[test]
    fn lengths_of_time_and_sizes_are_said_in_their_largest_units() {
        for (seconds, text) in [
            (0, "0 detik"),
            (59, "59 detik"),
            (60, "1 menit"),
            (3600, "1 jam"),
            (5340, "1 jam 29 menit"),
            (86_400, "1 hari"),
            (100_000, "1 hari 3 jam"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(bytes(0), "0,0 kB");
        assert_eq!(bytes(9_876_543), "9,8 MB");
        assert_eq!(bytes(u64::MAX), "18446744073,7 GB");
    }

    #[test]
    fn every_cause_of_a_start_has_words_of_its_own() {
        let words: std::collections::BTreeSet<_> = Start::ALL.map(start).into_iter().collect();
        assert_eq!(words.len(), Start::ALL.len());
        let restarts = [(Start::PowerCut, 2), (Start::Watchdog, 4), (Start::Asked, 9)].into_iter().collect();
        assert_eq!(
            sentence(Cause::Restarts, &Detail::Restarts(restarts)),
            "Bot berulang kali mati: 6 kali menyala ulang sendiri dalam satu jam terakhir (2 listrik padam, 4 \
             macet)."
        );
    }

    #[test]
    fn a_recovery_tells_the_whole_story() {
        let text = recovered(Cause::Offline, 1_795_402_800, 1_795_402_800 + 5340);
        assert_eq!(
            text,
            "✅ *Bot KJP* – sudah pulih: WhatsApp terputus.\nSejak 23/11 10.00 sampai 23/11 11.29 WIB, selama \
             1 jam 29 menit.\n(whatsapp.offline)"
        );
    }

    /// The operator's guide as it lies on the box.
    const GUIDE: &str = include_str!("../../rootfs/usr/share/doc/bot-kjp/PANDUAN.md");

    #[test]
    fn the_guide_explains_every_warning_in_the_bots_own_words_and_no_other() {
        let (_, rest) = GUIDE.split_once("<!-- peringatan -->\n").unwrap();
        let (list, _) = rest.split_once("<!-- selesai -->").unwrap();
        let mut sections = list.split("\n### ");
        assert_eq!(sections.next().unwrap().trim(), "");
        let mut explained = std::collections::BTreeMap::new();
        for section in sections {
            let (title, body) = section.split_once('\n').unwrap();
            let (_, code) = title.strip_suffix("`)").unwrap().rsplit_once("(`").unwrap();
            assert!(Cause::of_code(code).is_some(), "the guide explains {code}, which no bot says");
            assert!(explained.insert(code, (title, body)).is_none(), "{code} is explained twice");
        }
        let mut variants =
            vec![Detail::None, Detail::Obstacle(Obstacle::Passkey), Detail::Obstacle(Obstacle::Hosted)];
        // What belongs to another cause is said there.
        variants.extend(Action::ALL.map(Detail::Action));
        for &cause in Cause::ALL {
            let mark = match cause.warnable().severity {
                Severity::Unhealthy => "🔴",
                Severity::Warning => "⚠️",
            };
            let wanted = format!("{mark} {} (`{}`)", subject(cause), cause.code());
            let about = |detail: &&Detail| match detail {
                Detail::Action(action) => Cause::of_action(*action) == cause,
                _ => true,
            };
            let actions: std::collections::BTreeSet<_> =
                variants.iter().filter(about).map(|detail| action(cause, detail)).collect();
            let (title, body) = explained
                .get(cause.code())
                .unwrap_or_else(|| panic!("PANDUAN.md does not explain: ### {wanted}\n{actions:?}"));
            assert_eq!(*title, wanted);
            for action in actions {
                assert!(body.contains(action), "PANDUAN.md, {}, lacks: {action}", cause.code());
            }
        }
    }
}

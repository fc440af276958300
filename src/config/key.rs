//! Every key of the configuration file, declared once. The types, the parser, the table in the
//! README, the annotated example and the output of `bot-kjp check` are made from this list.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::file::Reader;
use super::rule::{
    AbsolutePath, HookUrl, Ip, Level, List, ListenOn, Optional, Phone, PinnedHost, PrefixOfCards, Rule,
    Server, Size, Span, Text, Url, WebVersion, Whole, Word, YesOrNo,
};
use super::secret::SecretUrl;
use crate::net::rung::Kind;
use crate::personal::PhoneNumber;
use crate::registration::Rulebook;
use crate::registration::rulebook::{CardPrefix, MOST_PEOPLE, MOST_PREFIXES};

const DNS_RUNGS: &[(&str, Kind)] =
    &[("system", Kind::System), ("https", Kind::Https), ("tls", Kind::Tls), ("public", Kind::Public)];

/// Most servers of one kind: more would not fit into the time for one look-up.
const MOST_SERVERS: usize = 4;

/// What the address of a Supabase project may be, in the file and in `SUPABASE_URL`.
pub(super) const SUPABASE_URL: Url =
    Url { schemes: &["https", "http"], local_only: Some("http"), path: false };

/// What a key is worth when nobody sets it, as TOML.
#[derive(Debug, Clone, Copy)]
pub(super) enum Initial {
    Default(&'static str),
    /// Not set; the text is a value for the example file.
    Unset(&'static str),
}

/// One key, as text for people.
#[derive(Debug)]
pub(super) struct Key {
    pub section: &'static str,
    pub name: &'static str,
    /// `section.name`
    pub path: &'static str,
    /// One sentence in English.
    pub doc: &'static str,
    /// The same for the operator, in Indonesian.
    pub penjelasan: &'static str,
    pub initial: Initial,
    pub allowed: String,
}

macro_rules! keys {
    ($(
        #[doc = $section_doc:literal]
        $section:ident: $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                #[penjelasan = $penjelasan:literal]
                $name:ident: $type:ty = $initial:ident($toml:literal), $rule:expr;
            )+
        }
    )+) => {
        $(
            #[doc = $section_doc]
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $name: $type, )+
            }
        )+

        /// Everything that the configuration file can say, checked against its bounds.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $( #[doc = $section_doc] pub $section: $Section, )+
        }

        impl Settings {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $( $section: $Section {
                        $( $name: reader.value(
                            concat!(stringify!($section), ".", stringify!($name)),
                            Initial::$initial($toml),
                            &$rule,
                        ), )+
                    }, )+
                }
            }

            /// The value of each key as TOML in the order of declaration; `None` = not set.
            pub(super) fn written(&self) -> Vec<(&'static str, Option<String>)> {
                vec![$( $( (
                    concat!(stringify!($section), ".", stringify!($name)),
                    $rule.toml(&self.$section.$name),
                ), )+ )+]
            }
        }

        /// Every key in the order of declaration.
        pub(super) fn all() -> Vec<Key> {
            vec![$( $( Key {
                section: stringify!($section),
                name: stringify!($name),
                path: concat!(stringify!($section), ".", stringify!($name)),
                doc: concat!($($doc),+).trim_ascii_start(),
                penjelasan: $penjelasan,
                initial: Initial::$initial($toml),
                allowed: $rule.allowed(),
            }, )+ )+]
        }

        /// The paths of all keys.
        pub(super) const PATHS: &[&str] = &[
            $( $( concat!(stringify!($section), ".", stringify!($name)), )+ )+
        ];

        /// The names of all sections.
        pub(super) const SECTIONS: &[&str] = &[$( stringify!($section), )+];
    };
}

keys! {
    /// What the bot must not lose.
    data: Data {
        /// Folder of the database with the WhatsApp session and all registrations; `--data DIR`
        /// wins over it.
        #[penjelasan = "Folder basis data: sesi WhatsApp dan semua pendaftaran."]
        folder: PathBuf = Default("\"/var/lib/bot-kjp\""), AbsolutePath;
        /// Days for which a registration stays on this box after Supabase has it; one that Supabase
        /// does not have stays for ever.
        #[penjelasan = "Lama (hari) pendaftaran disimpan di perangkat ini setelah masuk Supabase; yang belum masuk tidak pernah dihapus."]
        keep_days: u32 = Default("35"), Whole { least: 2, most: 3650, unit: "days" };
        /// Whether the bot may work although its folder is in memory, and everything is lost with the power.
        #[penjelasan = "Boleh (true) atau tidak (false) bot bekerja walau folder datanya hanya di memori: semua hilang saat listrik padam."]
        volatile: bool = Default("false"), YesOrNo;
    }
    /// The disk that holds the data folder.
    disk: DiskLimits {
        /// With less free space than this (or than a fifth of the disk, if that is less) the operator
        /// is warned.
        #[penjelasan = "Operator diperingatkan bila ruang kosong kurang dari ini (atau dari seperlima penyimpanan, bila itu lebih kecil)."]
        warn_below: u64 = Default("\"200MB\""), Size { least: 10_000_000, most: 100_000_000_000 };
        /// With less free space than this (or than a twentieth of the disk, if that is less) no
        /// registrations are taken; everything else goes on.
        #[penjelasan = "Pendaftaran ditolak dengan sopan bila ruang kosong kurang dari ini (atau dari seperdua puluh penyimpanan, bila itu lebih kecil)."]
        stop_below: u64 = Default("\"20MB\""), Size { least: 5_000_000, most: 10_000_000_000 };
    }
    /// The connection to WhatsApp.
    whatsapp: WhatsApp {
        /// Address of WhatsApp's server; changed only for tests.
        #[penjelasan = "Alamat server WhatsApp; hanya diubah untuk pengujian."]
        url: String = Default("\"wss://web.whatsapp.com/ws/chat\""),
            Url { schemes: &["wss", "ws"], local_only: None, path: true };
        /// Name of this device in the phone's list of linked devices; takes effect at the next
        /// pairing.
        #[penjelasan = "Nama perangkat ini di daftar perangkat tertaut pada HP; berlaku saat penautan berikutnya."]
        device_name: String = Default("\"Bot KJP\""), Text { most_characters: 40 };
        /// Version of WhatsApp Web that the bot claims to be; if not set, it finds the current
        /// one itself.
        #[penjelasan = "Versi WhatsApp Web; kosongkan agar bot mencari versi terbaru sendiri."]
        version: Option<(u32, u32, u32)> = Unset("\"2.3000.1040000000\""), Optional(WebVersion);
        /// One-time keys kept ready at WhatsApp for people who write for the first time; more
        /// keys cost memory and start-up time.
        #[penjelasan = "Jumlah kunci sekali pakai yang disiapkan untuk pengirim baru; makin banyak makin boros memori."]
        pre_keys: u32 = Default("50"), Whole { least: 5, most: 812, unit: "keys" };
    }
    /// How the network is used.
    network: Network {
        /// PEM file with certificate authorities trusted besides the built-in ones.
        #[penjelasan = "Berkas PEM berisi sertifikat CA tambahan yang dipercaya."]
        ca_file: Option<PathBuf> = Unset("\"/etc/bot-kjp/ca.pem\""), Optional(AbsolutePath);
        /// Ways to ask for the addresses of a name, in the order in which they are tried; what is
        /// left out is never asked.
        #[penjelasan = "Cara mencari alamat server (DNS), menurut urutan; yang tidak disebut tidak dipakai."]
        dns: Vec<Kind> = Default("[\"system\", \"https\", \"tls\", \"public\"]"), List { each: Word(DNS_RUNGS), least: 1, most: 4 };
        /// File that names the system's DNS servers; read again whenever it changes.
        #[penjelasan = "Berkas berisi server DNS sistem; dibaca ulang setiap kali berubah."]
        resolv_conf: PathBuf = Default("\"/etc/resolv.conf\""), AbsolutePath;
        /// DNS-over-HTTPS servers (path `/dns-query`), whose certificates must name these addresses.
        #[penjelasan = "Server DNS lewat HTTPS; tetap bisa dipakai bila DNS biasa dibelokkan penyedia internet."]
        // Not Quad9, which no longer answers HTTP/1.1 here.
        dns_https: Vec<SocketAddr> = Default("[\"1.1.1.1\", \"8.8.8.8\", \"1.0.0.1\"]"),
            List { each: Server { usual_port: 443 }, least: 0, most: MOST_SERVERS };
        /// DNS-over-TLS servers, whose certificates must name these addresses.
        #[penjelasan = "Server DNS lewat TLS."]
        dns_tls: Vec<SocketAddr> = Default("[\"1.1.1.1\", \"8.8.8.8\", \"9.9.9.9\"]"),
            List { each: Server { usual_port: 853 }, least: 0, most: MOST_SERVERS };
        /// Public DNS servers that are asked without encryption.
        #[penjelasan = "Server DNS umum tanpa enkripsi."]
        dns_public: Vec<SocketAddr> = Default("[\"1.1.1.1\", \"8.8.8.8\", \"9.9.9.9\"]"),
            List { each: Server { usual_port: 53 }, least: 0, most: MOST_SERVERS };
        /// Addresses in the own network that a name may lead to; any other private address in a DNS
        /// answer is taken for a lie.
        #[penjelasan = "Alamat di jaringan sendiri yang boleh menjadi jawaban DNS; alamat lokal lain dianggap jawaban palsu."]
        private_addresses: Vec<IpAddr> = Default("[]"), List { each: Ip, least: 0, most: 8 };
        /// Addresses to use when nobody knows an address of a name.
        #[penjelasan = "Alamat cadangan bila semua DNS gagal, misalnya \"web.whatsapp.com=157.240.1.60\"."]
        pinned: Vec<(String, IpAddr)> = Default("[]"), List { each: PinnedHost, least: 0, most: 16 };
    }
    /// How the connection to WhatsApp is kept.
    connection: Connection {
        /// Longest wait before the first, second, third … try after a failure; the last one holds for
        /// all further tries. The wait itself is random below it.
        #[penjelasan = "Jeda terlama sebelum mencoba menyambung lagi (acak di bawahnya); yang terakhir dipakai seterusnya."]
        backoff: Vec<Duration> = Default("[\"5s\", \"10s\", \"30s\", \"60s\"]"),
            List { each: Span { least: Duration::from_secs(1), most: Duration::from_secs(3600) }, least: 1, most: 8 };
        /// How long a connection must hold before the waits start from the first again.
        #[penjelasan = "Lama koneksi harus bertahan sebelum jeda kembali ke yang pertama."]
        stable: Duration = Default("\"60s\""),
            Span { least: Duration::from_secs(1), most: Duration::from_secs(3600) };
        /// Hard ceiling on tries per hour, kept across restarts.
        #[penjelasan = "Batas mutlak jumlah percobaan menyambung per jam, juga bila bot dinyalakan ulang."]
        attempts_per_hour: u32 = Default("130"), Whole { least: 10, most: 3600, unit: "tries" };
        /// Failures in a row after which the operator is told.
        #[penjelasan = "Jumlah kegagalan beruntun sebelum operator diberi tahu."]
        told_after: u32 = Default("5"), Whole { least: 1, most: 1000, unit: "failures" };
        /// Longest silence in opening hours (06:05 to midnight WIB): no message from anybody for so
        /// long, and the connection is made anew.
        #[penjelasan = "Bila selama ini tidak ada pesan masuk pada jam buka (06.05-24.00), koneksi disambung ulang."]
        longest_silence: Duration = Default("\"3h\""),
            Span { least: Duration::from_secs(60), most: Duration::from_secs(86_400) };
    }
    /// What others can see of the bot's state.
    health: Health {
        /// Where `/health` and `/metrics` are served over HTTP; `bot-kjp status` asks there.
        #[penjelasan = "Alamat halaman status (/health dan /metrics); bot-kjp status bertanya ke sini."]
        listen: Option<SocketAddr> = Default("\"127.0.0.1:8788\""), ListenOn;
    }
    /// Who is told when something is wrong.
    alert: Alert {
        /// WhatsApp numbers of the operators.
        #[penjelasan = "Nomor WhatsApp operator yang diberi tahu bila ada gangguan."]
        operators: Vec<PhoneNumber> = Default("[]"), List { each: Phone, least: 0, most: 5 };
        /// An ntfy topic that gets the same messages.
        #[penjelasan = "Alamat topik ntfy yang menerima pemberitahuan yang sama."]
        ntfy: Option<SecretUrl> = Unset("\"https://ntfy.sh/topik-rahasia\""), Optional(HookUrl);
        /// A healthchecks.io check (or Uptime Kuma push address), called while all is well.
        #[penjelasan = "Alamat cek healthchecks.io yang dipanggil selama semuanya baik."]
        healthchecks: Option<SecretUrl> = Unset("\"https://hc-ping.com/kode-rahasia\""), Optional(HookUrl);
        /// Time between two calls of the check.
        #[penjelasan = "Jeda antara dua panggilan cek itu."]
        healthchecks_interval: Duration = Default("\"5m\""),
            Span { least: Duration::from_secs(60), most: Duration::from_secs(86_400) };
    }
    /// What families register.
    registration: Registration {
        /// Kinds of card by their first eight digits, where nothing is written beside the number; a card that begins
        /// with 50494885 is a KJP always.
        #[penjelasan = "Jenis kartu menurut delapan angka pertamanya, bila jenisnya tidak ditulis; 50494885 selalu KJP."]
        card_prefixes: Vec<CardPrefix> = Default("[\"50494812=KJP\"]"), List { each: PrefixOfCards, least: 0, most: MOST_PREFIXES };
        /// Whoever is younger by the NIK is registered with a warning.
        #[penjelasan = "Pendaftar yang menurut NIK lebih muda dari ini tetap disimpan, dengan peringatan."]
        adult_age: u32 = Default("17"), Whole { least: 0, most: 30, unit: "years" };
        /// People in one message.
        #[penjelasan = "Jumlah orang terbanyak dalam satu pesan."]
        most_people: u32 = Default("30"), Whole { least: 1, most: MOST_PEOPLE as u32, unit: "people" };
    }
    /// Messages that came in.
    inbox: Inbox {
        /// Deliveries that may wait for their turn, a live message or a batch of the offline queue
        /// each; when it is full, their chats wait and WhatsApp keeps the rest of its queue.
        #[penjelasan = "Jumlah pesan masuk yang boleh antre; bila penuh, antrean selebihnya tetap di WhatsApp."]
        capacity: u32 = Default("64"), Whole { least: 1, most: 256, unit: "deliveries" };
    }
    /// Replies that go out.
    outbox: Outbox {
        /// Replies sent to one chat within a second.
        #[penjelasan = "Jumlah balasan per detik untuk satu percakapan."]
        per_chat_per_second: u32 = Default("1"), Whole { least: 1, most: 100, unit: "replies per second" };
        /// Replies sent to all chats together within a second; WhatsApp blocks numbers that send
        /// too fast.
        #[penjelasan = "Jumlah balasan per detik untuk semua percakapan; WhatsApp memblokir nomor yang mengirim terlalu cepat."]
        total_per_second: u32 = Default("5"), Whole { least: 1, most: 1000, unit: "replies per second" };
    }
    /// The shared database; its key is a secret and stays out of this file.
    supabase: Supabase {
        /// Address of the Supabase project; if not set, registrations stay on this box. The
        /// variable `SUPABASE_URL` wins over it.
        #[penjelasan = "Alamat proyek Supabase; bila kosong, pendaftaran hanya disimpan di perangkat ini."]
        url: Option<String> = Unset("\"https://nama-proyek.supabase.co\""),
            Optional(SUPABASE_URL);
        /// Registrations sent in one request.
        #[penjelasan = "Jumlah pendaftaran dalam satu kiriman."]
        batch_rows: u32 = Default("200"), Whole { least: 1, most: 200, unit: "rows" };
        /// Pause between two requests, so that registrations gather into one.
        #[penjelasan = "Jeda antara dua kiriman, supaya pendaftaran terkumpul dulu."]
        interval: Duration = Default("\"2s\""),
            Span { least: Duration::from_millis(100), most: Duration::from_secs(3600) };
    }
    /// What the bot writes about itself.
    log: Log {
        /// How much is logged.
        #[penjelasan = "Banyaknya catatan (log) yang ditulis."]
        level: log::LevelFilter = Default("\"info\""), Level;
        /// File that gets the log too, where nobody keeps what goes to stderr; not in `/var/log`, which
        /// is in RAM on Armbian.
        #[penjelasan = "Berkas log tambahan, misalnya bila tidak ada journald; jangan di /var/log (di Armbian hanya di RAM)."]
        file: Option<PathBuf> = Unset("\"/var/lib/bot-kjp/bot-kjp.log\""), Optional(AbsolutePath);
        /// Most that the file and the ones before it take together.
        #[penjelasan = "Ukuran terbesar berkas log beserta yang lama."]
        file_size: u64 = Default("\"5MB\""), Size { least: 100_000, most: 1_000_000_000 };
    }
}

impl Registration {
    /// The rules by which families are registered.
    pub fn rulebook(&self) -> Rulebook {
        let of = Rulebook::default();
        Rulebook {
            card_prefixes: self.card_prefixes.clone(),
            adult: u8::try_from(self.adult_age).unwrap_or(of.adult),
            most_people: usize::try_from(self.most_people).unwrap_or(of.most_people),
            ..of
        }
    }
}

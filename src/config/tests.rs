use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

const SECRET: &str = "sb_secret_0000000000000000000000";

fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let variables: BTreeMap<String, OsString> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    move |name| variables.get(name).cloned()
}

/// The configuration of `text`, read as `config.toml`.
fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let content = Some((Path::new("config.toml"), text.as_bytes()));
    Config::build(content, &Overrides::default(), &environment(variables)).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str, message: &str) {
    assert_eq!(config(text, &[]).expect_err("refused"), message);
}

#[test]
fn without_a_file_every_key_has_its_default() {
    let config = Config::build(None, &Overrides::default(), &|_| None).unwrap();
    assert_eq!(config.settings.data.folder, Path::new("/var/lib/bot-kjp"));
    assert_eq!(config.settings.whatsapp.url, "wss://web.whatsapp.com/ws/chat");
    assert_eq!(config.settings.whatsapp.version, None);
    assert_eq!(config.settings.whatsapp.pre_keys, 50);
    assert_eq!(config.settings.inbox.capacity, 64);
    assert_eq!(config.settings.outbox.per_chat_per_second, 1);
    assert_eq!(config.settings.outbox.total_per_second, 5);
    assert_eq!(config.settings.supabase.batch_rows, 200);
    assert_eq!(config.settings.supabase.interval.as_secs(), 2);
    assert_eq!(config.settings.log.level, log::LevelFilter::Info);
    assert!(config.supabase.is_none() && config.warnings.is_empty());
}

#[test]
fn every_key_of_the_file_arrives() {
    let text = r#"
        log.level = "debug"
        log.file = "/mnt/kjp/bot.log"
        log.file_size = "500kB"
        [data]
        folder = "/mnt/kjp"
        keep_days = 90
        volatile = true
        [disk]
        warn_below = "1GB"
        stop_below = "50MB"
        [whatsapp]
        url = "ws://127.0.0.1:8080/ws/chat"
        device_name = "Kotak Kelurahan"
        version = "2.3000.1"
        pre_keys = 812
        [network]
        ca_file = "/etc/bot-kjp/ca.pem"
        dns = ["https", "system"]
        resolv_conf = "/run/resolv.conf"
        dns_https = ["9.9.9.9"]
        dns_tls = ["1.1.1.1:8853"]
        dns_public = []
        private_addresses = ["192.168.1.10"]
        pinned = ["web.whatsapp.com=192.0.2.1"]
        [connection]
        backoff = ["2s", "1m"]
        stable = "30s"
        attempts_per_hour = 60
        told_after = 3
        longest_silence = "1h"
        [health]
        listen = "off"
        [alert]
        operators = ["0800-0000-0001"]
        ntfy = "https://ntfy.sh/rahasia"
        healthchecks = "https://hc-ping.com/rahasia"
        healthchecks_interval = "10m"
        [registration]
        card_prefixes = ["50494813=lansia"]
        adult_age = 18
        most_people = 10
        [inbox]
        capacity = 0x10
        [outbox]
        per_chat_per_second = 2
        total_per_second = 1_0
        [supabase]
        batch_rows = 150
        interval = "1m"
    "#;
    let settings = config(text, &[]).unwrap().settings;
    let written: Vec<_> = settings.written().into_iter().filter_map(|(_, value)| value).collect();
    assert_eq!(
        written,
        [
            "\"/mnt/kjp\"",
            "90",
            "true",
            "\"1GB\"",
            "\"50MB\"",
            "\"ws://127.0.0.1:8080/ws/chat\"",
            "\"Kotak Kelurahan\"",
            "\"2.3000.1\"",
            "812",
            "\"/etc/bot-kjp/ca.pem\"",
            "[\"https\", \"system\"]",
            "\"/run/resolv.conf\"",
            "[\"9.9.9.9\"]",
            "[\"1.1.1.1:8853\"]",
            "[]",
            "[\"192.168.1.10\"]",
            "[\"web.whatsapp.com=192.0.2.1\"]",
            "[\"2s\", \"1m\"]",
            "\"30s\"",
            "60",
            "3",
            "\"1h\"",
            "\"off\"",
            "[\"*********0001\"]",
            "\"https://ntfy.sh/…\"",
            "\"https://hc-ping.com/…\"",
            "\"10m\"",
            "[\"50494813=LANSIA\"]",
            "18",
            "10",
            "16",
            "2",
            "10",
            "150",
            "\"1m\"",
            "\"debug\"",
            "\"/mnt/kjp/bot.log\"",
            "\"500kB\"",
        ]
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    refused(
        "[outbox]\nper_chat_pr_second = 2",
        "config.toml:2: outbox.per_chat_pr_second: unknown key; did you mean outbox.per_chat_per_second?",
    );
    refused("\n\nlevel = \"info\"", "config.toml:3: level: unknown key; did you mean log.level?");
    refused(
        "[outbxo]\ntotal_per_second = 1",
        "config.toml:2: outbxo.total_per_second: unknown key; did you mean outbox.total_per_second?",
    );
    refused(
        "[whatsapp]\npre_key = 50",
        "config.toml:2: whatsapp.pre_key: unknown key; did you mean whatsapp.pre_keys?",
    );
}

#[test]
fn an_unknown_key_without_a_near_one_is_refused_with_all_there_are() {
    refused(
        "[outbox]\ncolour = 2",
        "config.toml:2: outbox.colour: unknown key; keys here are outbox.per_chat_per_second, outbox.total_per_second",
    );
    refused(
        "colour = 2",
        "config.toml:1: colour: unknown key; sections are data, disk, whatsapp, network, connection, health, alert, registration, inbox, outbox, supabase, log",
    );
    refused(
        "[colour]",
        "config.toml:1: colour: unknown key; sections are data, disk, whatsapp, network, connection, health, alert, registration, inbox, outbox, supabase, log",
    );
    refused(
        "outbox = 5",
        "config.toml:1: outbox: a whole number is not allowed; allowed: a section, written [outbox]",
    );
}

#[test]
fn a_value_out_of_bounds_is_refused_with_what_is_allowed() {
    refused(
        "[inbox]\n\ncapacity = 0",
        "config.toml:3: inbox.capacity: this value is not allowed; allowed: a whole number from 1 to 256 (deliveries)",
    );
    refused(
        "whatsapp.pre_keys = -5",
        "config.toml:1: whatsapp.pre_keys: this value is not allowed; allowed: a whole number from 5 to 812 (keys)",
    );
    refused(
        "supabase.interval = \"2\"",
        "config.toml:1: supabase.interval: this value is not allowed; allowed: a length of time from \"100ms\" to \"1h\", with unit ms, s, m, h or d",
    );
    refused(
        "whatsapp.url = \"https://web.whatsapp.com\"",
        "config.toml:1: whatsapp.url: this value is not allowed; allowed: a URL that starts with wss:// or ws://, without user name, password, query or fragment",
    );
    refused(
        "log.level = \"trace\"",
        "config.toml:1: log.level: this value is not allowed; allowed: \"error\", \"warn\", \"info\" or \"debug\"",
    );
    refused(
        "data.folder = \"data\"",
        "config.toml:1: data.folder: this value is not allowed; allowed: a path that starts with /",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_kind() {
    refused(
        "inbox.capacity = \"64\"",
        "config.toml:1: inbox.capacity: text is not allowed; allowed: a whole number from 1 to 256 (deliveries)",
    );
    refused(
        "[inbox.capacity]",
        "config.toml:1: inbox.capacity: a section is not allowed; allowed: a whole number from 1 to 256 (deliveries)",
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    refused("[inbox]\ncapacity 64", "config.toml:2: not TOML: key with no value, expected `=`");
    refused("[inbox]\ncapacity = 1\ncapacity = 2", "config.toml:3: not TOML: duplicate key");
    let content = Some((Path::new("config.toml"), b"[log]\n# \xff".as_slice()));
    let error = Config::build(content, &Overrides::default(), &|_| None).unwrap_err();
    assert_eq!(error.to_string(), "config.toml:2: not UTF-8 text; save the file as UTF-8");
}

#[test]
fn a_broken_section_header_does_not_make_its_keys_unknown() {
    refused(
        "[log\nlevel = \"info\"\n[inbox]\ncapacitx = 1",
        "config.toml:1: not TOML: unclosed table, expected `]`\n\
         config.toml:4: inbox.capacitx: unknown key; did you mean inbox.capacity?",
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    refused(
        "[log]\nlevel = 1\nlevl = \"info\"\n[inbox]\ncapacity = 5000",
        "config.toml:2: log.level: a whole number is not allowed; allowed: \"error\", \"warn\", \"info\" or \"debug\"\n\
         config.toml:3: log.levl: unknown key; did you mean log.level?\n\
         config.toml:5: inbox.capacity: this value is not allowed; allowed: a whole number from 1 to 256 (deliveries)",
    );
}

#[test]
fn a_flood_of_problems_is_counted_not_listed() {
    let text: String = (0..50).map(|n| format!("k{n} = 1\n")).collect();
    let message = config(&text, &[]).unwrap_err();
    assert_eq!(message.lines().count(), 21);
    assert!(message.ends_with("\n(30 more problems)"), "{message}");
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let place = "a secret does not belong in this file; put it into the environment variable \
                 SUPABASE_SECRET_KEY or the systemd credential supabase-secret-key";
    for line in ["secret_key = \"abc\"", "service_role_key = \"abc\"", "password = 1"] {
        let key = line.split(' ').next().unwrap();
        refused(&format!("[supabase]\n{line}"), &format!("config.toml:2: supabase.{key}: {place}"));
    }
    refused(&format!("supabase.url = \"{SECRET}\""), &format!("config.toml:1: supabase.url: {place}"));
    refused(&format!("[log]\nlist = [1, \"{SECRET}\"]"), &format!("config.toml:2: log.list: {place}"));
    refused("SUPABASE_SECRET_KEY = \"abc\"", &format!("config.toml:1: SUPABASE_SECRET_KEY: {place}"));
}

#[test]
fn address_and_key_make_the_access_wherever_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("supabase-secret-key"), format!("{SECRET}\n")).unwrap();
    let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
    let file = "supabase.url = \"https://berkas.supabase.co/\"";
    let url = ("SUPABASE_URL", "https://lingkungan.supabase.co");

    let access = |text: &str, variables: &[(&str, &str)]| {
        let config = config(text, variables).unwrap();
        let access = config.supabase.unwrap();
        (access.url, access.key.expose_secret().to_owned(), config.warnings)
    };
    let (found, key, warnings) = access(file, &[("SUPABASE_SECRET_KEY", SECRET), credentials]);
    assert_eq!((found.as_str(), key.as_str()), ("https://berkas.supabase.co", SECRET));
    assert_eq!(warnings, []);
    let (found, key, _) = access(file, &[url, credentials]);
    assert_eq!((found.as_str(), key.as_str()), ("https://lingkungan.supabase.co", SECRET));
    let (_, key, warnings) =
        access("", &[url, ("SUPABASE_SERVICE_ROLE_KEY", "kunci-lama"), ("SUPABASE_SECRET_KEY", "")]);
    assert_eq!((key.as_str(), warnings), ("kunci-lama", vec![Warning::OldKeyVariable]));
    let (_, key, warnings) = access("", &[url, ("SUPABASE_SERVICE_ROLE_KEY", "kunci-lama"), credentials]);
    assert_eq!((key.as_str(), warnings), (SECRET, vec![]));
}

#[test]
fn an_address_without_key_or_a_key_without_address_is_refused() {
    refused(
        "[supabase]\nurl = \"https://a.supabase.co\"",
        "config.toml:2: the Supabase address is set, but no key; set the environment variable \
         SUPABASE_SECRET_KEY or the systemd credential supabase-secret-key",
    );
    assert_eq!(
        config("", &[("SUPABASE_SECRET_KEY", SECRET)]).unwrap_err(),
        "environment: SUPABASE_SECRET_KEY: a Supabase key is set, but no address; set the environment \
         variable SUPABASE_URL or supabase.url in the configuration file"
    );
}

#[test]
fn a_bad_variable_or_credential_is_refused_once_and_not_repeated() {
    let both = |url: &str, key: &str| {
        config("", &[("SUPABASE_URL", url), ("SUPABASE_SECRET_KEY", key)]).unwrap_err()
    };
    assert_eq!(
        both("http://a.supabase.co", SECRET),
        "environment: SUPABASE_URL: this value is not allowed; allowed: a URL that starts with https:// or http:// \
         (http:// only to localhost or a private address), without path, user name, password, query or fragment"
    );
    assert_eq!(
        both("https://a.supabase.co", "two words"),
        "environment: SUPABASE_SECRET_KEY: this value is not allowed; allowed: 1 to 4096 ASCII characters without white space"
    );
    assert!(both("https://a.supabase.co", "sb_publishable_0").contains("publishable key"));

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("supabase-secret-key")).unwrap();
    let message = config(
        "supabase.url = \"https://a.supabase.co\"",
        &[("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())],
    )
    .unwrap_err();
    assert!(message.contains("supabase-secret-key: cannot use this credential: Is a directory"), "{message}");
}

#[test]
fn a_named_file_must_be_readable_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let load = |file: &Path| {
        let overrides = Overrides { file: Some(file.to_owned()), data_folder: None };
        Config::load(&overrides, &|_| None)
    };
    let missing = folder.path().join("missing.toml");
    let message = load(&missing).unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "{}: cannot read the configuration: No such file or directory (os error 2); correct the path \
             or its permissions, or name another file with --config FILE",
            missing.display()
        )
    );
    assert!(matches!(load(folder.path()), Err(ConfigError::Unreadable { .. })));
    let large = folder.path().join("large.toml");
    fs::write(&large, "#".repeat(64 * 1024 + 1)).unwrap();
    assert!(matches!(load(&large), Err(ConfigError::TooLarge { limit: 65_536, .. })));
    fs::write(&large, "#".repeat(64 * 1024)).unwrap();
    assert!(load(&large).is_ok());
}

#[test]
fn the_command_line_wins_over_the_variable_and_the_variable_over_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first.toml", "second.toml"].map(|name| folder.path().join(name));
    fs::write(&first, "inbox.capacity = 1\ndata.folder = \"/from/file\"").unwrap();
    fs::write(&second, "inbox.capacity = 2").unwrap();
    let variable = environment(&[("BOT_KJP_CONFIG", second.to_str().unwrap())]);
    let by_variable = Config::load(&Overrides::default(), &variable).unwrap();
    assert_eq!(by_variable.settings.inbox.capacity, 2);
    let overrides = Overrides { file: Some(first), data_folder: Some("/from/option".into()) };
    let by_option = Config::load(&overrides, &variable).unwrap();
    assert_eq!(by_option.settings.inbox.capacity, 1);
    assert_eq!(by_option.settings.data.folder, Path::new("/from/option"));
}

#[test]
fn the_report_shows_every_value_with_its_origin_and_no_secret() {
    let config = config(
        "[inbox]\ncapacity = 7",
        &[("SUPABASE_URL", "https://a.supabase.co"), ("SUPABASE_SERVICE_ROLE_KEY", SECRET)],
    )
    .unwrap();
    assert_eq!(
        config.report(),
        "configuration file: config.toml\n\
         data.folder = \"/var/lib/bot-kjp\"  # default\n\
         data.keep_days = 35  # default\n\
         data.volatile = false  # default\n\
         disk.warn_below = \"200MB\"  # default\n\
         disk.stop_below = \"20MB\"  # default\n\
         whatsapp.url = \"wss://web.whatsapp.com/ws/chat\"  # default\n\
         whatsapp.device_name = \"Bot KJP\"  # default\n\
         whatsapp.version = (not set)  # default\n\
         whatsapp.pre_keys = 50  # default\n\
         network.ca_file = (not set)  # default\n\
         network.dns = [\"system\", \"https\", \"tls\", \"public\"]  # default\n\
         network.resolv_conf = \"/etc/resolv.conf\"  # default\n\
         network.dns_https = [\"1.1.1.1\", \"8.8.8.8\", \"1.0.0.1\"]  # default\n\
         network.dns_tls = [\"1.1.1.1\", \"8.8.8.8\", \"9.9.9.9\"]  # default\n\
         network.dns_public = [\"1.1.1.1\", \"8.8.8.8\", \"9.9.9.9\"]  # default\n\
         network.private_addresses = []  # default\n\
         network.pinned = []  # default\n\
         connection.backoff = [\"5s\", \"10s\", \"30s\", \"1m\"]  # default\n\
         connection.stable = \"1m\"  # default\n\
         connection.attempts_per_hour = 130  # default\n\
         connection.told_after = 5  # default\n\
         connection.longest_silence = \"3h\"  # default\n\
         health.listen = \"127.0.0.1:8788\"  # default\n\
         alert.operators = []  # default\n\
         alert.ntfy = (not set)  # default\n\
         alert.healthchecks = (not set)  # default\n\
         alert.healthchecks_interval = \"5m\"  # default\n\
         registration.card_prefixes = [\"50494812=KJP\"]  # default\n\
         registration.adult_age = 17  # default\n\
         registration.most_people = 30  # default\n\
         inbox.capacity = 7  # line 2\n\
         outbox.per_chat_per_second = 1  # default\n\
         outbox.total_per_second = 5  # default\n\
         supabase.url = \"https://a.supabase.co\"  # SUPABASE_URL\n\
         supabase.batch_rows = 200  # default\n\
         supabase.interval = \"2s\"  # default\n\
         log.level = \"info\"  # default\n\
         log.file = (not set)  # default\n\
         log.file_size = \"5MB\"  # default\n\
         Supabase key = set  # SUPABASE_SERVICE_ROLE_KEY\n\
         warning: SUPABASE_SERVICE_ROLE_KEY is the old name of this variable; rename it to SUPABASE_SECRET_KEY\n"
    );
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn the_example_changes_nothing_and_every_line_of_it_works() {
    let defaults = config("", &[]).unwrap().settings;
    assert_eq!(config(&example(), &[]).unwrap().settings, defaults);
    let active: String = example()
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line)))
        .collect();
    let settings = config(&active, &[("SUPABASE_SECRET_KEY", SECRET)]).unwrap().settings;
    assert!(settings.written().iter().all(|(_, value)| value.is_some()));
    for (key, default) in defaults.written() {
        let now = settings.written().into_iter().find(|(known, _)| *known == key).unwrap().1;
        assert!(default.is_none() || now == default, "{key}: {now:?}");
    }
    assert!(example().lines().all(|line| line.chars().count() <= 78));
}

#[test]
fn the_readme_shows_the_table_of_this_build() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- configuration table -->\n").expect("start marker");
    let (table, _) = rest.split_once("<!-- end -->").expect("end marker");
    let current = markdown_table();
    assert!(table == current, "README.md must show this between its markers:\n{current}");
}

/// Fragments from which texts near to valid TOML are drawn.
fn near_toml() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("[inbox]\n".to_owned()),
        Just("[[outbox]]\n".to_owned()),
        Just("capacity = ".to_owned()),
        Just("supabase.url = ".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("{ a = 1, ".to_owned()),
        Just("\n".to_owned()),
        Just("64\n".to_owned()),
        Just("\"5m\"\n".to_owned()),
        Just(format!("\"{SECRET}\"\n")),
        "\\PC{0,8}",
    ];
    prop::collection::vec(fragment, 0..20).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn any_bytes_give_settings_or_named_problems(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let content = Some((Path::new("config.toml"), bytes.as_slice()));
        if let Err(error) = Config::build(content, &Overrides::default(), &|_| None) {
            prop_assert!(error.to_string().starts_with("config.toml:"));
        }
    }

    #[test]
    fn any_text_near_toml_gives_settings_or_problems_without_the_secret(text in near_toml()) {
        if let Err(message) = config(&text, &[]) {
            prop_assert!(message.starts_with("config.toml:"));
            prop_assert!(!message.contains(SECRET));
        }
    }
}

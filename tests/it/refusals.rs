//! What the bot refuses to start with: a clear sentence and an exit code each.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use testbed::{Options, WhatsApp};

use super::bot::{Bot, Home, command, program};
use super::scene::Scene;

#[test]
fn a_second_bot_on_the_same_ledger_is_refused() {
    let scene = Scene::new();
    let bot = scene.run();
    let (_, phone) = scene.customer(0);
    scene.ask(&phone, "1");
    let (code, said) = refused(scene.home.start(&["run"]));
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    // The first one does not notice.
    scene.ask(&phone, "1");
    drop(bot);
}

#[test]
fn a_broken_configuration_is_refused_with_file_line_and_key() {
    let (code, said) = with_config("[outbox]\nper_chat_pr_second = 1\ntotal_per_second = 0\n[inbox\n");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("config.toml:4"), "{said}");

    let (code, said) = with_config("[outbox]\nper_chat_pr_second = 1\ntotal_per_second = 0\n");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("config.toml:2") && said.contains("outbox.per_chat_per_second"), "{said}");
    assert!(said.contains("config.toml:3") && said.contains("outbox.total_per_second"), "{said}");
}

#[test]
fn an_unreadable_configuration_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    // A folder in place of the file: unreadable for every user, root included.
    std::fs::create_dir(&file).expect("a folder");
    let (code, said) = run(&["run", "--config", path(&file)]);
    assert_eq!(code, 74, "{said}");
    assert!(said.contains(path(&file)), "{said}");
}

#[test]
fn a_missing_data_folder_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    let (code, said) = run(&["run", "--data", path(&missing)]);
    assert_eq!(code, 66, "{said}");
    assert!(said.contains(path(&missing)), "{said}");
}

#[test]
fn a_corrupt_database_is_refused_and_left_as_it_was() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    home.pair(&server.phone("Operator").expect("a phone"));
    let file = home.path().join("bot-kjp.db");
    let mut bytes = std::fs::read(&file).expect("the database");
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0x5a);
    std::fs::write(&file, &bytes).expect("damaged");
    let (code, said) = refused(home.start(&["run"]));
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("damaged"), "{said}");
    assert_eq!(std::fs::read(&file).expect("the database"), bytes);
}

#[test]
fn the_database_is_readable_by_its_owner_only() {
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    home.pair(&server.phone("Operator").expect("a phone"));
    for entry in std::fs::read_dir(home.path()).expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().starts_with("bot-kjp.db") {
            let mode = entry.metadata().expect("metadata").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }
}

#[test]
fn an_unknown_option_names_the_nearest_one() {
    let (code, said) = run(&["run", "--confg", "x"]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("--config"), "{said}");
}

fn with_config(text: &str) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).expect("written");
    run(&["run", "--config", path(&file)])
}

fn run(arguments: &[&str]) -> (i32, String) {
    let mut command = command(program(), None);
    command.args(arguments);
    refused(Bot::start(command))
}

fn refused(mut bot: Bot) -> (i32, String) {
    let status = bot.wait();
    // The screen's readers end with the streams, shortly after the process.
    let said = bot.last_words();
    (status.code().unwrap_or(-1), said)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

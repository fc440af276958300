//! The binary that is shipped, built alone and without the test bed's feature.

use std::path::PathBuf;

use testbed::{Options, WhatsApp};

use super::bot::{Bot, Home, command};

/// The shipped build refuses a server whose Noise certificate WhatsApp did not sign.
///
/// `scripts/test` builds that binary and passes its path: a build inside this run would have this
/// run's features.
#[test]
fn the_shipped_build_refuses_the_test_bed() {
    let Some(shipped) = std::env::var_os("BOT_KJP_SHIPPED").map(PathBuf::from) else {
        panic!(
            "BOT_KJP_SHIPPED is not set: run scripts/test, or build with `cargo build --release -p bot-kjp` and set it"
        );
    };
    let server = WhatsApp::start(Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let mut command = command(shipped, None);
    command.args(["pair", "--config"]).arg(home.path().join("config.toml"));
    let bot = Bot::start(command);
    bot.wait_for("certificate error", |lines| {
        lines.iter().any(|line| line.to_lowercase().contains("certificate")).then_some(())
    });
    assert!(bot.qr().is_none(), "{}", bot.output());
}

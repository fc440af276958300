//! What systemd hears of the real bot over a real socket: ready, alive while the executor runs and
//! not while it stalls, stopping.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use bot_kjp::clock;
use bot_kjp::entropy::NO_ENTROPY_VARIABLE;
use bot_kjp::executor::STALL_VARIABLE;
use testbed::WhatsApp;

use super::bot::{Bot, DEADLINE, Home};
use super::health::doctor;

/// What the bot is told of its watchdog; it speaks twice as often.
const WATCHDOG: Duration = Duration::from_secs(1);

/// systemd's end of the socket.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn listen(home: &Home) -> Self {
        let socket = UnixDatagram::bind(home.path().join("notify")).expect("a socket");
        Self { socket }
    }

    fn start(&self, home: &Home) -> Bot {
        let mut command = home.command(&["run"]);
        command.env("NOTIFY_SOCKET", home.path().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.env(STALL_VARIABLE, home.path().join("stall"));
        Bot::start(command)
    }

    /// The next message within `time`, if one comes.
    fn hear(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).expect("a timeout");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).expect("UTF-8")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message with this line.
    fn wait_for(&self, wanted: &str) -> String {
        let deadline = clock::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            assert!(!left.is_zero(), "no {wanted} within {DEADLINE:?}");
            if let Some(message) = self.hear(left)
                && message.lines().any(|line| line.starts_with(wanted))
            {
                return message;
            }
        }
    }
}

#[test]
fn systemd_hears_that_the_bot_is_ready_alive_stalled_and_stopping() {
    let server = WhatsApp::start(testbed::Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let manager = Manager::listen(&home);
    let bot = manager.start(&home);
    // Ready does not mean connected: nobody has linked it.
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("\nSTATUS=WhatsApp: "), "{ready}");
    manager.wait_for("STATUS=WhatsApp: menunggu ditautkan dengan HP");
    manager.wait_for("WATCHDOG=1");
    let last = clock::now();
    manager.wait_for("WATCHDOG=1");
    assert!(clock::since(last) < WATCHDOG, "{:?} between two signs of life", clock::since(last));

    std::fs::write(home.path().join("stall"), "").expect("the stall begins");
    // What was sent before it began, then nothing for so long that systemd would act.
    while manager.hear(WATCHDOG).is_some() {}
    assert_eq!(manager.hear(2 * WATCHDOG), None);
    std::fs::remove_file(home.path().join("stall")).expect("the stall ends");
    manager.wait_for("WATCHDOG=1");

    let (status, _) = bot.terminate();
    assert!(status.success());
    manager.wait_for("STOPPING=1");
}

#[test]
fn systemd_is_asked_for_more_time_and_told_why_until_the_kernel_has_random_numbers() {
    let server = WhatsApp::start(testbed::Options::default()).expect("WhatsApp's side starts");
    let mut home = Home::new(&server);
    let none = home.path().join("no-random-numbers");
    std::fs::write(&none, "").expect("the kernel has none");
    home.secret(NO_ENTROPY_VARIABLE, &none.display().to_string());
    home.secret(clock::SPEED_VARIABLE, "20");
    let manager = Manager::listen(&home);
    let bot = manager.start(&home);
    for _ in 0..4 {
        let word = manager.hear(DEADLINE).expect("a word about the wait");
        // A sign of life would have the watchdog run.
        assert!(!word.contains("WATCHDOG") && !word.contains("READY"), "{word}");
        assert!(word.contains("EXTEND_TIMEOUT_USEC=60000000\nSTATUS="), "{word}");
        assert!(word.contains("belum punya bilangan acak"), "{word}");
    }
    bot.wait_for_line("the kernel has no random numbers yet");
    assert!(!home.data().join("bot-kjp.db").exists(), "nothing has begun");
    assert!(bot.status("Threads") <= 3);
    let (code, said) = doctor(&home);
    assert!(code == Some(1) && said.contains("✖ Perangkat belum punya bilangan acak"), "{code:?}: {said}");

    std::fs::remove_file(&none).expect("now it has");
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("\nSTATUS=WhatsApp: "), "{ready}");
    manager.wait_for("WATCHDOG=1");
    bot.wait_for_line("the kernel has random numbers, after");
    let (status, _) = bot.terminate();
    assert!(status.success());

    // Told to stop while it waits, it stops.
    std::fs::write(&none, "").expect("the kernel has none");
    let bot = manager.start(&home);
    manager.wait_for("EXTEND_TIMEOUT_USEC");
    let (status, took) = bot.terminate();
    assert!(status.success() && took < Duration::from_secs(2), "{status} after {took:?}");
}

#[test]
fn a_bot_without_systemd_tells_nobody() {
    let server = WhatsApp::start(testbed::Options::default()).expect("WhatsApp's side starts");
    let home = Home::new(&server);
    let manager = Manager::listen(&home);
    let bot = home.start(&["run"]);
    bot.wait_for_qr();
    bot.terminate();
    assert_eq!(manager.hear(Duration::from_millis(100)), None);
}

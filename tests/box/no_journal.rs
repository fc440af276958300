//! systemd's journal stands still, dies, is stopped: the bot serves, and is heard again when there is one.

use testbed::Fault;

use super::scene::{until, until_or_say};
use super::systemd::Serving;

/// All that makes a journal.
const JOURNAL: &str = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket \
     systemd-journald.service";

/// What the bot says on its standard output when it is connected, and on its standard error when it ends.
const ONLINE: &str = "Bot terhubung ke WhatsApp.";
const STOPPING: &str = "app: stopping, asked by Term";

impl Serving {
    /// How often a text stands in the bot's journal.
    fn times(&self, text: &str) -> usize {
        self.server.journal().matches(text).count()
    }

    /// Has the bot make its connection anew, which it logs.
    fn cut(&self) {
        let scene = &self.server.scene;
        let logins = || scene.server.logins(scene.operator.number()).expect("an account");
        let before = logins();
        scene.server.fault_on(scene.operator.number(), Fault::Drop).expect("the connection is cut");
        until("the next login", || (logins() > before).then_some(()));
    }

    fn wait_for(&self, text: &str, times: usize) {
        until_or_say(
            || format!("{text:?} {times} times in\n{}", self.server.journal()),
            || (self.times(text) == times).then_some(()),
        );
    }
}

#[test]
fn without_a_journal_the_bot_serves_and_it_is_heard_when_there_is_one_again() {
    let serving = Serving::new();
    let server = &serving.server;
    let pid = server.property("MainPID");
    let before = serving.times(ONLINE);

    // It stands still, and goes on.
    server.print("systemctl kill --signal=STOP systemd-journald");
    serving.cut();
    serving.register(1);
    server.print("systemctl kill --signal=CONT systemd-journald");
    serving.wait_for(ONLINE, before + 1);

    // It dies, and another takes its place and its streams.
    server.print("systemctl kill --signal=KILL systemd-journald");
    serving.cut();
    serving.register(2);
    serving.wait_for(ONLINE, before + 2);

    // There is none at all, and then one that knows nothing of the streams before.
    server.print(&format!("systemctl stop {JOURNAL}"));
    serving.cut();
    serving.register(3);
    server.print(&format!("systemctl start {JOURNAL}"));
    serving.cut();
    serving.register(4);
    serving.wait_for(ONLINE, before + 3);
    assert_eq!(server.property("MainPID"), pid, "the same process all the time");
    let stopping = serving.times(STOPPING);
    server.print("systemctl stop bot-kjp");
    serving.wait_for(STOPPING, stopping + 1);
}

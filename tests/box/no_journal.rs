//! systemd's journal stands still, dies, is stopped: the bot serves, and is heard again when there is one.

use testbed::Fault;

use super::scene::until;
use super::systemd::Serving;

/// All that makes a journal.
const JOURNAL: &str = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket \
     systemd-journald.service";

impl Serving {
    /// Lines of the bot in the journal, from its standard error and from its standard output, about connections.
    fn heard(&self) -> [u32; 2] {
        ["[[]bot_kjp", "terhubung ke WhatsApp"].map(|part| {
            let count = format!("journalctl -u bot-kjp -o cat --no-pager | grep -c '{part}' || true");
            self.server.print(&count).parse().expect("a number")
        })
    }

    /// Has the bot make its connection anew, which it logs.
    fn cut(&self) {
        let scene = &self.server.scene;
        let logins = || scene.server.logins(scene.operator.number()).expect("an account");
        let before = logins();
        scene.server.fault_on(scene.operator.number(), Fault::Drop).expect("the connection is cut");
        until("the next login", || (logins() > before).then_some(()));
    }

    fn wait_until_heard(&self, before: [u32; 2]) {
        until("the bot's lines in the journal", || {
            let now = self.heard();
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        });
    }
}

#[test]
fn without_a_journal_the_bot_serves_and_it_is_heard_when_there_is_one_again() {
    let serving = Serving::new();
    let server = &serving.server;
    let pid = server.property("MainPID");

    // It stands still, and goes on.
    let before = serving.heard();
    server.print("systemctl kill --signal=STOP systemd-journald");
    serving.cut();
    serving.register(1);
    server.print("systemctl kill --signal=CONT systemd-journald");
    serving.wait_until_heard(before);

    // It dies, and another takes its place and its streams.
    let before = serving.heard();
    server.print("systemctl kill --signal=KILL systemd-journald");
    serving.cut();
    serving.register(2);
    serving.wait_until_heard(before);

    // There is none at all, and then one that knows nothing of the streams before.
    server.print(&format!("systemctl stop {JOURNAL}"));
    serving.cut();
    serving.register(3);
    server.print(&format!("systemctl start {JOURNAL}"));
    let before = serving.heard();
    serving.cut();
    serving.register(4);
    serving.wait_until_heard(before);
    assert_eq!(server.property("MainPID"), pid, "the same process all the time");
}

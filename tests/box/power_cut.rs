//! Power cuts at any moment: nothing lost, nothing twice, no session broken.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bot_kjp::clock;
use bot_kjp::ledger::outbox::MOST_PER_CHAT;
use bot_kjp::whatsapp::outbox::reply_id;
use testbed::customers::Customer;
use testbed::machine::{LosingDisk, Machine};
use testbed::{Handset, bot::DatabaseCopy};

use super::scene::{Scene, until};
use super::seed::{self, Random};

/// Power cuts of all boxes together; `POWER_CUTS` in the environment sets another number.
const CUTS: usize = 50;

/// Boxes that live beside each other, one a core.
const BOXES: usize = 2;

/// Customers of each box, who write all the time.
const CUSTOMERS: usize = 8;

/// What a customer says before the first registration: choices, which are made one after the other.
const CHOICES: usize = 2;

/// A customer who was answered writes again after at most this long.
const PAUSE: Duration = Duration::from_millis(200);

/// One message in so many does not wait for the answer to the one before …
const IMPATIENT_ONE_IN: usize = 4;

/// … while no more than so many wait: more would be answered together.
const MOST_UNANSWERED: usize = MOST_PER_CHAT;

/// A life after the bot came online: long enough for some dozen messages and for the sync.
const SERVING: Duration = Duration::from_secs(2);

/// A life counted from switching on: it takes half a second to mount the disk, the bot takes one more, and
/// both take longer beside other boxes.
const STARTING: Duration = Duration::from_secs(4);

/// One life in so many is counted from switching on: the cut falls into boot, start and backlog.
const STARTING_ONE_IN: usize = 4;

/// Of so many cuts one goes by the clock; the others come while the disk writes …
const BY_THE_CLOCK_ONE_IN: usize = 4;

/// … at a write that is one of so many next ones: a commit is one or two.
const WRITES: usize = 60;

/// Share of the cuts that must tear a block, in percent. As a rule it is twice that and more.
const TORN_PERCENT: usize = 25;

/// Share of the cuts that must leave a message without its answer, in percent.
const HITS_PERCENT: usize = 60;

/// A part of the answer to a message that the bot could not even get from the phone that sent it.
const ASKED_AGAIN: &str = "tidak terbaca";

/// Where the list of everybody who is registered begins in an answer.
const LIST_OF_THE_DAY: &str = "*Data Anda hari ini";

/// A customer at work through an endless list of people.
struct Writer {
    customer: Customer,
    phone: Handset,
    /// Ids of what was said.
    said: Vec<String>,
    /// Choices among it, which come first.
    choices: usize,
    /// How many people that registers: all messages but the two choices and the last look at the list.
    people: usize,
    next: Instant,
}

impl Writer {
    fn say_next(&mut self, operator: &Handset) {
        let text = if self.has_chosen() {
            self.people += 1;
            self.customer.registration_text(self.people - 1)
        } else {
            self.choices += 1;
            ["1", "3"][self.choices - 1].to_owned()
        };
        self.say(operator, &text);
    }

    fn say(&mut self, operator: &Handset, text: &str) {
        self.said.push(self.phone.send_text(operator.number(), text).expect("the message is sent"));
    }

    fn is_answered(&self) -> bool {
        self.phone.shown().len() >= self.said.len()
    }

    /// Every registration was confirmed, and the last question was answered. An answer that a cut kept from
    /// being crossed off waits on, so one answer may be for several messages that came behind it.
    fn is_told_everything(&self) -> bool {
        let shown = self.phone.shown();
        let confirmed = |person: usize| {
            let nama = self.customer.person(person).nama;
            // The list of the day names everybody, confirmed or not.
            shown.iter().any(|shown| {
                shown.text.split(LIST_OF_THE_DAY).next().is_some_and(|text| text.contains(&nama))
            })
        };
        let address = format!("{}@s.whatsapp.net", self.phone.number());
        let answered = |id: &String| shown.iter().any(|shown| shown.id == reply_id(&address, &address, id));
        (0..self.people).all(confirmed) && self.said.last().is_some_and(answered)
    }

    fn has_chosen(&self) -> bool {
        self.choices == CHOICES
    }
}

/// What the cuts fell on.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    /// A message was said and not answered.
    hits: usize,
    /// The bot was not online yet.
    before_login: usize,
    /// Messages that were acknowledged when the power went for the last time.
    acknowledged: usize,
    /// … and found decrypted but not worked off yet, at any cut.
    acknowledged_and_waiting: usize,
    /// Messages that cuts took between decryption and disk: the phones that sent them were asked.
    fetched: usize,
    /// Blocks that were torn, because the power went while the disk wrote them.
    torn: usize,
}

struct Stage {
    scene: Scene,
    writers: Vec<Writer>,
    random: Random,
    tally: Tally,
    /// Random numbers that the box drew at the beginning of each life.
    drawn: Vec<String>,
}

impl Stage {
    fn new(random: Random) -> Self {
        let mut scene = Scene::with_busybox();
        scene.lose_disk_while_it_writes();
        let writers = (0..CUSTOMERS)
            .map(|n| {
                let (customer, phone) = scene.customer(n);
                Writer { customer, phone, said: Vec::new(), choices: 0, people: 0, next: clock::now() }
            })
            .collect();
        Self { scene, writers, random, tally: Tally::default(), drawn: Vec::new() }
    }

    fn disk(&self) -> &LosingDisk {
        self.scene.losing.as_ref().expect("a disk that loses power")
    }

    /// Lets the customers write until `end`, or until the disk has died.
    fn write_until(&mut self, end: Instant) {
        while clock::now() < end && !self.disk().has_died() {
            for writer in &mut self.writers {
                if clock::now() < writer.next {
                    continue;
                }
                let unanswered = writer.said.len().saturating_sub(writer.phone.shown().len());
                let patient = self.random.below(IMPATIENT_ONE_IN) != 0;
                if unanswered >= MOST_UNANSWERED || (unanswered > 0 && patient) {
                    writer.next = clock::now() + PAUSE.mul_f64(self.random.fraction());
                    continue;
                }
                // Choices must be answered one after the other, and nobody knows how to write the data
                // before the last one is: a cut may put that off for some lives.
                if writer.people == 0 && !writer.is_answered() {
                    continue;
                }
                writer.say_next(&self.scene.operator);
                writer.next = clock::now() + PAUSE.mul_f64(self.random.fraction());
            }
            std::thread::sleep(Duration::from_millis(5).min(end.saturating_duration_since(clock::now())));
        }
    }

    fn live_until_the_power_goes(&mut self) {
        let starting = self.random.below(STARTING_ONE_IN) == 0;
        let life = if starting { STARTING } else { SERVING }.mul_f64(self.random.fraction());
        let machine = self.scene.switch_on_quickly();
        if !starting {
            self.wait_booted(&machine);
            self.write_until_online(&machine);
        }
        if self.random.below(BY_THE_CLOCK_ONE_IN) == 0 {
            self.write_until(clock::now() + life);
        } else {
            let (writes, numbers) = (self.random.below(WRITES), self.random.next());
            self.disk().die_after(writes, numbers);
            // A box with nothing to write lives on as long as any other does.
            self.write_until(clock::now() + STARTING);
        }
        self.cut(machine);
        self.check_what_was_acknowledged();
    }

    fn wait_booted(&mut self, machine: &Machine) {
        self.drawn.push(machine.wait_booted().expect("the box boots"));
    }

    /// Customers do not wait for the bot.
    fn write_until_online(&mut self, machine: &Machine) {
        let deadline = clock::now() + super::scene::DEADLINE;
        while !self.scene.is_online() {
            assert!(clock::now() < deadline, "the bot does not come online; {}", state_of(machine));
            // Few: all of it is answered before the next cut can fall on live messages.
            self.write_until(clock::now() + Duration::from_millis(500));
        }
    }

    fn cut(&mut self, machine: Machine) {
        let online = self.scene.is_online();
        let hit = self.writers.iter().any(|writer| !writer.is_answered());
        machine.power_cut().expect("the box was on");
        self.disk().wait_off().expect("the disk is off");
        if self.disk().torn() > self.tally.torn {
            self.tally.torn = self.disk().torn();
            // The torn block may have been one that ends a transaction of the file system's journal, and then the
            // kernel does not mount it. Boxes look through their disk before they do (initramfs-tools, `fsck -a`).
            self.scene.disk.recover().expect("the file system can be put right");
        }
        self.tally.cuts += 1;
        self.tally.hits += usize::from(hit);
        self.tally.before_login += usize::from(!online);
        self.scene.wait_offline();
    }

    /// Whatever the server has seen acknowledged stands in the database on the disk: worked off, decrypted
    /// and waiting to be, or missed. (A message that WhatsApp delivers again after a cut, and that
    /// waits already, is acknowledged at once.)
    fn check_what_was_acknowledged(&mut self) {
        let acknowledged: Vec<String> = self
            .writers
            .iter()
            .flat_map(|writer| writer.said.iter().filter(|id| writer.phone.delivered(id)).cloned())
            .collect();
        self.tally.acknowledged = acknowledged.len();
        let Some(ledger) = self.scene.ledger() else {
            assert!(acknowledged.is_empty(), "{} acknowledged, and there is no ledger", acknowledged.len());
            return;
        };
        let known: HashSet<String> = texts(&ledger, "SELECT id FROM inbound_message").into_iter().collect();
        let waiting: HashSet<String> =
            texts(&ledger, "SELECT id FROM wa_pending_inbound UNION SELECT id FROM missing_message")
                .into_iter()
                .collect();
        for id in &acknowledged {
            if waiting.contains(id) && !known.contains(id) {
                self.tally.acknowledged_and_waiting += 1;
                continue;
            }
            assert!(known.contains(id), "{id} was acknowledged and is not in the ledger");
        }
    }

    /// The last life, which nobody cuts short.
    fn check(mut self) {
        let machine = self.scene.switch_on_quickly();
        self.wait_booted(&machine);
        let lives: HashSet<&String> = self.drawn.iter().collect();
        assert_eq!(lives.len(), self.drawn.len(), "boxes from one state drew the same random numbers");
        // A chat's answers come in order: whatever is answered too much comes before this one.
        for writer in &mut self.writers {
            writer.say(&self.scene.operator, "2");
        }
        for writer in &self.writers {
            until(&format!("all answers of {}", writer.customer.name()), || {
                writer.is_told_everything().then_some(())
            });
        }
        let mut people: Vec<String> = self
            .writers
            .iter()
            .flat_map(|writer| (0..writer.people).map(|n| writer.customer.person(n).nik))
            .collect();
        people.sort();
        self.scene.wait_for_rows("SELECT count(*) FROM data_harian", &people.len().to_string());
        for Writer { customer, phone, said, .. } in &self.writers {
            let shown = phone.shown();
            assert!(shown.len() <= said.len(), "{}: at most one answer per message", customer.name());
            assert!(shown.iter().all(|shown| shown.copies == 1), "{}: none shown twice", customer.name());
            assert_eq!(phone.failed_decryptions(), 0, "{}: every answer decrypted at once", customer.name());
            assert!(
                !shown.iter().any(|shown| shown.text.contains(ASKED_AGAIN)),
                "{}: nobody has to say anything again",
                customer.name()
            );
            self.tally.fetched += said.iter().filter(|id| phone.asked_again(id)).count();
        }
        machine.shut_down().expect("the box shuts down");
        let ledger = self.scene.ledger().expect("a ledger");
        assert_eq!(texts(&ledger, "SELECT no_ktp FROM registration ORDER BY no_ktp"), people);
        assert_eq!(texts(&ledger, "PRAGMA integrity_check"), ["ok"]);
        assert_eq!(texts(&ledger, "SELECT id FROM missing_message"), [""; 0]);
        let stored = self.scene.supabase.query("SELECT no_ktp FROM data_harian ORDER BY no_ktp");
        assert_eq!(stored.expect("rows").concat(), people);
        let said: usize = self.writers.iter().map(|writer| writer.said.len()).sum();
        println!("{:?}; in all {said} messages and {} registrations", self.tally, people.len());
    }
}

/// What can be seen on a box of which the bot is not online.
fn state_of(machine: &Machine) -> String {
    let look = "mount | grep /var/lib; ls -la /var/lib /var/lib/bot-kjp; ps; dmesg | tail -n 30";
    let seen = machine.run(look).map_or_else(|error| format!("{error:#}"), |output| output.text);
    format!("its console:\n{}\nwhat is seen in it:\n{seen}", machine.console())
}

fn texts(copy: &DatabaseCopy, sql: &str) -> Vec<String> {
    let mut statement = copy.connection.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("text")).collect()
}

fn lose_power(cuts: usize, random: Random) {
    let mut stage = Stage::new(random);
    let machine = stage.scene.switch_on_quickly();
    stage.wait_booted(&machine);
    stage.scene.pair(&machine);
    stage.cut(machine);
    stage.check_what_was_acknowledged();
    while stage.tally.cuts < cuts {
        stage.live_until_the_power_goes();
    }
    let wanted = cuts * HITS_PERCENT / 100;
    assert!(stage.tally.hits >= wanted, "too few cuts fell on work: {:?}", stage.tally);
    let wanted = cuts * TORN_PERCENT / 100;
    assert!(stage.tally.torn >= wanted, "too few cuts fell on a write: {:?}", stage.tally);
    stage.check();
}

#[test]
fn fifty_power_cuts_under_load_lose_nothing_and_repeat_nothing() {
    let cuts = std::env::var("POWER_CUTS").ok().map_or(CUTS, |cuts| cuts.parse().expect("a number"));
    let mut random = seed::announce("power_cut");
    std::thread::scope(|scope| {
        let boxes: Vec<_> = (0..BOXES)
            .map(|n| {
                let random = Random::from_seed(random.next());
                let cuts = cuts * (n + 1) / BOXES - cuts * n / BOXES;
                scope.spawn(move || lose_power(cuts, random))
            })
            .collect();
        for one in boxes {
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

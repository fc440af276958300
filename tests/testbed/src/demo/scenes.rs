//! The play, scene by scene.

use std::sync::Barrier;

use anyhow::{Result, ensure};

use super::stage::{Actor, Stage};
use crate::Demand;
use crate::customers::{Customer, Person};
use crate::interrupt::wait_until;

/// Everybody in the play comes from these two seeds.
const CAST: u64 = 3;
const CROWD: u64 = 4;

/// Customers who write in the moment of the power cut.
const CROWD_SIZE: usize = 8;

/// The whole play, in order.
pub(super) fn play(stage: &mut Stage) -> Result<()> {
    linking(stage)?;
    first_registration(stage)?;
    two_people_in_one_message(stage)?;
    a_broken_number(stage)?;
    somebody_elses_nik(stage)?;
    race_for_one_nik(stage)?;
    power_cut(stage)?;
    supabase_is_down(stage)?;
    the_bot_was_off(stage)
}

/// A person of the cast under a name that the commentary uses.
fn person(n: u32, nama: &str) -> Person {
    Person { nama: nama.to_owned(), ..Person::nth(CAST, n) }
}

fn linking(stage: &mut Stage) -> Result<()> {
    stage.headline(
        "Linking: the operator's phone takes the bot as a linked device, after its passkey has signed",
    )?;
    stage.operator.demand_passkey(Demand::default());
    let (code, compared) = stage.bot.pair_behind_passkey(&stage.operator)?;
    stage.narrate(&format!(
        "`bot-kjp pair` asks WhatsApp for a code and shows {code}; the operator types it into the phone, under \
         Linked devices. It is a business account, and WhatsApp wants its passkey first: the bot shows a line for \
         the browser, the operator clicks, chooses the passkey and pastes what comes out."
    ))?;
    stage.promise(
        stage.operator.passkey_demands() == 1 && stage.operator.passkey_refusals().is_empty(),
        "WhatsApp takes the passkey's signature",
    );
    stage.narrate(&format!(
        "Now phone and bot show the same code, {compared}, and the operator says so. From now on the bot answers \
         under the operator's number."
    ))?;
    let companions = stage.operator.companions();
    stage.promise(companions.len() == 1, "the phone lists one linked device");
    stage.bot.start(&stage.whatsapp, stage.operator.number())?;
    stage.promise(true, "the bot is started and online");
    Ok(())
}

fn first_registration(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 1: Ani registers for the first time")?;
    stage.narrate(
        "Ani has never written to the bot. She greets it, follows the menu and registers her mother.",
    )?;
    let mut ani = stage.actor("Ani")?;
    stage.say(&mut ani, "assalamualaikum")?;
    stage.say(&mut ani, "1")?;
    stage.say(&mut ani, "3")?;
    let mother = person(1, "Siti Aminah");
    let answer = stage.say(&mut ani, &mother.lines())?;
    stage.promise(answer.contains(&mother.nama), "the answer names the registered person");
    stage.both_hold(&[&mother.nik], 1)
}

fn two_people_in_one_message(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 2: two people in one message")?;
    stage.narrate(
        "Budi sends his parents' data at once, with labels, an empty line between the two, and full stops that \
         his keyboard put in. The place is at Dharmajaya, Pulogadung.",
    )?;
    let mut budi = stage.actor("Budi")?;
    stage.say(&mut budi, "daftar")?;
    stage.say(&mut budi, "2")?;
    stage.say(&mut budi, "3")?;
    let (father, mother) = (person(2, "Bpk. Joko Susilo"), person(3, "Ibu Tri Wahyuni"));
    let text = format!(
        "Nama : {}\nKJP {}.\nKTP.. {}\nKK = {}\n\n{}",
        father.nama,
        father.kjp,
        father.nik,
        father.kk,
        mother.labelled()
    );
    let answer = stage.say(&mut budi, &text)?;
    let named = answer.contains("Joko Susilo") && answer.contains("Tri Wahyuni");
    stage.promise(named, "the answer names both");
    stage.both_hold(&[&father.nik, &mother.nik], 2)
}

fn a_broken_number(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 3: one digit is missing")?;
    stage.narrate(
        "Citra registers two people; the second KTP number has 15 digits. Only that person must wait.",
    )?;
    let mut citra = stage.actor("Citra")?;
    stage.choose_foodstation(&mut citra)?;
    let (good, right) = (person(4, "Rahmat Hidayat"), person(5, "Endang Sulastri"));
    let wrong = Person { nik: right.nik[..15].to_owned(), ..right.clone() };
    let answer = stage.say(&mut citra, &format!("{}\n\n{}", good.lines(), wrong.lines()))?;
    let told = answer.contains(&wrong.nama) && answer.contains("KTP");
    stage.promise(told, "the answer names the person and says that it is the KTP number");
    let kept = stage.in_ledger(&[&good.nik])?.len();
    stage.promise(kept == 1, "the other person is kept");
    stage.narrate("She looks at the card again and sends that person once more.")?;
    stage.say(&mut citra, &right.lines())?;
    stage.both_hold(&[&good.nik, &right.nik], 2)
}

fn somebody_elses_nik(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 4: a KTP number that somebody else registered today")?;
    stage.narrate(
        "Dewi registers a person with the KTP number that Ani used in scene 1. One KTP counts once a day, and \
         Dewi must not learn whose it is.",
    )?;
    let mut dewi = stage.actor("Dewi")?;
    stage.choose_foodstation(&mut dewi)?;
    let mother = person(1, "Siti Aminah");
    let claim = Person { nik: mother.nik.clone(), ..person(6, "Sari Kusuma") };
    let answer = stage.say(&mut dewi, &claim.lines())?;
    stage.promise(answer.contains("KTP"), "she is told that it is the KTP number");
    stage.promise(!answer.contains("Siti"), "she is not told whose it is");
    let rows = stage.in_ledger(&[&mother.nik])?;
    let unchanged = rows.len() == 1 && rows[0].nama == mother.nama;
    stage.promise(unchanged, "the earlier registration stands as it was");
    stage.both_hold(&[&mother.nik], 1)
}

fn race_for_one_nik(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 5: two customers, one KTP number, the same moment")?;
    stage.narrate(
        "Eko and his sister Fitri both register their grandmother, and press Send at the same time.",
    )?;
    let (mut eko, mut fitri) = (stage.actor("Eko")?, stage.actor("Fitri")?);
    for racer in [&mut eko, &mut fitri] {
        stage.choose_foodstation(racer)?;
    }
    let grandmother = person(7, "Nenek Salamah");
    let texts = [
        grandmother.lines(),
        Person { kjp: Person::nth(CAST, 8).kjp, nama: "Hj. Salamah".into(), ..grandmother.clone() }
            .labelled(),
    ];
    let bot = stage.operator.number().to_owned();
    let start = Barrier::new(2);
    let send = |actor: &Actor, text: &str| {
        start.wait();
        actor.phone.send_text(&bot, text).map(drop)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| send(&fitri, &texts[1]));
        let own = send(&eko, &texts[0]);
        own.and(other.join().expect("sending does not panic"))
    })?;
    stage.count_sent(2);
    let mut answers = Vec::new();
    for (racer, text) in [&mut eko, &mut fitri].into_iter().zip(&texts) {
        stage.show_sent(racer, text)?;
        answers.push(stage.answer(racer)?);
    }
    let rows = stage.in_ledger(&[&grandmother.nik])?;
    stage.promise(rows.len() == 1, "exactly one of them is registered");
    let refused = answers.iter().filter(|answer| answer.contains("KTP")).count();
    stage.promise(refused == 1, "the other one is told that the KTP number is registered already");
    stage.both_hold(&[&grandmother.nik], 1)
}

fn power_cut(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 6: the power fails while everybody writes")?;
    let customers: Vec<Customer> = (0..CROWD_SIZE).map(|n| Customer::of_seed(CROWD, n)).collect();
    let mut crowd =
        customers.iter().map(|customer| stage.actor(customer.name())).collect::<Result<Vec<_>>>()?;
    for actor in &mut crowd {
        stage.choose_foodstation(actor)?;
    }
    stage.narrate(&format!(
        "{CROWD_SIZE} more customers have chosen Foodstation and send their data. As soon as the first answer is \
         on a phone, the bot is killed (kill -9): no farewell, nothing flushed."
    ))?;
    for (n, (actor, customer)) in crowd.iter().zip(&customers).enumerate() {
        stage.hand_over(actor, &customer.registration_text(n))?;
    }
    wait_until("the first answer", super::stage::PATIENCE, || {
        Ok(crowd.iter().any(|actor| stage.unread(actor) > 0).then_some(()))
    })?;
    let number = stage.operator.number().to_owned();
    stage.bot.kill(&stage.whatsapp, &number)?;
    let people: Vec<Person> = customers.iter().enumerate().map(|(n, customer)| customer.person(n)).collect();
    let niks: Vec<&str> = people.iter().map(|person| person.nik.as_str()).collect();
    let answered = crowd.iter().filter(|actor| stage.unread(actor) > 0).count();
    let durable = stage.in_ledger(&niks)?.len();
    let waiting = stage.whatsapp.queue_len(&number)?;
    stage.narrate(&format!(
        "The bot is dead. Answers on phones: {answered}. People in SQLite, which is sound: {durable}. Messages that \
         WhatsApp still keeps because the bot had not confirmed them: {waiting}."
    ))?;
    stage.promise(durable >= answered, "whoever has an answer is in SQLite");
    stage.promise(
        durable + waiting >= crowd.len(),
        "everybody else is in SQLite or still waits at WhatsApp: nobody is lost",
    );
    stage.narrate("The power is back.")?;
    stage.bot.start(&stage.whatsapp, &number)?;
    for (actor, person) in crowd.iter_mut().zip(&people) {
        let answer = stage.take_answer(actor)?;
        ensure!(
            answer.contains(&person.nama),
            "the answer to {} is about somebody else:\n{answer}",
            person.nama
        );
    }
    let once = crowd.iter().all(|actor| stage.unread(actor) == 0);
    stage.promise(once, "every phone shows one answer, and it is about the right person");
    stage.both_hold(&niks, people.len())
}

fn supabase_is_down(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 7: Supabase is down")?;
    stage.supabase.stop_postgrest();
    stage.narrate("Supabase does not answer any more. Gita does not notice: her data is safe on the box.")?;
    let mut gita = stage.actor("Gita")?;
    stage.choose_foodstation(&mut gita)?;
    let uncle = person(9, "Paman Darto");
    let answer = stage.say(&mut gita, &uncle.lines())?;
    stage.promise(answer.contains(&uncle.nama), "she is answered as always");
    let (ledger, supabase) = (stage.in_ledger(&[&uncle.nik])?, stage.in_supabase(&[&uncle.nik])?);
    stage.show_rows("In the bot's SQLite", &ledger);
    stage.show_rows("In Supabase (PostgreSQL)", &supabase);
    stage.promise(ledger.len() == 1 && supabase.is_empty(), "the row is in SQLite and waits");
    stage.narrate(
        "Supabase is back. The bot tries again by itself, after a pause that grows with each failure.",
    )?;
    stage.supabase.start_postgrest()?;
    stage.both_hold(&[&uncle.nik], 1)
}

fn the_bot_was_off(stage: &mut Stage) -> Result<()> {
    stage.headline("Scene 8: a message while the bot was off")?;
    let mut hadi = stage.actor("Hadi")?;
    stage.choose_foodstation(&mut hadi)?;
    let number = stage.operator.number().to_owned();
    stage.bot.stop(&stage.whatsapp, &number)?;
    stage.narrate("The operator has stopped the bot to move the box. Hadi writes all the same.")?;
    let aunt = person(10, "Bibi Marwah");
    stage.send(&hadi, &aunt.lines())?;
    let waiting = stage.whatsapp.queue_len(&number)?;
    stage.promise(waiting == 1, "WhatsApp keeps the message");
    stage.narrate("The box has its new place and the bot is started.")?;
    stage.bot.start(&stage.whatsapp, &number)?;
    let answer = stage.answer(&mut hadi)?;
    stage.promise(answer.contains(&aunt.nama), "he is answered, late but once");
    stage.both_hold(&[&aunt.nik], 1)
}

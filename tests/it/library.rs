//! The library that the bot is made of, all of it, against the test bed: what other clients' suites expect of a
//! server, and what the bot itself never does (it writes to no groups and posts no statuses).

use std::sync::Arc;

use async_channel::Receiver;
use bot_kjp::executor;
use bot_kjp::net::deadline::within;
use bot_kjp::net::{Resolver, tls};
use bot_kjp::whatsapp::activity::Activity;
use bot_kjp::whatsapp::backlog::Backlog;
use bot_kjp::whatsapp::endpoint::Endpoint;
use bot_kjp::whatsapp::runtime::SmolRuntime;
use bot_kjp::whatsapp::transport::WebSocketFactory;
use smol::block_on;
use testbed::baileys::PATIENCE;
use testbed::interrupt::wait_until;
use testbed::{Addressing, Fault, Handset, Options, WhatsApp, text_message};
use wacore::net::{HttpClient, HttpRequest, HttpResponse};
use wacore::store::InMemoryBackend;
use wacore::store::traits::AppSyncStore;
use wacore::types::events::{ChannelEventHandler, Event};
use wacore::types::presence::ReceiptType;
use wacore_binary::{Jid, Node, Server};
use waproto::whatsapp::message::extended_text_message::FontType;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::features::{
    CreateCommunityOptions, GroupCreateOptions, GroupMetadata, GroupParticipantOptions,
    MembershipApprovalMode,
};
use whatsapp_rust::{Client, NodeFilter, anyhow, async_trait};

/// One-time keys that a client uploads: enough for these tests, and soon made.
const PRE_KEYS: usize = 30;

/// No test needs it.
struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::bail!("{} was not asked: there is no HTTP here", request.url)
    }
}

/// A linked client that is connected.
struct Linked {
    client: Arc<Client>,
    events: Receiver<Arc<Event>>,
    store: Arc<InMemoryBackend>,
    phone: Handset,
    _running: BotHandle,
}

impl Linked {
    fn new(server: &WhatsApp, name: &str) -> Linked {
        let executor = executor::new();
        std::thread::spawn(move || block_on(executor.run(std::future::pending::<()>())));
        let factory = WebSocketFactory {
            executor,
            resolver: Resolver::with_servers(executor, &[]),
            tls: tls::client_config(None).unwrap(),
            endpoint: Endpoint::parse(&server.url()).unwrap(),
            activity: Activity::default(),
            backlog: Backlog::default(),
        };
        let store = Arc::new(InMemoryBackend::new());
        let (handler, events) = ChannelEventHandler::new();
        let builder = Bot::builder()
            .with_backend_arc(store.clone())
            .with_transport_factory(factory)
            .with_http_client(NoHttp)
            .with_runtime(SmolRuntime(executor))
            .with_version((2, 3000, 0))
            .with_push_name(name)
            .with_wanted_pre_key_count(PRE_KEYS);
        let bot = block_on(builder.build()).unwrap();
        let client = bot.client();
        client.set_force_active_delivery_receipts(true);
        client.subscribe_handler(handler).detach();
        let phone = server.phone(name).unwrap();
        let running = bot.spawn();
        let linked = Linked { client, events, store, phone, _running: running };
        let code = linked.wait("a QR code", |event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        });
        linked.phone.scan_qr(&code).unwrap();
        block_on(linked.client.wait_for_connected(PATIENCE)).unwrap();
        block_on(linked.client.wait_for_startup_sync(PATIENCE)).unwrap();
        linked
    }

    /// The first event that `wanted` takes; all before it are gone.
    fn wait<T>(&self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the client is there");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        block_on(within(PATIENCE, found)).unwrap_or_else(|| panic!("no {what} within {PATIENCE:?}"))
    }

    /// Waits for texts, in any order if they come together.
    fn wait_texts(&self, wanted: &[&str]) {
        let mut missing = wanted.to_vec();
        self.wait(&format!("{wanted:?}"), |event| {
            for message in event.messages() {
                let text = message.message.conversation.as_deref();
                missing.retain(|wanted| Some(*wanted) != text);
            }
            missing.is_empty().then_some(())
        });
    }

    fn send(&self, to: impl Into<Jid>, text: &str) -> String {
        block_on(self.client.send_message(to.into(), text_message(text))).unwrap().message_id
    }

    /// What `act` makes the client send with that tag.
    fn sends<T>(&self, tag: &str, act: impl FnOnce() -> T) -> Arc<Node> {
        let sent = self.client.wait_for_sent_node(NodeFilter::tag(tag));
        act();
        block_on(within(PATIENCE, sent)).expect("it is sent in time").expect("the client is there")
    }

    /// Cuts its connection, and nobody can connect until [`comes_back`](Self::comes_back).
    fn goes_offline(&self, server: &WhatsApp) {
        server.fault(Fault::Refuse { count: None }).unwrap();
        server.fault_on(self.phone.number(), Fault::Drop).unwrap();
        let gone = || Ok(self.phone.companions_online().is_empty().then_some(()));
        wait_until("the client to be offline", PATIENCE, gone).unwrap();
    }

    fn comes_back(&self, server: &WhatsApp) {
        server.clear_faults();
        block_on(self.client.reconnect_immediately());
    }
}

fn number(phone: &Handset) -> Jid {
    Jid::pn(phone.number())
}

fn attr(node: &Node, key: &str) -> Option<String> {
    node.attrs.get(key).map(|value| value.as_str().into_owned())
}

#[test]
fn a_client_has_the_app_state_key_as_soon_as_it_is_connected() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    assert!(block_on(budi.store.get_latest_sync_key_id()).unwrap().is_some());
}

#[test]
fn clients_of_a_migrated_account_write_to_lids_and_those_of_others_to_numbers() {
    for (lid_migrated, expected) in [(true, Server::Lid), (false, Server::Pn)] {
        let server = WhatsApp::start(Options { lid_migrated, ..Options::default() }).unwrap();
        let budi = Linked::new(&server, "Budi");
        let ani = server.phone("Ani").unwrap();
        let sent = budi.sends("message", || budi.send(number(&ani), "halo"));
        let to: Jid = attr(&sent, "to").unwrap().parse().unwrap();
        assert_eq!(to.server, expected);
        let shown = ani.wait_for(|shown| shown.text == "halo", PATIENCE).unwrap();
        assert_eq!(shown.chat, budi.phone.number());
    }
}

#[test]
fn phones_and_clients_read_each_other_in_a_group_with_sender_keys() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    let (ani, citra) = (server.phone("Ani").unwrap(), server.phone("Citra").unwrap());
    let group = server.group("Sembako", &[&ani, &budi.phone], Addressing::Lid).unwrap();
    let chat = Jid::group(group.as_str());

    // The first of a phone brings its sender key, the second needs none.
    for (text, pairwise) in [("satu", true), ("dua", false)] {
        let came = budi.client.wait_for_node(NodeFilter::tag("message"));
        let id = ani.send_text(&group, text).unwrap();
        let came = block_on(within(PATIENCE, came)).unwrap().unwrap();
        let kinds: Vec<String> = came
            .get()
            .get_children_by_tag("enc")
            .filter_map(|enc| enc.get_attr("type").map(|kind| kind.as_str().into_owned()))
            .collect();
        assert_eq!(kinds.last().map(String::as_str), Some("skmsg"));
        assert_eq!(kinds.len(), if pairwise { 2 } else { 1 }, "{kinds:?}");
        budi.wait_texts(&[text]);
        ani.wait_delivered(&id, PATIENCE).unwrap();
        assert_eq!(budi.phone.wait_for(|shown| shown.id == id, PATIENCE).unwrap().chat, group);
    }
    for text in ["tiga", "empat"] {
        let sent = budi.sends("message", || budi.send(&chat, text));
        assert_eq!(attr(&sent, "addressing_mode").as_deref(), Some("lid"));
        let shown = ani.wait_for(|shown| shown.text == text, PATIENCE).unwrap();
        assert_eq!((shown.chat.as_str(), shown.from.as_str()), (group.as_str(), budi.phone.number()));
    }

    // A spoiled one is asked for again.
    server.fault_on(budi.phone.number(), Fault::Corrupt { count: Some(1) }).unwrap();
    let id = ani.send_text(&group, "lima").unwrap();
    budi.wait_texts(&["lima"]);
    assert!(ani.asked_again(&id));

    // Who joins reads on, who leaves does not.
    let added = block_on(budi.client.groups().add_participants(&chat, &[number(&citra)]));
    assert!(added.is_err(), "only admins add");
    let mine = block_on(budi.client.groups().create_group(group_of("Warga", &[&ani]))).unwrap().metadata.id;
    budi.send(&mine, "enam");
    ani.wait_for(|shown| shown.text == "enam", PATIENCE).unwrap();
    let added = block_on(budi.client.groups().add_participants(&mine, &[number(&citra)])).unwrap();
    assert_eq!(added[0].status.as_deref(), Some("200"));
    budi.send(&mine, "tujuh");
    citra.wait_for(|shown| shown.text == "tujuh", PATIENCE).unwrap();
    citra.send_text(&mine.user, "delapan").unwrap();
    budi.wait_texts(&["delapan"]);
    ani.wait_for(|shown| shown.text == "delapan", PATIENCE).unwrap();
    let removed = block_on(budi.client.groups().remove_participants(&mine, &[number(&ani)])).unwrap();
    assert_eq!(removed[0].status.as_deref(), Some("200"));
    citra.send_text(&mine.user, "sembilan").unwrap();
    budi.wait_texts(&["sembilan"]);
    assert!(ani.shown().iter().all(|shown| shown.text != "sembilan"));
    assert_eq!(ani.failed_decryptions() + citra.failed_decryptions(), 0);
}

/// Seconds after which messages of a group disappear; 0 when they stay.
fn disappear_after(group: &GroupMetadata) -> u32 {
    group.ephemeral.and_then(|settings| settings.expiration).unwrap_or(0)
}

fn group_of(subject: &str, members: &[&Handset]) -> GroupCreateOptions {
    GroupCreateOptions {
        subject: subject.to_owned(),
        participants: members.iter().map(|member| GroupParticipantOptions::new(number(member))).collect(),
        ..Default::default()
    }
}

#[test]
fn a_group_names_its_members_by_lid_keeps_its_settings_and_refuses_what_it_does_not_know() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    let ani = server.phone("Ani").unwrap();
    let groups = budi.client.groups();
    let id = block_on(groups.create_group(group_of("Warga", &[&ani]))).unwrap().metadata.id;
    let look = || block_on(groups.get_metadata(&id)).unwrap();
    let made = look();
    assert!(made.participants.iter().all(|member| member.jid.is_lid()), "{:?}", made.participants);
    assert_eq!((disappear_after(&made), made.membership_approval, made.is_locked), (0, false, false));

    for seconds in [86_400, 604_800, 0] {
        block_on(groups.set_ephemeral(&id, seconds)).unwrap();
        assert_eq!(disappear_after(&look()), seconds);
    }
    for (mode, on) in [(MembershipApprovalMode::On, true), (MembershipApprovalMode::Off, false)] {
        block_on(groups.set_membership_approval(&id, mode)).unwrap();
        assert_eq!(look().membership_approval, on);
    }
    for on in [true, false] {
        block_on(groups.set_locked(&id, on)).unwrap();
        assert_eq!(look().is_locked, on);
    }
    let refused = block_on(groups.set_no_frequently_forwarded(&id, true)).unwrap_err();
    let refused = format!("{:#}", anyhow::Error::from(refused));
    assert!(refused.contains("501"), "{refused}");
}

#[test]
fn a_status_reaches_whom_its_sender_names_and_nobody_else() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    let (ani, citra) = (server.phone("Ani").unwrap(), server.phone("Citra").unwrap());
    let post = |text: &str| {
        let viewers = [Jid::lid(ani.lid())];
        let status = budi.client.status();
        let posted = status.send_text(text, 0, FontType::SYSTEM, &viewers, Default::default());
        block_on(posted).unwrap();
    };
    // The second goes out without the sender key, which Ani has.
    for text in ["satu", "dua"] {
        post(text);
        let shown = ani.wait_for(|shown| shown.text == text, PATIENCE).unwrap();
        assert_eq!((shown.chat.as_str(), shown.from.as_str()), ("status", budi.phone.number()));
    }
    assert!(citra.shown().is_empty());

    // And a phone's: for whom it has written with.
    ani.send_text(budi.phone.number(), "halo").unwrap();
    for text in ["tiga", "empat"] {
        ani.send_text("status@broadcast", text).unwrap();
        budi.wait_texts(&[text]);
    }
    assert!(citra.shown().is_empty());
    assert_eq!(ani.failed_decryptions() + budi.phone.failed_decryptions(), 0);
}

#[test]
fn a_long_backlog_comes_in_the_batches_that_the_client_asks_for() {
    const WAITING: usize = 450;
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    let ani = server.phone("Ani").unwrap();
    budi.goes_offline(&server);
    let texts: Vec<String> = (0..WAITING).map(|n| format!("pesan {n}")).collect();
    for text in &texts {
        ani.send_text(budi.phone.number(), text).unwrap();
    }
    let client = budi.client.clone();
    let (asks, ask) = async_channel::bounded(1);
    std::thread::spawn(move || {
        // A connection that ends, also one that was refused, takes those along who wait.
        while block_on(client.wait_for_sent_node(NodeFilter::tag("ib"))).is_err() {}
        asks.try_send(())
    });
    budi.comes_back(&server);
    let told = budi.wait("a preview", |event| match event {
        Event::OfflineSyncPreview(preview) => Some(preview.messages),
        _ => None,
    });
    assert_eq!(usize::try_from(told), Ok(WAITING));
    block_on(within(PATIENCE, ask.recv())).expect("it asks").unwrap();
    let mut got = Vec::new();
    budi.wait("backlog", |event| {
        got.extend(event.messages().filter_map(|message| message.message.conversation.clone()));
        (got.len() >= WAITING).then_some(())
    });
    assert_eq!(got, texts);
}

#[test]
fn a_message_that_cannot_be_read_comes_from_the_client_s_own_phone() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let budi = Linked::new(&server, "Budi");
    let ani = server.phone("Ani").unwrap();
    // However often it is sent again.
    server.fault_on(budi.phone.number(), Fault::Corrupt { count: None }).unwrap();
    ani.send_text(budi.phone.number(), "halo").unwrap();
    let by_phone = budi.wait("the message", |event| {
        let found = event.messages().find(|it| it.message.conversation.as_deref() == Some("halo"));
        found.map(|message| message.info.unavailable_request_id.is_some())
    });
    assert!(by_phone);
}

#[test]
fn silent_phones_leave_delivery_receipts_to_their_companions() {
    for silent_phones in [false, true] {
        let server = WhatsApp::start(Options { silent_phones, ..Options::default() }).unwrap();
        let (budi, citra) = (Linked::new(&server, "Budi"), Linked::new(&server, "Citra"));
        let delivered = |event: &Event, id: &str| {
            matches!(event, Event::Receipt(receipt) if receipt.r#type == ReceiptType::Delivered
                && receipt.message_ids.iter().any(|known| *known == *id))
        };
        citra.goes_offline(&server);
        let id = budi.send(number(&citra.phone), "halo");
        citra.phone.wait_for(|shown| shown.id == id, PATIENCE).unwrap();
        // The server works one thing off after the other: a receipt would come before this.
        server.phone("Ani").unwrap().send_text(budi.phone.number(), "sudah").unwrap();
        let mut early = false;
        budi.wait("text", |event| {
            early |= delivered(event, &id);
            event.messages().any(|it| it.message.conversation.as_deref() == Some("sudah")).then_some(())
        });
        assert_eq!(early, !silent_phones);
        if silent_phones {
            citra.comes_back(&server);
            budi.wait("receipt", |event| delivered(event, &id).then_some(()));
        }
    }
}

#[test]
fn companions_of_one_account_hear_each_other_by_lid() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let first = Linked::new(&server, "Budi");
    let second = Linked::new(&server, "Budi");
    let (from, to) = (second.client.lid().unwrap(), first.client.pn().unwrap());
    let heard = first.client.wait_for_node(NodeFilter::tag("message").attr("category", "peer"));
    let peer = whatsapp_rust::NodeBuilder::new("message")
        .attr("to", to)
        .attr("id", "3EB0PEER")
        .attr("type", "text")
        .attr("category", "peer")
        .children([whatsapp_rust::NodeBuilder::new("enc")
            .attr("v", "2")
            .attr("type", "msg")
            .bytes([0; 40])
            .build()])
        .build();
    block_on(second.client.send_node(peer)).unwrap();
    let heard = block_on(within(PATIENCE, heard)).expect("it comes").unwrap();
    let sender: Jid = heard.get().get_attr("from").unwrap().as_str().parse().unwrap();
    assert_eq!(sender, from);
}

#[test]
fn a_picture_is_seen_until_it_is_taken_away_and_own_companions_hear_of_both() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (budi, ani) = (Linked::new(&server, "Budi"), Linked::new(&server, "Ani"));
    let of = number(&budi.phone);
    let look = || {
        let found = block_on(ani.client.contacts().get_profile_picture(&of, false)).unwrap();
        found.map(|picture| picture.id)
    };
    let heard = |removed: bool| {
        budi.wait("a picture", |event| match event {
            Event::PictureUpdate(update) if update.jid == of && update.removed == removed => {
                Some(update.picture_id.clone())
            }
            _ => None,
        })
    };
    assert_eq!(look(), None);
    let profile = budi.client.profile();
    let first = block_on(profile.set_profile_picture(vec![0xff, 0xd8])).unwrap().id;
    assert_eq!((look(), heard(false)), (Some(first.clone()), Some(first.clone())));
    let second = block_on(profile.set_profile_picture(vec![0xff, 0xd9])).unwrap().id;
    assert_ne!(first, second);
    assert_eq!(look(), Some(second));
    block_on(profile.remove_profile_picture()).unwrap();
    assert_eq!((look(), heard(true)), (None, None));
}

#[test]
fn a_community_has_its_own_groups_and_those_that_are_linked_to_it_until_it_is_given_up() {
    let server = WhatsApp::start(Options::default()).unwrap();
    let (budi, ani) = (Linked::new(&server, "Budi"), Linked::new(&server, "Ani"));
    let (community, groups) = (budi.client.community(), budi.client.groups());
    let made = block_on(community.create(CreateCommunityOptions::new("RT 05"))).unwrap().metadata;
    assert!(block_on(groups.get_metadata(&made.id)).unwrap().is_parent_group);
    let list = || block_on(community.get_subgroups(&made.id)).unwrap();
    assert!(list().iter().any(|group| group.is_default_sub_group));

    let group = block_on(groups.create_group(group_of("Warga", &[]))).unwrap().metadata.id;
    let refused = block_on(community.query_linked_group(&made.id, &group));
    assert!(refused.is_err(), "it is not linked yet");
    let linked = block_on(community.link_subgroups(&made.id, std::slice::from_ref(&group))).unwrap();
    assert_eq!(linked.linked_jids, std::slice::from_ref(&group));
    assert!(list().iter().any(|linked| linked.id == group));
    let seen = block_on(community.query_linked_group(&made.id, &group)).unwrap();
    assert_eq!((seen.id, seen.subject.as_str()), (group.clone(), "Warga"));

    block_on(groups.add_participants(&made.id, &[number(&ani.phone)])).unwrap();
    let joined = block_on(ani.client.community().join_subgroup(&made.id, &group)).unwrap();
    assert_eq!(joined.participants.len(), 2);
    let counts = block_on(community.get_subgroup_participant_counts(&made.id)).unwrap();
    assert!(counts.contains(&(group.clone(), 2)), "{counts:?}");
    let everybody = block_on(community.get_linked_groups_participants(&made.id)).unwrap();
    assert!(everybody.iter().any(|member| member.phone_number.as_ref() == Some(&number(&ani.phone))));

    let unlinked =
        block_on(community.unlink_subgroups(&made.id, std::slice::from_ref(&group), false)).unwrap();
    assert_eq!(unlinked.unlinked_jids, std::slice::from_ref(&group));
    assert!(list().iter().all(|linked| linked.id != group));
    block_on(community.deactivate(&made.id)).unwrap();
    assert!(!block_on(groups.get_metadata(&made.id)).unwrap().is_parent_group);
}

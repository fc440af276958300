//! Linking behind a passkey: since the middle of 2026 WhatsApp lets some accounts, business accounts above
//! all, take a linked device only after one of the account's passkeys has signed. The phone has scanned the
//! code by then; what follows takes the place of `<pair-success>`, which comes at the end under a new ADV
//! secret.
//!
//! 1. `<notification type="passkey_prologue_request">` with a challenge, also for the asking;
//! 2. the client fetches a `<ref>`, and sends the assertion with a commitment to an ephemeral key;
//! 3. `<notification type="crsc_continuation">` with the phone's ephemeral key;
//! 4. the client reveals its nonce, and the phone shows a code to compare;
//! 5. the client sends its keys and a new ADV secret, sealed.
//!
//! That a proof of an earlier link makes the comparison unnecessary, and a wrong one is refused, is inferred
//! from the clients; so is that a refused assertion does not use the challenge up, which [`Demand`] changes.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::Rng;
use serde_json::json;
use wacore_binary::Node;

use super::accounts::AccountId;
use super::stanza::{Stanza, error, leaf, node, result, server_jid};
use super::world::{Later, SocketId, World};
use crate::phone::handoff::{Agreed, Prologue, Shown, check_proof};
use crate::phone::passkey::{Passkey, RP_ID};

/// How long a challenge is good for, in seconds, unless [`Demand`] says else.
const CHALLENGE_LIVES: u64 = 600;

/// Between the answer to the client's last request and `<pair-success>`. Clients store the new secret only
/// once they have that answer.
const PAIR_SUCCESS_AFTER: Duration = Duration::from_millis(250);

/// What the server demands of an account's next linked device, and how its phone goes along.
#[derive(Debug, Clone)]
pub struct Demand {
    /// The notification lacks the options: the client has to ask for them.
    pub options_on_request: bool,
    /// Seconds for which a challenge is good.
    pub challenge_lives: u64,
    /// What the client is told of that, in milliseconds.
    pub timeout: u64,
    /// A refused assertion uses the challenge up.
    pub one_try: bool,
    /// The phone never answers an assertion that was accepted.
    pub silent_phone: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Demand {
            options_on_request: false,
            challenge_lives: CHALLENGE_LIVES,
            timeout: CHALLENGE_LIVES * 1000,
            one_try: false,
            silent_phone: false,
        }
    }
}

/// An account's passkey, and what became of it.
pub struct Gate {
    pub passkey: Passkey,
    pub demand: Demand,
    /// The code that the phone shows, once it does.
    pub code: Option<String>,
    /// Why assertions and what followed them were refused, in order.
    pub refusals: Vec<String>,
    /// Challenges that were given out.
    pub asked: u32,
}

impl Gate {
    pub fn new(demand: Demand) -> Gate {
        Gate { passkey: Passkey::generate(), demand, code: None, refusals: Vec::new(), asked: 0 }
    }
}

/// One client on its way through.
pub struct Ceremony {
    account: AccountId,
    /// The secret of the QR code or the link code.
    adv_secret: Vec<u8>,
    /// In base64url.
    challenge: String,
    /// Unix seconds.
    issued: u64,
    used: bool,
    references: Vec<String>,
    stage: Stage,
}

enum Stage {
    Asked,
    /// The phone has shown its key; without a code to compare if a proof came along.
    Shown(Box<Shown>, bool),
    Agreed(Agreed),
    Done,
}

impl World {
    /// The phone has taken the code of a client: links it, or demands a passkey first.
    ///
    /// # Errors
    /// When the client is gone or the account can link no more.
    pub fn link(&mut self, id: SocketId, account: AccountId, adv_secret: &[u8]) -> anyhow::Result<()> {
        if self.accounts[account].primary.gate.is_none() {
            return self.pair_success(id, account, adv_secret);
        }
        let mut challenge = [0; 32];
        self.rng.fill_bytes(&mut challenge);
        let ceremony = Ceremony {
            account,
            adv_secret: adv_secret.to_vec(),
            challenge: BASE64_URL_SAFE_NO_PAD.encode(challenge),
            issued: self.now.unix,
            used: false,
            references: Vec::new(),
            stage: Stage::Asked,
        };
        let gate = self.gate(account)?;
        gate.asked += 1;
        gate.code = None;
        let tell = !gate.demand.options_on_request;
        let options = tell.then(|| leaf("passkey_request_options", options(&ceremony, &gate.demand)));
        self.registration(id).context("the client is gone")?.ceremony = Some(ceremony);
        let notification = self.passkey_notification("passkey_prologue_request", options);
        self.write(id, notification);
        Ok(())
    }

    fn gate(&mut self, account: AccountId) -> anyhow::Result<&mut Gate> {
        self.accounts[account].primary.gate.as_mut().context("the account has no passkey any more")
    }

    fn passkey_notification(&mut self, kind: &'static str, child: Option<Node>) -> Node {
        let notification = node("notification")
            .attr("from", server_jid())
            .attr("type", kind)
            .attr("id", self.fresh_id())
            .attr("t", self.now.unix);
        match child {
            Some(child) => notification.children([child]).build(),
            None => notification.build(),
        }
    }

    fn ceremony(&mut self, id: SocketId) -> anyhow::Result<&mut Ceremony> {
        let registration = self.registration(id).context("the client is gone")?;
        registration.ceremony.as_mut().context("nobody asked this client for a passkey")
    }

    /// A request of the ceremony, if it is one.
    pub fn on_passkey_request(&mut self, id: SocketId, request: &Node) -> bool {
        let Some(step) = request.first_child() else { return false };
        let outcome = match step.tag.as_ref() {
            "ref" => self.on_ref(id),
            "passkey_request_options" => self.on_options_wanted(id),
            "passkey_prologue" => self.on_prologue(id, step),
            "companion_nonce" => self.on_companion_nonce(id, step),
            "encrypted_pairing_request" => self.on_pairing_request(id, step),
            _ => return false,
        };
        match outcome {
            Ok((answer, after)) => {
                self.write(id, result(request, answer));
                self.go_on(id, after);
            }
            Err(refusal) => {
                log::info!("a client's passkey was refused: {refusal:#}");
                let account = self.ceremony(id).map(|ceremony| ceremony.account);
                if let Ok(gate) = account.and_then(|account| self.gate(account)) {
                    gate.refusals.push(format!("{refusal:#}"));
                }
                self.write(id, error(request, 400, "bad-request"));
            }
        }
        true
    }

    fn on_ref(&mut self, id: SocketId) -> anyhow::Result<(Option<Node>, After)> {
        let reference = format!("5@{:016x}", self.rng.next_u64());
        self.ceremony(id)?.references.push(reference.clone());
        Ok((Some(leaf("ref", reference)), After::Nothing))
    }

    fn on_options_wanted(&mut self, id: SocketId) -> anyhow::Result<(Option<Node>, After)> {
        let account = self.ceremony(id)?.account;
        let demand = self.gate(account)?.demand.clone();
        let options = options(self.ceremony(id)?, &demand);
        Ok((Some(leaf("passkey_request_options", options)), After::Nothing))
    }

    fn on_prologue(&mut self, id: SocketId, step: &Node) -> anyhow::Result<(Option<Node>, After)> {
        let content = |tag| step.child(tag).and_then(|child| child.bytes().map(<[u8]>::to_vec));
        let credential = content("credential_id").context("no credential id")?;
        let assertion = content("webauthn_assertion").context("no assertion")?;
        let payload = content("prologue_payload").context("no prologue")?;
        let now = self.now.unix;
        let account = self.ceremony(id)?.account;
        let Gate { passkey, demand, .. } =
            self.accounts[account].primary.gate.as_ref().context("the account has no passkey any more")?;
        let (lives, one_try) = (demand.challenge_lives, demand.one_try);
        let registration = match self.sockets.get(&id).map(|socket| &socket.peer) {
            Some(super::world::Peer::Unpaired(registration)) => registration,
            _ => bail!("the client is gone"),
        };
        let ceremony = registration.ceremony.as_ref().context("nobody asked this client for a passkey")?;
        let late = now.saturating_sub(ceremony.issued) >= lives;
        let verdict = passkey.verify(&ceremony.challenge, &credential, &assertion);

        let ceremony = self.ceremony(id)?;
        ensure!(!ceremony.used, "the challenge was used before");
        ensure!(!late, "the challenge is older than {lives} s");
        ceremony.used = one_try;
        verdict?;
        let prologue = Prologue::read(&payload)?;
        ensure!(
            ceremony.references.iter().any(|known| known == prologue.reference()),
            "an unknown reference"
        );
        let proof = content("pairing_handoff_proof");
        if let Some(proof) = &proof {
            check_proof(&ceremony.adv_secret, &payload, proof)?;
        }
        ceremony.used = true;
        let shown = self.accounts[account].primary.phone.show_ephemeral(prologue);
        let identity = shown.identity();
        self.ceremony(id)?.stage = Stage::Shown(Box::new(shown), proof.is_none());
        let silent = self.gate(account)?.demand.silent_phone;
        Ok((None, if silent { After::Nothing } else { After::Continue(identity) }))
    }

    fn on_companion_nonce(&mut self, id: SocketId, step: &Node) -> anyhow::Result<(Option<Node>, After)> {
        let nonce = step.bytes().context("no nonce")?;
        let ceremony = self.ceremony(id)?;
        let Stage::Shown(shown, compare) = &ceremony.stage else { bail!("a nonce out of turn") };
        let (agreed, compare) = (shown.reveal(nonce)?, *compare);
        let (account, code) = (ceremony.account, agreed.code.clone());
        ceremony.stage = Stage::Agreed(agreed);
        self.gate(account)?.code = compare.then_some(code);
        Ok((None, After::Nothing))
    }

    fn on_pairing_request(&mut self, id: SocketId, step: &Node) -> anyhow::Result<(Option<Node>, After)> {
        let sealed = step.bytes().context("no pairing request")?.to_vec();
        let registration = self.registration(id).context("the client is gone")?;
        let (noise, identity) = (registration.noise(), registration.identity());
        let ceremony = self.ceremony(id)?;
        let Stage::Agreed(agreed) = &ceremony.stage else { bail!("a pairing request out of turn") };
        let adv_secret = agreed.open(&sealed, &noise, &identity)?.to_vec();
        ceremony.stage = Stage::Done;
        let account = ceremony.account;
        Ok((None, After::Link { account, adv_secret }))
    }

    fn go_on(&mut self, id: SocketId, after: After) {
        match after {
            After::Nothing => {}
            After::Continue(identity) => {
                let notification = self.passkey_notification(
                    "crsc_continuation",
                    Some(leaf("primary_ephemeral_identity", identity)),
                );
                self.write(id, notification);
            }
            After::Link { account, adv_secret } => {
                self.after(PAIR_SUCCESS_AFTER, Later::PairSuccess { to: id, account, adv_secret });
            }
        }
    }
}

/// What follows an answer.
enum After {
    Nothing,
    Continue(Vec<u8>),
    Link { account: AccountId, adv_secret: Vec<u8> },
}

/// `PublicKeyCredentialRequestOptions`, as the server writes them.
fn options(ceremony: &Ceremony, demand: &Demand) -> Vec<u8> {
    json!({
        "challenge": ceremony.challenge,
        "timeout": demand.timeout,
        "rpId": RP_ID,
        "allowCredentials": [],
        "userVerification": "required",
        "extensions": { "uvm": true },
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::prelude::BASE64_STANDARD;
    use buffa::MessageField;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use wacore::pair::{DeviceState, PairUtils};
    use wacore::shortcake::ShortcakeUtils;
    use wacore_libsignal::protocol::KeyPair;
    use waproto::whatsapp::ClientPayload;
    use waproto::whatsapp::client_payload::DevicePairingRegistrationData;
    use waproto::whatsapp::device_props::PlatformType;

    use super::super::pairing::Registration;
    use super::super::world::{Outgoing, Peer};
    use super::*;
    use crate::phone::passkey::Ceremony as Signing;

    const ADV_SECRET: [u8; 32] = [5; 32];
    const NEW_SECRET: [u8; 32] = [6; 32];
    const NONCE: [u8; 32] = [4; 32];

    /// A client that was scanned, with the client's own code for its part.
    struct Client {
        world: World,
        id: SocketId,
        heard: async_channel::Receiver<Outgoing>,
        account: AccountId,
        noise: KeyPair,
        identity: KeyPair,
        ephemeral: KeyPair,
        challenge: String,
    }

    fn public(key: &KeyPair) -> [u8; 32] {
        key.public_key.public_key_bytes().try_into().unwrap()
    }

    impl Client {
        fn scanned(demand: Demand) -> Client {
            let mut rng = StdRng::seed_from_u64(1);
            let mut key = || KeyPair::generate(&mut rng);
            let (noise, identity, ephemeral) = (key(), key(), key());
            let data = DevicePairingRegistrationData {
                e_regid: Some(vec![0, 0, 0, 1]),
                e_ident: Some(public(&identity).to_vec()),
                e_skey_id: Some(vec![0, 0, 1]),
                e_skey_val: Some(vec![1; 32]),
                e_skey_sig: Some(vec![1; 64]),
                ..Default::default()
            };
            let payload =
                ClientPayload { device_pairing_data: MessageField::some(data), ..Default::default() };
            let mut world = World::new(StdRng::seed_from_u64(2));
            let account = world.account_named("Operator");
            world.accounts[account].primary.gate = Some(Gate::new(demand));
            let (out, heard) = World::socket_queue();
            let registration = Registration::new(public(&noise), payload).unwrap();
            let id = world.open_socket(out, Peer::Unpaired(Box::new(registration)));
            world.offer_pairing(id);
            let challenge = String::new();
            let mut client = Client { world, id, heard, account, noise, identity, ephemeral, challenge };
            let codes = client.next();
            let reference =
                codes.child("pair-device").unwrap().child("ref").unwrap().bytes().unwrap().to_vec();
            let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
            let qr = format!(
                "{},{},{},{},1",
                String::from_utf8(reference).unwrap(),
                text(&public(&client.noise)),
                text(&public(&client.identity)),
                text(&ADV_SECRET)
            );
            client.world.scan_qr(&qr, Some(account)).unwrap();
            let asked = client.next();
            assert_eq!(asked.attr("type").as_deref(), Some("passkey_prologue_request"));
            let options = match asked.child("passkey_request_options") {
                Some(options) => options.bytes().unwrap().to_vec(),
                None => {
                    let answer = client.ask(node("passkey_request_options").build());
                    answer.child("passkey_request_options").unwrap().bytes().unwrap().to_vec()
                }
            };
            let options: serde_json::Value = serde_json::from_slice(&options).unwrap();
            client.challenge = options["challenge"].as_str().unwrap().to_owned();
            client
        }

        fn next(&mut self) -> Node {
            match self.heard.try_recv() {
                Ok(Outgoing::Stanza(stanza)) => stanza,
                _ => panic!("the server says nothing"),
            }
        }

        fn ask(&mut self, step: Node) -> Node {
            let iq = node("iq").attr("type", "set").attr("xmlns", "md").attr("id", "1").children([step]);
            self.world.on_stanza(self.id, iq.build());
            self.next()
        }

        fn reference(&mut self) -> String {
            let answer = self.ask(node("ref").build());
            String::from_utf8(answer.child("ref").unwrap().bytes().unwrap().to_vec()).unwrap()
        }

        fn prologue(&self, reference: &str) -> Vec<u8> {
            let identity = ShortcakeUtils::build_companion_ephemeral_identity(
                &public(&self.ephemeral),
                PlatformType::DESKTOP,
                reference,
            );
            let commitment = ShortcakeUtils::commitment_hash(&identity, &NONCE);
            ShortcakeUtils::build_prologue_payload(&identity, &commitment)
        }

        /// Gives an assertion; says whether the server took it.
        fn prove(&mut self, reference: &str, signing: &Signing, proof: Option<[u8; 32]>) -> bool {
            let passkey = &self.world.accounts[self.account].primary.gate.as_ref().unwrap().passkey;
            let assertion = passkey.assertion(&self.challenge, signing);
            let mut children = vec![
                leaf("credential_id", passkey.credential()),
                leaf("webauthn_assertion", assertion),
                leaf("prologue_payload", self.prologue(reference)),
            ];
            children.extend(proof.map(|proof| leaf("pairing_handoff_proof", proof)));
            let answer = self.ask(node("passkey_prologue").children(children).build());
            answer.attr("type").as_deref() == Some("result")
        }

        fn proof(&self, secret: &[u8; 32], reference: &str) -> [u8; 32] {
            let key = ShortcakeUtils::derive_pairing_handoff_hmac_key(secret).unwrap();
            ShortcakeUtils::compute_pairing_handoff_proof(&key, &self.prologue(reference))
        }

        fn refusals(&self) -> &[String] {
            &self.world.accounts[self.account].primary.gate.as_ref().unwrap().refusals
        }

        fn code(&self) -> Option<&str> {
            self.world.accounts[self.account].primary.gate.as_ref().unwrap().code.as_deref()
        }
    }

    #[test]
    fn without_a_proof_both_show_a_code_and_the_end_comes_late_enough_under_the_new_secret() {
        for options_on_request in [false, true] {
            let mut client = Client::scanned(Demand { options_on_request, ..Demand::default() });
            let reference = client.reference();
            assert!(client.prove(&reference, &Signing::default(), None));
            let shown = client.next();
            assert_eq!(shown.attr("type").as_deref(), Some("crsc_continuation"));
            let shown = shown.child("primary_ephemeral_identity").unwrap().bytes().unwrap().to_vec();
            let primary = ShortcakeUtils::parse_primary_ephemeral_identity(&shown).unwrap();
            assert_eq!(client.code(), None, "before the companion has revealed its nonce");
            let answer = client.ask(leaf("companion_nonce", NONCE));
            assert_eq!(answer.attr("type").as_deref(), Some("result"));
            let code = ShortcakeUtils::derive_verification_code(&NONCE, &primary.public_key, &primary.nonce);
            assert_eq!(client.code().map(|code| code.replace('-', "")), Some(code));

            let key = ShortcakeUtils::derive_encryption_key(
                &client.ephemeral,
                &primary.public_key,
                PlatformType::DESKTOP,
                &reference,
            )
            .unwrap();
            let (noise, identity) = (public(&client.noise), public(&client.identity));
            let plain = ShortcakeUtils::build_pairing_request(&noise, &identity, &NEW_SECRET);
            let sealed = ShortcakeUtils::encrypt_pairing_request(&plain, &key).unwrap();
            let sealed = ShortcakeUtils::build_encrypted_pairing_request(&sealed);
            let answer = client.ask(leaf("encrypted_pairing_request", sealed));
            assert_eq!(answer.attr("type").as_deref(), Some("result"));

            let due = client.world.next_due().unwrap() - client.world.now.instant;
            assert!(due >= Duration::from_millis(200), "{due:?}");
            client.world.run_timers();
            assert!(client.heard.is_empty());
            client.world.now.instant += due;
            client.world.run_timers();
            let success = client.next();
            let blob = success.child("pair-success").unwrap().child("device-identity").unwrap();
            let verdict = |adv_secret_key| {
                let state = DeviceState {
                    identity_key: client.identity.clone(),
                    noise_key: client.noise.clone(),
                    adv_secret_key,
                };
                PairUtils::do_pair_crypto(&state, blob.bytes().unwrap()).map(drop).map_err(|error| error.text)
            };
            assert_eq!(verdict(NEW_SECRET), Ok(()));
            assert_eq!(verdict(ADV_SECRET), Err("hmac-mismatch"));
        }
    }

    #[test]
    fn a_valid_proof_makes_the_code_needless_and_a_wrong_one_is_refused() {
        let mut client = Client::scanned(Demand::default());
        let reference = client.reference();
        let wrong = client.proof(&[7; 32], &reference);
        assert!(!client.prove(&reference, &Signing::default(), Some(wrong)));
        assert!(client.refusals()[0].contains("proof"), "{:?}", client.refusals());
        let right = client.proof(&ADV_SECRET, &reference);
        assert!(client.prove(&reference, &Signing::default(), Some(right)));
        client.next();
        client.ask(leaf("companion_nonce", NONCE));
        assert_eq!((client.code(), client.refusals().len()), (None, 1));
    }

    #[test]
    fn a_challenge_is_good_once_and_for_ten_minutes() {
        let mut client = Client::scanned(Demand::default());
        let reference = client.reference();
        let forged = Signing { forged: true, ..Signing::default() };
        assert!(!client.prove(&reference, &forged, None));
        assert!(!client.prove("5@unknown", &Signing::default(), None));
        assert!(client.prove(&reference, &Signing::default(), None));
        client.next();
        assert!(!client.prove(&reference, &Signing::default(), None));
        assert!(client.refusals()[2].contains("used before"), "{:?}", client.refusals());

        let mut late = Client::scanned(Demand::default());
        let reference = late.reference();
        late.world.now.unix += CHALLENGE_LIVES;
        assert!(!late.prove(&reference, &Signing::default(), None));
        assert!(late.refusals()[0].contains("older"), "{:?}", late.refusals());

        let mut once = Client::scanned(Demand { one_try: true, ..Demand::default() });
        let reference = once.reference();
        assert!(!once.prove(&reference, &forged, None));
        assert!(!once.prove(&reference, &Signing::default(), None));
        assert!(once.refusals()[1].contains("used before"), "{:?}", once.refusals());
    }

    #[test]
    fn steps_out_of_turn_are_refused() {
        let mut client = Client::scanned(Demand::default());
        for step in ["companion_nonce", "encrypted_pairing_request"] {
            let answer = client.ask(leaf(step, NONCE));
            assert_eq!(answer.attr("type").as_deref(), Some("error"), "{step}");
        }
        assert_eq!(client.refusals(), ["a nonce out of turn", "a pairing request out of turn"]);
    }
}

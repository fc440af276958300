//! The server's side of the Noise handshake: XX; IK for a client that knows the server's key from an earlier
//! connection, and XXfallback when it knows another one.
//!
//! Pure: messages in, messages out. The certificate chain is signed properly by
//! a root of its own, which no client knows: to talk to us a client must skip that check, or have had WhatsApp's root
//! exchanged for this one.

use anyhow::{Context, bail, ensure};
use buffa::{Message, MessageField};
use rand::CryptoRng;
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER};
use wacore_libsignal::protocol::{KeyPair, PrivateKey};
use wacore_noise::{NoiseCipher, NoiseHandshake};
use waproto::whatsapp::cert_chain::{NoiseCertificate, noise_certificate};
use waproto::whatsapp::handshake_message::ServerHello;
use waproto::whatsapp::{CertChain, ClientPayload, HandshakeMessage};

/// Validity of the certificates: from 2023 to 2096, so that no test depends on today's date.
const NOT_BEFORE: u64 = 1_700_000_000;
const NOT_AFTER: u64 = 4_000_000_000;

/// Private key of the root, the same for all servers of all test beds, so that a client can be made to know it. Whoever
/// has it can sign for the test bed, and for nobody else.
const ROOT: [u8; 32] = *b"root key of the bot-kjp test bed";

/// The root that signs the servers' certificates.
fn root() -> KeyPair {
    let private = PrivateKey::deserialize(&ROOT).expect("any 32 bytes are a key");
    let public = private.public_key().expect("every private key has one");
    KeyPair::new(public, private)
}

/// What a client must know as WhatsApp's root to accept the test bed's servers.
pub fn root_public() -> [u8; 32] {
    root().public_key.public_key_bytes().try_into().expect("a key has 32 bytes")
}

/// The server's static key and its certificate chain; one for the life of the server.
pub struct ServerKeys {
    key: KeyPair,
    chain: Vec<u8>,
}

impl ServerKeys {
    pub fn new<R: CryptoRng>(rng: &mut R) -> ServerKeys {
        let root = root();
        let intermediate = KeyPair::generate(rng);
        let key = KeyPair::generate(rng);
        let certificate = |serial, issuer, subject: &KeyPair, signer: &KeyPair, rng: &mut R| {
            let details = noise_certificate::Details {
                serial: Some(serial),
                issuer_serial: Some(issuer),
                key: Some(subject.public_key.public_key_bytes().to_vec()),
                not_before: Some(NOT_BEFORE),
                not_after: Some(NOT_AFTER),
            }
            .encode_to_vec();
            let signature =
                signer.private_key.calculate_signature(&details, rng).expect("a generated key can sign");
            NoiseCertificate { details: Some(details), signature: Some(signature.to_vec()) }
        };
        let chain = CertChain {
            intermediate: MessageField::some(certificate(1, 0, &intermediate, &root, rng)),
            leaf: MessageField::some(certificate(2, 1, &key, &intermediate, rng)),
        }
        .encode_to_vec();
        ServerKeys { key, chain }
    }

    fn public(&self) -> &[u8] {
        self.key.public_key.public_key_bytes()
    }

    /// Answers the client's first frame. Gives the frame to send and what follows it.
    ///
    /// # Errors
    /// When the frame is no client hello with a 32-byte ephemeral key.
    pub fn answer_hello<R: CryptoRng>(
        &self,
        client_hello: &[u8],
        rng: &mut R,
    ) -> anyhow::Result<(Vec<u8>, AfterHello)> {
        let hello = HandshakeMessage::decode_from_slice(client_hello)
            .context("decoding the client hello")?
            .client_hello
            .into_option()
            .context("the first handshake message is no client hello")?;
        let client_ephemeral = hello.ephemeral.context("the client hello has no ephemeral key")?;
        ensure!(client_ephemeral.len() == 32, "the client's ephemeral key has not 32 bytes");
        let ephemeral = KeyPair::generate(rng);
        let mut pattern = NOISE_PATTERN_XX;
        if let (Some(encrypted_static), Some(payload)) = (&hello.r#static, &hello.payload) {
            match self.answer_ik(&client_ephemeral, encrypted_static, payload, &ephemeral) {
                Ok((answer, finished)) => return Ok((answer, AfterHello::Nothing(Box::new(finished)))),
                // It encrypted for a key that the server does not have.
                Err(failed) => log::debug!("a client tried IK: fell back to XX, as {failed:#}"),
            }
            pattern = NOISE_PATTERN_XXFALLBACK;
        }

        let mut noise = NoiseHandshake::new(pattern, &WA_CONN_HEADER)?;
        noise.authenticate(&client_ephemeral);
        noise.authenticate(ephemeral.public_key.public_key_bytes());
        noise.mix_shared_secret(ephemeral.private_key.serialize(), &client_ephemeral)?;
        let encrypted_static = noise.encrypt(self.public())?;
        noise.mix_shared_secret(self.key.private_key.serialize(), &client_ephemeral)?;
        let payload = noise.encrypt(&self.chain)?;

        let server_hello = HandshakeMessage {
            server_hello: MessageField::some(ServerHello {
                ephemeral: Some(ephemeral.public_key.public_key_bytes().to_vec()),
                r#static: Some(encrypted_static),
                payload: Some(payload),
                ..Default::default()
            }),
            ..Default::default()
        };
        let waiting = AwaitingFinish { noise, ephemeral };
        Ok((server_hello.encode_to_vec(), AfterHello::Finish(Box::new(waiting))))
    }

    /// The whole IK handshake: the client's payload came with its hello.
    fn answer_ik(
        &self,
        client_ephemeral: &[u8],
        encrypted_static: &[u8],
        payload: &[u8],
        ephemeral: &KeyPair,
    ) -> anyhow::Result<(Vec<u8>, Finished)> {
        let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER)?;
        noise.authenticate(self.public());
        noise.authenticate(client_ephemeral);
        noise.mix_shared_secret(self.key.private_key.serialize(), client_ephemeral)?;
        let client_static = noise.decrypt(encrypted_static).context("decrypting the client's key")?;
        noise.mix_shared_secret(self.key.private_key.serialize(), &client_static)?;
        let payload = noise.decrypt(payload).context("decrypting the client payload")?;

        noise.authenticate(ephemeral.public_key.public_key_bytes());
        noise.mix_shared_secret(ephemeral.private_key.serialize(), client_ephemeral)?;
        noise.mix_shared_secret(ephemeral.private_key.serialize(), &client_static)?;
        let server_hello = HandshakeMessage {
            server_hello: MessageField::some(ServerHello {
                ephemeral: Some(ephemeral.public_key.public_key_bytes().to_vec()),
                payload: Some(noise.encrypt(&self.chain)?),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok((server_hello.encode_to_vec(), finished(noise, client_static, &payload)?))
    }
}

/// What follows the server hello.
pub enum AfterHello {
    /// The client's finish: it has yet to prove who it is.
    Finish(Box<AwaitingFinish>),
    /// Nothing (IK): the channel is there.
    Nothing(Box<Finished>),
}

/// Between the server hello and the client's finish.
pub struct AwaitingFinish {
    noise: NoiseHandshake,
    ephemeral: KeyPair,
}

/// A client that proved to own its Noise key.
pub struct Finished {
    /// The client's static Noise key, by which a device is known.
    pub client_static: [u8; 32],
    pub payload: ClientPayload,
    pub receive: Receiver,
    pub send: Sender,
}

impl AwaitingFinish {
    /// Reads the client's second frame.
    ///
    /// # Errors
    /// When the frame is no client finish or does not decrypt.
    pub fn finish(mut self, client_finish: &[u8]) -> anyhow::Result<Finished> {
        let finish = HandshakeMessage::decode_from_slice(client_finish)
            .context("decoding the client finish")?
            .client_finish
            .into_option()
            .context("the second handshake message is no client finish")?;
        let (Some(encrypted_static), Some(payload)) = (finish.r#static, finish.payload) else {
            bail!("the client finish lacks its key or payload");
        };
        let client_static = self.noise.decrypt(&encrypted_static).context("decrypting the client's key")?;
        self.noise.mix_shared_secret(self.ephemeral.private_key.serialize(), &client_static)?;
        let payload = self.noise.decrypt(&payload).context("decrypting the client payload")?;
        finished(self.noise, client_static, &payload)
    }
}

fn finished(noise: NoiseHandshake, client_static: Vec<u8>, payload: &[u8]) -> anyhow::Result<Finished> {
    let (from_client, to_client) = noise.finish()?;
    Ok(Finished {
        client_static: client_static
            .try_into()
            .map_err(|_| anyhow::anyhow!("the client's Noise key has not 32 bytes"))?,
        payload: ClientPayload::decode_from_slice(payload).context("decoding the client payload")?,
        receive: Receiver { cipher: from_client, counter: 0 },
        send: Sender { cipher: to_client, counter: 0 },
    })
}

/// Decrypts what the client sends, frame after frame.
pub struct Receiver {
    cipher: NoiseCipher,
    counter: u32,
}

impl Receiver {
    /// # Errors
    /// When the frame was not encrypted by this client as the next one.
    pub fn open(&mut self, mut frame: bytes::BytesMut) -> anyhow::Result<bytes::BytesMut> {
        self.cipher.decrypt_in_place_with_counter(self.counter, &mut frame)?;
        self.counter += 1;
        Ok(frame)
    }
}

/// Encrypts what goes to the client, frame after frame.
pub struct Sender {
    cipher: NoiseCipher,
    counter: u32,
}

impl Sender {
    /// # Errors
    /// When the cipher refuses, which it does not for frames below 16 MiB.
    pub fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let sealed = self.cipher.encrypt_with_counter(self.counter, plaintext)?;
        self.counter += 1;
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_noise::{IkHandshakeState, IkServerHelloOutcome, XxFallbackHandshakeState, XxHandshakeState};

    fn payload() -> ClientPayload {
        ClientPayload { username: Some(6280000000001), device: Some(3), ..Default::default() }
    }

    fn exchange(client: (NoiseCipher, NoiseCipher), server: Finished) {
        let (write, read) = client;
        let Finished { mut receive, mut send, .. } = server;
        for counter in 0..3 {
            let up = write.encrypt_with_counter(counter, b"up").unwrap();
            assert_eq!(&receive.open(up.as_slice().into()).unwrap()[..], b"up");
            let mut down = send.seal(b"down").unwrap();
            read.decrypt_in_place_with_counter(counter, &mut down).unwrap();
            assert_eq!(down, b"down");
        }
    }

    // wacore checks the chain's signatures against WhatsApp's root unless the feature for test
    // beds is on, so these tests say what must happen in either build.
    #[test]
    fn wacores_xx_client_gets_a_channel_or_refuses_the_unknown_root() {
        let mut rng = rand::rng();
        let server = ServerKeys::new(&mut rng);
        let client_key = KeyPair::generate(&mut rng);
        let mut client =
            XxHandshakeState::new(client_key.clone(), payload().encode_to_vec(), &WA_CONN_HEADER).unwrap();
        let (hello, next) = server.answer_hello(&client.build_client_hello().unwrap(), &mut rng).unwrap();
        let AfterHello::Finish(waiting) = next else { panic!("the handshake is over too early") };
        match client.read_server_hello_and_build_client_finish(&hello) {
            Ok(finish) => {
                let finished = waiting.finish(&finish).unwrap();
                assert_eq!(finished.client_static, client_key.public_key.public_key_bytes());
                assert_eq!(finished.payload.username, Some(6280000000001));
                let outcome = client.finish().unwrap();
                assert_eq!(outcome.server_cert_chain.leaf_key, server.public());
                exchange((outcome.write_cipher, outcome.read_cipher), finished);
            }
            Err(refusal) => assert!(refusal.to_string().contains("ertificate"), "{refusal}"),
        }
    }

    /// A client that remembers this as the server's key.
    fn ik_client(key: KeyPair, server: &[u8]) -> IkHandshakeState {
        let payload = payload().encode_to_vec();
        IkHandshakeState::new(key, server.try_into().unwrap(), payload, &WA_CONN_HEADER).unwrap()
    }

    #[test]
    fn a_client_that_knows_the_server_s_key_needs_no_second_round() {
        let mut rng = rand::rng();
        let server = ServerKeys::new(&mut rng);
        let client_key = KeyPair::generate(&mut rng);
        let mut client = ik_client(client_key.clone(), server.public());
        let (hello, next) = server.answer_hello(&client.build_client_hello().unwrap(), &mut rng).unwrap();
        let AfterHello::Nothing(finished) = next else { panic!("the server fell back") };
        let IkServerHelloOutcome::Continue(outcome) = client.read_server_hello(&hello).unwrap() else {
            panic!("the client fell back");
        };
        assert_eq!(finished.client_static, client_key.public_key.public_key_bytes());
        assert_eq!(finished.payload.username, Some(6280000000001));
        exchange((outcome.write_cipher, outcome.read_cipher), *finished);
    }

    #[test]
    fn a_client_that_knows_another_key_is_sent_back_to_xx() {
        let mut rng = rand::rng();
        let (server, before) = (ServerKeys::new(&mut rng), ServerKeys::new(&mut rng));
        let mut client = ik_client(KeyPair::generate(&mut rng), before.public());
        let (hello, next) = server.answer_hello(&client.build_client_hello().unwrap(), &mut rng).unwrap();
        let AfterHello::Finish(waiting) = next else { panic!("the server took what it cannot read") };
        let IkServerHelloOutcome::Fallback(inputs) = client.read_server_hello(&hello).unwrap() else {
            panic!("the client took the answer for an accepted IK");
        };
        let mut fallback = XxFallbackHandshakeState::from_ik_failure(*inputs, &WA_CONN_HEADER).unwrap();
        match fallback.build_client_finish() {
            Ok(finish) => {
                let finished = waiting.finish(&finish).unwrap();
                let outcome = fallback.finish().unwrap();
                exchange((outcome.write_cipher, outcome.read_cipher), finished);
            }
            Err(refusal) => assert!(refusal.to_string().contains("ertificate"), "{refusal}"),
        }
    }

    #[test]
    fn nonsense_is_refused_without_a_panic() {
        let mut rng = rand::rng();
        let server = ServerKeys::new(&mut rng);
        assert!(server.answer_hello(b"", &mut rng).is_err());
        assert!(server.answer_hello(&[0xff; 40], &mut rng).is_err());
    }
}

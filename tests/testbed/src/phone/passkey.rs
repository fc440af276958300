//! A passkey of an account: the authenticator that signs with it, in software, and the server's look at
//! what it signed (WebAuthn Level 3, §7.2, as far as WhatsApp's gate on linking needs it).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The relying party that WhatsApp's passkeys belong to.
pub const RP_ID: &str = "whatsapp.com";

/// The only page whose signatures count.
pub const ORIGIN: &str = "https://web.whatsapp.com";

/// Flags of authenticator data (WebAuthn §6.1): user present, user verified, backup eligible, backed up.
pub const PRESENT: u8 = 0x01;
pub const VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;

/// Bytes of authenticator data without extensions: hash of the relying party's id, flags, counter.
const AUTHENTICATOR_DATA: usize = 37;

/// How an assertion comes about, and how it may be wrong.
#[derive(Debug, Clone)]
pub struct Ceremony {
    pub origin: String,
    pub rp_id: String,
    /// `type` of the client data.
    pub kind: String,
    pub flags: u8,
    /// The signature is one over something else.
    pub forged: bool,
}

impl Default for Ceremony {
    /// In WhatsApp Web's page, with a synced passkey and the screen lock.
    fn default() -> Self {
        Ceremony {
            origin: ORIGIN.into(),
            rp_id: RP_ID.into(),
            kind: "webauthn.get".into(),
            flags: PRESENT | VERIFIED | BACKUP_ELIGIBLE | BACKED_UP,
            forged: false,
        }
    }
}

/// A passkey with its private key.
pub struct Passkey {
    credential: [u8; 32],
    pkcs8: Vec<u8>,
    key: EcdsaKeyPair,
}

impl Passkey {
    /// A fresh one. Its key comes from the operating system: no seed replays it.
    pub fn generate() -> Passkey {
        let rng = SystemRandom::new();
        let mut credential = [0; 32];
        rng.fill(&mut credential).expect("the system gives randomness");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng)
            .expect("the system gives randomness")
            .as_ref()
            .to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &rng)
            .expect("a key that was just generated is one");
        Passkey { credential, pkcs8, key }
    }

    pub fn credential(&self) -> &[u8] {
        &self.credential
    }

    /// The private key in PKCS #8, for the authenticator of a browser.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What the browser gives for `challenge` (base64url), reduced to the fields that WhatsApp takes.
    pub fn assertion(&self, challenge: &str, ceremony: &Ceremony) -> String {
        let client_data = json!({
            "type": ceremony.kind,
            "challenge": challenge,
            "origin": ceremony.origin,
            "crossOrigin": false,
        })
        .to_string();
        let mut data = Sha256::digest(ceremony.rp_id.as_bytes()).to_vec();
        data.push(ceremony.flags);
        // Synced passkeys do not count.
        data.extend([0; 4]);
        let mut signed = signed_over(&data, client_data.as_bytes());
        if ceremony.forged {
            signed.push(0);
        }
        let signature = self.key.sign(&SystemRandom::new(), &signed).expect("the system gives randomness");
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "id": text(&self.credential),
            "rawId": text(&self.credential),
            "type": "public-key",
            "response": {
                "clientDataJSON": text(client_data.as_bytes()),
                "authenticatorData": text(&data),
                "signature": text(signature.as_ref()),
                "userHandle": text(b"warga"),
            },
        })
        .to_string()
    }

    /// What the server makes of an assertion for `challenge` (base64url) by this passkey.
    ///
    /// # Errors
    /// The first of WhatsApp's checks that it fails.
    pub fn verify(&self, challenge: &str, credential: &[u8], assertion: &[u8]) -> Result<(), AssertionError> {
        let assertion: Assertion =
            serde_json::from_slice(assertion).map_err(|error| AssertionError::Shape(error.to_string()))?;
        let bytes = |text: &str, field| {
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| AssertionError::NotBase64Url(field))
        };
        if assertion.kind != "public-key" {
            return Err(AssertionError::Type(assertion.kind));
        }
        let raw_id = bytes(&assertion.raw_id, "rawId")?;
        if raw_id != credential || bytes(&assertion.id, "id")? != raw_id || raw_id != self.credential {
            return Err(AssertionError::Credential);
        }
        let response = assertion.response;
        let client_data = bytes(&response.client_data, "clientDataJSON")?;
        let data = bytes(&response.authenticator_data, "authenticatorData")?;
        let signature = bytes(&response.signature, "signature")?;
        if let Some(handle) = &response.user_handle {
            bytes(handle, "userHandle")?;
        }

        let client: ClientData = serde_json::from_slice(&client_data)
            .map_err(|error| AssertionError::ClientData(error.to_string()))?;
        if client.kind != "webauthn.get" {
            return Err(AssertionError::Ceremony(client.kind));
        }
        if client.challenge != challenge {
            return Err(AssertionError::Challenge);
        }
        if client.origin != ORIGIN {
            return Err(AssertionError::Origin(client.origin));
        }
        if data.len() < AUTHENTICATOR_DATA {
            return Err(AssertionError::Length(data.len()));
        }
        if data[..32] != Sha256::digest(RP_ID.as_bytes())[..] {
            return Err(AssertionError::RelyingParty);
        }
        for (flag, what) in [(PRESENT, "present"), (VERIFIED, "verified")] {
            if data[32] & flag == 0 {
                return Err(AssertionError::Flag(what));
            }
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key().as_ref());
        public.verify(&signed_over(&data, &client_data), &signature).map_err(|_| AssertionError::Signature)
    }
}

/// What the key signs: authenticator data, then the hash of the client data.
fn signed_over(authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [authenticator_data, &Sha256::digest(client_data)].concat()
}

/// Why the server refuses an assertion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    #[error("the assertion is no JSON with the fields of a public key credential: {0}")]
    Shape(String),
    #[error("{0} is not base64url without padding")]
    NotBase64Url(&'static str),
    #[error("the credential's type is {0:?} and not public-key")]
    Type(String),
    #[error("the account has no passkey with this id")]
    Credential,
    #[error("the client data is not what a browser writes: {0}")]
    ClientData(String),
    #[error("the client data is of {0:?} and not of webauthn.get")]
    Ceremony(String),
    #[error("the challenge is another one than was given")]
    Challenge,
    #[error("it was signed in {0:?}, which is not WhatsApp Web's page")]
    Origin(String),
    #[error("authenticator data of {0} bytes is too short")]
    Length(usize),
    #[error("it was signed for another relying party")]
    RelyingParty,
    #[error("the person was not {0}")]
    Flag(&'static str),
    #[error("the signature is not the passkey's")]
    Signature,
}

#[derive(Deserialize)]
struct Assertion {
    id: String,
    #[serde(rename = "rawId")]
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    response: AssertionResponse,
}

#[derive(Deserialize)]
struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    #[serde(rename = "authenticatorData")]
    authenticator_data: String,
    signature: String,
    #[serde(rename = "userHandle")]
    user_handle: Option<String>,
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
}

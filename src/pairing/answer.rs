//! What the operator pastes: the JSON of a WebAuthn assertion, in one line or in many, and the checks that
//! show before WhatsApp does what is wrong with it.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::request::{PasskeyRequest, decode};

/// Characters of an answer: one has about 1,000, and a passkey's id at most 1,023 bytes.
const MOST_CHARACTERS: usize = 16 * 1024;

/// Only what was signed in this page counts.
pub const ORIGIN: &str = "https://web.whatsapp.com";

/// Authenticator data (WebAuthn §6.1): hash of the relying party's id, flags, counter; and the flags for
/// "somebody was there" and "it was the owner".
const AUTHENTICATOR_DATA: usize = 37;
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;

/// A name that only the line for the browser has.
const OF_THE_SCRIPT: &str = "parseRequestOptionsFromJSON";

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("no passkey is asked for now")]
    NotAsked,
    #[error("this does not begin with a brace")]
    NotAnAnswer,
    #[error("this is the line for the browser, not its answer")]
    TheScript,
    #[error("the answer ends too soon")]
    Incomplete,
    #[error("the answer has more than {MOST_CHARACTERS} characters")]
    TooLong,
    #[error("the answer is no JSON: {0}")]
    NotJson(String),
    #[error("the answer has no {0}")]
    Missing(&'static str),
    #[error("{0} is not base64url")]
    NotBase64(&'static str),
    #[error("the answer is of a {0:?}, not of a passkey")]
    Type(String),
    #[error("id and rawId differ")]
    Ids,
    #[error("WhatsApp did not ask for this passkey")]
    OtherPasskey,
    #[error("clientDataJSON is not what a browser writes: {0}")]
    ClientData(String),
    #[error("the passkey was used for {0:?}")]
    OtherCeremony(String),
    #[error("the answer belongs to another request")]
    OtherChallenge,
    #[error("the passkey was used at {0:?}")]
    OtherOrigin(String),
    #[error("authenticatorData has {0} bytes")]
    AuthenticatorData(usize),
    #[error("the passkey belongs to another site than WhatsApp")]
    OtherSite,
    #[error("the owner was not asked for finger, face or PIN")]
    NotVerified,
}

/// An answer that WhatsApp can be given.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    pub credential_id: Vec<u8>,
    /// The assertion, reduced to the fields that WhatsApp takes.
    pub json: Vec<u8>,
}

impl std::fmt::Debug for Proof {
    /// It opens an account for as long as its challenge lives.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proof({} bytes)", self.json.len())
    }
}

/// Gathers pasted lines until they are a whole answer.
///
/// White space is nothing: terminals, mail and chat break long lines anywhere, and no field has any.
#[derive(Debug, Default)]
pub struct Paste {
    text: String,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Paste {
    /// Takes a line, and gives the text of the answer if it is whole with that.
    ///
    /// # Errors
    /// What cannot be the beginning of an answer, or is too much. Nothing of it is kept then.
    pub fn line(&mut self, line: &str) -> Result<Option<String>, AnswerError> {
        if line.contains(OF_THE_SCRIPT) {
            *self = Self::default();
            return Err(AnswerError::TheScript);
        }
        let mut line: String = line.chars().filter_map(meant).collect();
        if begins_anew(&line) {
            // Who sees that something is missing pastes it all again.
            *self = Self::default();
        }
        if self.text.is_empty() {
            let Some(start) = line.find('{') else {
                return if line.is_empty() { Ok(None) } else { Err(AnswerError::NotAnAnswer) };
            };
            line.drain(..start);
        }
        for c in line.chars() {
            self.text.push(c);
            if self.text.len() > MOST_CHARACTERS {
                *self = Self::default();
                return Err(AnswerError::TooLong);
            }
            if self.ends_with(c) {
                return Ok(Some(std::mem::take(self).text));
            }
        }
        Ok(None)
    }

    /// Whether an answer has begun that is not whole.
    pub fn is_begun(&self) -> bool {
        !self.text.is_empty()
    }

    fn ends_with(&mut self, c: char) -> bool {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if self.in_string => self.escaped = true,
            '"' => self.in_string = !self.in_string,
            '{' if !self.in_string => self.depth += 1,
            '}' if !self.in_string => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// The character that was meant; `None`: nothing was.
fn meant(c: char) -> Option<char> {
    match c {
        // What word processors and chats make of quotation marks.
        '“' | '”' | '„' | '″' => Some('"'),
        // Invisible: zero width, byte order mark.
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => None,
        c if c.is_whitespace() || c.is_control() => None,
        c => Some(c),
    }
}

/// Whether a line without its white space is the first of an answer as the browser writes it.
fn begins_anew(line: &str) -> bool {
    line == "{" || line.starts_with("{\"id\"")
}

/// Checks a whole answer against what was asked.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &str, request: &PasskeyRequest) -> Result<Proof, AnswerError> {
    let answer: Value =
        serde_json::from_str(text).map_err(|error| AnswerError::NotJson(error.to_string()))?;
    let text = |value: &Value, field| value.as_str().map(str::to_owned).ok_or(AnswerError::Missing(field));
    let bytes = |value: &Value, field| decode(&text(value, field)?).ok_or(AnswerError::NotBase64(field));

    let raw_id = bytes(&answer["rawId"], "rawId")?;
    if raw_id.is_empty() {
        return Err(AnswerError::Missing("rawId"));
    }
    if !answer["id"].is_null() && bytes(&answer["id"], "id")? != raw_id {
        return Err(AnswerError::Ids);
    }
    match text(&answer["type"], "type")? {
        kind if kind == "public-key" => {}
        kind => return Err(AnswerError::Type(kind)),
    }
    if !request.allowed.is_empty() && !request.allowed.contains(&raw_id) {
        return Err(AnswerError::OtherPasskey);
    }
    let response = &answer["response"];
    let client_data = bytes(&response["clientDataJSON"], "clientDataJSON")?;
    let data = bytes(&response["authenticatorData"], "authenticatorData")?;
    let signature = bytes(&response["signature"], "signature")?;
    if signature.is_empty() {
        return Err(AnswerError::Missing("signature"));
    }
    let user_handle = match &response["userHandle"] {
        Value::Null => None,
        handle => Some(bytes(handle, "userHandle")?),
    };

    check_client_data(&client_data, request)?;
    if data.len() < AUTHENTICATOR_DATA {
        return Err(AnswerError::AuthenticatorData(data.len()));
    }
    if data[..32] != Sha256::digest(request.rp_id.as_bytes())[..] {
        return Err(AnswerError::OtherSite);
    }
    if data[32] & (PRESENT | VERIFIED) != PRESENT | VERIFIED {
        return Err(AnswerError::NotVerified);
    }
    let id = encode(&raw_id);
    let reduced = json!({
        "id": id,
        "rawId": id,
        "type": "public-key",
        "response": {
            "clientDataJSON": encode(&client_data),
            "authenticatorData": encode(&data),
            "signature": encode(&signature),
            "userHandle": user_handle.as_deref().map(encode),
        },
    });
    Ok(Proof { credential_id: raw_id, json: reduced.to_string().into_bytes() })
}

fn check_client_data(bytes: &[u8], request: &PasskeyRequest) -> Result<(), AnswerError> {
    let data: Value =
        serde_json::from_slice(bytes).map_err(|error| AnswerError::ClientData(error.to_string()))?;
    let field = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    if field("type") != "webauthn.get" {
        return Err(AnswerError::OtherCeremony(field("type")));
    }
    if decode(&field("challenge")).as_ref() != Some(&request.challenge) {
        return Err(AnswerError::OtherChallenge);
    }
    if field("origin") != ORIGIN {
        return Err(AnswerError::OtherOrigin(field("origin")));
    }
    Ok(())
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::request::tests::OPTIONS;
    use super::*;
    use proptest::prelude::*;

    /// The parts of an answer to [`OPTIONS`], to be spoiled one by one.
    struct Parts {
        client: Value,
        data: Vec<u8>,
        answer: Value,
    }

    impl Parts {
        fn right() -> Self {
            let mut data = Sha256::digest(b"whatsapp.com").to_vec();
            data.extend([0x1d, 0, 0, 0, 0]);
            let client = json!({
                "type": "webauthn.get", "challenge": "Y2hhbGxlbmdl", "origin": ORIGIN, "crossOrigin": false,
            });
            let answer = json!({
                "id": "cGFzc2tleQ", "rawId": "cGFzc2tleQ", "type": "public-key",
                "response": { "signature": "MEUCIQ", "userHandle": null },
            });
            Self { client, data, answer }
        }

        fn text(&self) -> String {
            let mut answer = self.answer.clone();
            answer["response"]["clientDataJSON"] = encode(self.client.to_string().as_bytes()).into();
            answer["response"]["authenticatorData"] = encode(&self.data).into();
            serde_json::to_string_pretty(&answer).unwrap()
        }

        fn spoiled(spoil: impl FnOnce(&mut Self)) -> Result<Proof, AnswerError> {
            let mut parts = Self::right();
            spoil(&mut parts);
            check(&parts.text(), &PasskeyRequest::parse(OPTIONS).unwrap())
        }
    }

    pub fn right() -> String {
        Parts::right().text()
    }

    /// What a paste of these lines comes to.
    fn pasted(text: &str) -> Result<Option<String>, AnswerError> {
        let mut paste = Paste::default();
        for line in text.split('\n') {
            if let Some(whole) = paste.line(line)? {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_right_answer_is_reduced_to_what_whatsapp_takes() {
        let proof = Parts::spoiled(|parts| {
            parts.answer["authenticatorAttachment"] = "platform".into();
            parts.answer["clientExtensionResults"] = json!({ "uvm": [[2, 4, 2]] });
            parts.answer["response"]["userHandle"] = "d2FyZ2E=".into();
        })
        .unwrap();
        assert_eq!(proof.credential_id, b"passkey");
        let reduced: Value = serde_json::from_slice(&proof.json).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&reduced), ["id", "rawId", "response", "type"]);
        let fields = ["authenticatorData", "clientDataJSON", "signature", "userHandle"];
        assert_eq!(keys(&reduced["response"]), fields);
        assert_eq!(reduced["response"]["userHandle"], "d2FyZ2E");
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_an_answer_is_named() {
        type Spoil = fn(&mut Parts);
        let cases: [(Spoil, AnswerError); 16] = [
            (|parts| parts.answer["rawId"] = Value::Null, AnswerError::Missing("rawId")),
            (|parts| parts.answer["rawId"] = "".into(), AnswerError::Missing("rawId")),
            (|parts| parts.answer["rawId"] = "a b".into(), AnswerError::NotBase64("rawId")),
            (|parts| parts.answer["id"] = "b3RoZXI".into(), AnswerError::Ids),
            (|parts| parts.answer["type"] = "password".into(), AnswerError::Type("password".into())),
            (|parts| parts.answer["response"]["signature"] = "".into(), AnswerError::Missing("signature")),
            (|parts| parts.answer["response"] = Value::Null, AnswerError::Missing("signature")),
            (
                |parts| parts.client["type"] = "webauthn.create".into(),
                AnswerError::OtherCeremony("webauthn.create".into()),
            ),
            (|parts| parts.client["challenge"] = "b3RoZXI".into(), AnswerError::OtherChallenge),
            (
                |parts| parts.client["origin"] = "https://example.com".into(),
                AnswerError::OtherOrigin("https://example.com".into()),
            ),
            (|parts| parts.data.truncate(36), AnswerError::AuthenticatorData(36)),
            (|parts| parts.data[0] ^= 1, AnswerError::OtherSite),
            (|parts| parts.data[32] = PRESENT, AnswerError::NotVerified),
            (|parts| parts.data[32] = VERIFIED, AnswerError::NotVerified),
            (|parts| parts.client["type"] = 7.into(), AnswerError::OtherCeremony(String::new())),
            (|parts| parts.answer["response"]["userHandle"] = 7.into(), AnswerError::Missing("userHandle")),
        ];
        for (place, (spoil, error)) in cases.into_iter().enumerate() {
            assert_eq!(Parts::spoiled(spoil), Err(error), "case {place}");
        }
        assert!(Parts::spoiled(|_| {}).is_ok());
        let only_one =
            r#"{"challenge":"Y2hhbGxlbmdl","allowCredentials":[{"id":"b3RoZXI","type":"public-key"}]}"#;
        let request = PasskeyRequest::parse(only_one).unwrap();
        assert_eq!(check(&right(), &request), Err(AnswerError::OtherPasskey));
    }

    #[test]
    fn an_answer_is_put_together_from_any_number_of_lines() {
        let bare: String = right().chars().filter(|c| !c.is_whitespace()).collect();
        let broken: String = bare
            .as_bytes()
            .chunks(70)
            .fold(String::new(), |text, line| text + std::str::from_utf8(line).unwrap() + "\r\n\n");
        let quoted = bare.replacen('"', "“", 1).replacen('"', "”", 1);
        for text in [
            right(),
            bare.clone(),
            broken,
            format!("Jawaban: {quoted}"),
            format!("\u{feff}\n\n{bare} dan lain-lain"),
            // The first paste was cut off.
            format!("{}\n{bare}", &bare[..200]),
            format!("{}\n{}", &bare[..200], right()),
        ] {
            assert_eq!(pasted(&text), Ok(Some(bare.clone())), "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_from_one_that_is_not_whole() {
        assert_eq!(pasted(""), Ok(None));
        assert_eq!(pasted("ya"), Err(AnswerError::NotAnAnswer));
        assert_eq!(
            pasted("(()=>{PublicKeyCredential.parseRequestOptionsFromJSON({})"),
            Err(AnswerError::TheScript)
        );
        assert_eq!(pasted(&"{".repeat(MOST_CHARACTERS + 1)), Err(AnswerError::TooLong));
        let mut paste = Paste::default();
        assert_eq!(paste.line(&right()[..100].replace('\n', "")), Ok(None));
        assert!(paste.is_begun());
    }

    #[test]
    fn braces_and_escapes_within_a_text_do_not_end_an_answer() {
        assert_eq!(pasted(r#"{"a":"}\"}","b":{}}"#), Ok(Some(r#"{"a":"}\"}","b":{}}"#.to_owned())));
    }

    proptest! {
        #[test]
        fn no_paste_and_no_answer_panics(text in ".{0,300}") {
            let request = PasskeyRequest::parse(OPTIONS).unwrap();
            let _ = pasted(&text);
            prop_assert!(check(&text, &request).is_err());
        }

        #[test]
        fn where_lines_are_broken_makes_no_difference(width in 2usize..200) {
            let bare: String = right().chars().filter(|c| !c.is_whitespace()).collect();
            let lines: Vec<&str> =
                bare.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(pasted(&lines.join("\n")), Ok(Some(bare.clone())));
        }
    }
}

//! What WhatsApp asks a passkey to sign: `PublicKeyCredentialRequestOptions` as JSON (WebAuthn Level 3,
//! §5.1.8).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Bytes of the options: ten times what was seen, and small enough to be pasted.
const MOST_BYTES: usize = 4096;

/// Relying party of WhatsApp's passkeys, should the options name none.
const RP_ID: &str = "whatsapp.com";

/// How long a challenge is good for, should the options say nothing, and at most.
const LIFE: Duration = Duration::from_secs(600);

/// Why a request cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("WhatsApp's passkey request has {0} bytes, more than {MOST_BYTES}")]
    TooLong(usize),
    #[error("WhatsApp's passkey request is no JSON object: {0}")]
    NotJson(String),
    #[error("WhatsApp's passkey request has no {0} that can be read")]
    Field(&'static str),
}

/// One request for a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyRequest {
    /// The options in ASCII, fit for a terminal and for JavaScript.
    json: String,
    pub(super) challenge: Vec<u8>,
    pub(super) rp_id: String,
    /// Ids of the passkeys that may sign; empty: any of the account's.
    pub(super) allowed: Vec<Vec<u8>>,
    /// How long WhatsApp waits for the answer.
    pub timeout: Duration,
}

impl PasskeyRequest {
    /// # Errors
    /// It is too long, no JSON, or lacks what cannot be done without.
    pub fn parse(json: &str) -> Result<Self, RequestError> {
        if json.len() > MOST_BYTES {
            return Err(RequestError::TooLong(json.len()));
        }
        let options: Value =
            serde_json::from_str(json).map_err(|error| RequestError::NotJson(error.to_string()))?;
        if !options.is_object() {
            return Err(RequestError::NotJson("another kind of value".into()));
        }
        let challenge = options["challenge"].as_str().and_then(decode).filter(|bytes| !bytes.is_empty());
        let rp_id = match &options["rpId"] {
            Value::Null => RP_ID.to_owned(),
            rp_id => rp_id.as_str().ok_or(RequestError::Field("rpId"))?.to_owned(),
        };
        let allowed = match &options["allowCredentials"] {
            Value::Null => Vec::new(),
            list => {
                let ids = list.as_array().ok_or(RequestError::Field("allowCredentials"))?.iter();
                ids.map(|entry| entry["id"].as_str().and_then(decode))
                    .collect::<Option<_>>()
                    .ok_or(RequestError::Field("allowCredentials"))?
            }
        };
        let timeout = options["timeout"].as_u64().map_or(LIFE, Duration::from_millis);
        Ok(Self {
            json: ascii(&options),
            challenge: challenge.ok_or(RequestError::Field("challenge"))?,
            rp_id,
            allowed,
            timeout: timeout.clamp(Duration::from_secs(1), LIFE),
        })
    }

    /// The options, in ASCII on one line.
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// A value on one line, with everything but printable ASCII escaped: it goes to a terminal, which must not
/// take anything of it for a command.
pub(super) fn ascii(value: &Value) -> String {
    let mut ascii = String::new();
    for c in value.to_string().chars() {
        if matches!(c, ' '..='~') {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// Decodes base64url, also what has padding or was written in the other alphabet.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As they were seen.
    pub const OPTIONS: &str = r#"{"challenge":"Y2hhbGxlbmdl","timeout":600000,"rpId":"whatsapp.com","allowCredentials":[],"userVerification":"required","extensions":{"uvm":true}}"#;

    #[test]
    fn options_are_read_as_whatsapp_writes_them() {
        let request = PasskeyRequest::parse(OPTIONS).unwrap();
        assert_eq!((&request.challenge[..], request.rp_id.as_str()), (&b"challenge"[..], "whatsapp.com"));
        assert_eq!(request.timeout, Duration::from_secs(600));
        assert!(request.allowed.is_empty());
        let value: Value = serde_json::from_str(request.json()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(OPTIONS).unwrap());
    }

    #[test]
    fn options_that_name_little_get_whatsapps_usual_values() {
        let request = PasskeyRequest::parse(r#"{"challenge":"_-8="}"#).unwrap();
        assert_eq!((request.rp_id.as_str(), request.timeout), (RP_ID, LIFE));
        let longer = PasskeyRequest::parse(r#"{"challenge":"AA","timeout":86400000}"#).unwrap();
        assert_eq!(longer.timeout, LIFE);
    }

    #[test]
    fn options_that_cannot_be_answered_are_refused() {
        for (json, error) in [
            ("{}", RequestError::Field("challenge")),
            (r#"{"challenge":""}"#, RequestError::Field("challenge")),
            (r#"{"challenge":"!"}"#, RequestError::Field("challenge")),
            (r#"{"challenge":"AA","rpId":7}"#, RequestError::Field("rpId")),
            (r#"{"challenge":"AA","allowCredentials":[{}]}"#, RequestError::Field("allowCredentials")),
            ("[]", RequestError::NotJson("another kind of value".into())),
        ] {
            assert_eq!(PasskeyRequest::parse(json), Err(error), "{json}");
        }
        assert!(matches!(PasskeyRequest::parse("x"), Err(RequestError::NotJson(_))));
        let long = " ".repeat(MOST_BYTES + 1);
        assert_eq!(PasskeyRequest::parse(&long), Err(RequestError::TooLong(MOST_BYTES + 1)));
    }

    #[test]
    fn nothing_in_the_options_is_a_command_to_the_terminal() {
        let json = r#"{"challenge":"AA","rpId":"a\u001b[2Jb\u009bK😀"}"#;
        let request = PasskeyRequest::parse(json).unwrap();
        assert!(request.json().bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", request.json());
        assert_eq!(request.rp_id, "a\u{1b}[2Jb\u{9b}K😀");
        let value: Value = serde_json::from_str(request.json()).unwrap();
        assert_eq!(value["rpId"], request.rp_id.as_str());
    }

    proptest::proptest! {
        #[test]
        fn no_options_panic(json in ".{0,200}") {
            let _ = PasskeyRequest::parse(&json);
        }
    }
}

//! What the desk remembers of a conversation between two messages.

use crate::personal::Written;
use crate::registration::{Place, Provider};

/// A conversation is forgotten this long after its last message, in seconds (`registration/RULES.md` 8.2): a place
/// chosen in the morning must not catch data meant for another one in the evening.
pub const TTL_SECONDS: i64 = 30 * 60;

/// Stored by the ledger as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Idle,
    /// Asked for the provider; `waiting` is data sent before any place was chosen.
    ChoosingProvider { waiting: Vec<Written> },
    /// Asked for a place of this provider.
    ChoosingPlace { provider: Provider, waiting: Vec<Written> },
    /// Data goes to this place.
    Ready { place: Place },
}

impl State {
    /// The state out of the ledger's JSON. What this version does not understand is forgotten: the
    /// customer then chooses a place again.
    pub fn restore(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// The JSON for the ledger.
    pub fn to_json(&self) -> String {
        // Serialising text and unit variants into memory cannot fail; Idle is the safe reading.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Data that still waits for a place.
    pub fn waiting(&self) -> &[Written] {
        match self {
            Self::ChoosingProvider { waiting } | Self::ChoosingPlace { waiting, .. } => waiting,
            Self::Idle | Self::Ready { .. } => &[],
        }
    }

    /// The provider chosen so far.
    pub fn provider(&self) -> Option<Provider> {
        match self {
            Self::ChoosingPlace { provider, .. } => Some(*provider),
            Self::Ready { place } => Some(place.provider),
            Self::Idle | Self::ChoosingProvider { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_its_way_through_the_ledger() {
        for state in [
            State::Idle,
            State::ChoosingProvider { waiting: vec!["Ani\n\"5049\"".into()] },
            State::ChoosingPlace { provider: Provider::PasarJaya, waiting: vec![] },
            State::Ready { place: Provider::DharmaJaya.place(2).unwrap() },
        ] {
            assert_eq!(State::restore(&state.to_json()), state);
        }
    }

    #[test]
    fn a_state_of_another_version_is_forgotten_and_not_an_error() {
        for json in ["", "null", "{", r#"{"editing":{"row":1}}"#, r#"{"ready":{"place":"Cakung"}}"#] {
            assert_eq!(State::restore(json), State::Idle);
        }
    }

    #[test]
    fn waiting_data_is_not_printed() {
        let state = State::ChoosingProvider { waiting: vec!["3171010101900000".into()] };
        assert!(!format!("{state:?}").contains("3171"));
    }
}

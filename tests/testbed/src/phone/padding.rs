//! Padding of a message before Signal encryption: n bytes of value n are appended.

use rand::{Rng, RngExt};

/// Longest padding in bytes; the shortest is one byte, so that the last byte always tells.
pub const MAX_PADDING: u8 = 16;

/// The plaintext ends without 1 to [`MAX_PADDING`] equal bytes that name their own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext does not end in n bytes of value n, n in 1..=16: the sender padded it wrongly")]
pub struct PaddingError;

/// Appends 1 to [`MAX_PADDING`] bytes, as many as `rng` says.
pub fn pad(mut plaintext: Vec<u8>, rng: &mut impl Rng) -> Vec<u8> {
    let length = rng.random_range(1..=MAX_PADDING);
    plaintext.resize(plaintext.len() + usize::from(length), length);
    plaintext
}

/// The plaintext without its padding.
pub fn unpad(padded: &[u8]) -> Result<&[u8], PaddingError> {
    let length = *padded.last().ok_or(PaddingError)?;
    let end = padded.len().checked_sub(usize::from(length)).ok_or(PaddingError)?;
    let (plaintext, padding) = padded.split_at(end);
    if !(1..=MAX_PADDING).contains(&length) || padding.iter().any(|&byte| byte != length) {
        return Err(PaddingError);
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use wacore::messages::MessageUtils;

    use super::*;

    /// The padding version of `<enc v="2">`, the only one in use.
    const ENC_VERSION: u8 = 2;

    proptest! {
        #[test]
        fn padding_comes_off_again_here_and_in_the_client(plaintext: Vec<u8>, seed: u64) {
            let padded = pad(plaintext.clone(), &mut StdRng::seed_from_u64(seed));
            prop_assert!((1..=16).contains(&(padded.len() - plaintext.len())));
            prop_assert_eq!(unpad(&padded).unwrap(), &plaintext[..]);
            prop_assert_eq!(MessageUtils::unpad_message_ref(&padded, ENC_VERSION).unwrap(), &plaintext[..]);
        }

        #[test]
        fn what_the_client_pads_is_unpadded(plaintext: Vec<u8>) {
            let padded = MessageUtils::pad_message_v2(plaintext.clone());
            prop_assert_eq!(unpad(&padded).unwrap(), &plaintext[..]);
        }

        #[test]
        fn any_bytes_are_unpadded_or_refused_but_never_panic(bytes: Vec<u8>) {
            if let Ok(plaintext) = unpad(&bytes) {
                let length = bytes.len() - plaintext.len();
                prop_assert!((1..=16).contains(&length));
                prop_assert!(bytes[plaintext.len()..].iter().all(|&byte| usize::from(byte) == length));
            }
        }
    }

    #[test]
    fn empty_zero_too_long_and_uneven_padding_are_refused() {
        for bytes in [&[][..], &[0], &[5, 5], &[17; 17], &[1, 2, 3, 3]] {
            assert_eq!(unpad(bytes), Err(PaddingError), "{bytes:?}");
        }
    }
}

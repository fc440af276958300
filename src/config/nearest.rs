//! "Did you mean …?": the nearest valid word, and which words may be repeated in an error.

/// How far a word may be from the suggested one: one typing slip (insertion, deletion, exchange,
/// swap) for each this many letters, and at least one. Farther suggestions are only confusing.
const LETTERS_PER_SLIP: usize = 4;

/// The longest word that an error repeats, in characters; no option or key is half as long.
const LONGEST_REPEATED: usize = 48;

/// A word with this many digits may be a personal number and is not repeated.
const MOST_DIGITS_REPEATED: usize = 5;

/// The candidate that `word` was most likely meant to be, if any is near enough.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let slips = strsim::osa_distance(&word, &candidate.replace('-', "_"));
            (slips, candidate)
        })
        .filter(|(slips, candidate)| *slips <= (candidate.chars().count() / LETTERS_PER_SLIP).max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `word` as an error may repeat it. What could be a secret, a personal number or a terminal
/// control sequence is replaced by a description.
pub fn repeated(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let digits = word.chars().filter(char::is_ascii_digit).count();
    if plain && !word.is_empty() && word.len() <= LONGEST_REPEATED && digits <= MOST_DIGITS_REPEATED {
        word.to_owned()
    } else {
        "(a word that is not repeated here)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_and_a_stranger_finds_none() {
        let options = ["--config", "--data", "--phone"];
        assert_eq!(nearest("--confg", options), Some("--config"));
        assert_eq!(nearest("--DATA", options), Some("--data"));
        assert_eq!(nearest("--verbose", options), None);
        assert_eq!(nearest("per-chat", ["per_chat"]), Some("per_chat"));
    }

    #[test]
    fn numbers_secrets_and_control_characters_are_not_repeated() {
        assert_eq!(repeated("--confg"), "--confg");
        for word in ["6280000000001", "a\x1b[2J", "", "x".repeat(49).as_str()] {
            assert_eq!(repeated(word), "(a word that is not repeated here)");
        }
    }
}

//! What is promised of every number of a registered person; the fuzz target and the property tests check it.

/// Whether the digits stand in the text: as one group, or as groups with a single space, dot or dash between each.
pub fn stands_in(text: &str, number: &str) -> bool {
    let begins = |from: &str| {
        let mut rest = from;
        number.chars().enumerate().all(|(at, digit)| {
            if at > 0
                && let Some(behind) = rest.strip_prefix([' ', '.', '-'])
            {
                rest = behind;
            }
            rest.strip_prefix(digit).inspect(|behind| rest = behind).is_some()
        })
    };
    text.char_indices().any(|(at, _)| begins(&text[at..]))
}

//! The number of a subsidy card (RULES.md 5.2).

use std::ops::RangeInclusive;

use super::fault::{Fault, Field};

/// Every subsidy card starts with these digits.
pub const PREFIX: &str = "504948";

/// Length, of which `allowed` tells the bounds, and prefix of a card number.
pub fn check_number(digits: &str, allowed: &RangeInclusive<usize>) -> Result<(), Fault> {
    match digits.len() {
        0 => Err(Fault::Missing(Field::NoKjp)),
        length if !allowed.contains(&length) => {
            let (least, most) = (*allowed.start(), *allowed.end());
            Err(Fault::Length { field: Field::NoKjp, digits: length, least, most })
        }
        _ if digits.starts_with(PREFIX) => Ok(()),
        _ => Err(Fault::CardPrefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(digits: &str) -> Result<(), Fault> {
        check_number(digits, &(16..=18))
    }

    fn length(digits: usize) -> Result<(), Fault> {
        Err(Fault::Length { field: Field::NoKjp, digits, least: 16, most: 18 })
    }

    const C16: &str = "5049488500000000";
    const C18: &str = "504948850000000000";

    #[test]
    fn a_card_of_more_than_18_digits_is_refused() {
        let long = format!("{C18}0");
        assert_eq!(check(&long), length(19));
    }

    #[test]
    fn length_is_judged_before_prefix() {
        assert_eq!(check(""), Err(Fault::Missing(Field::NoKjp)));
        assert_eq!(check(&C16[..15]), length(15));
        assert_eq!(check("5049440000000000"), Err(Fault::CardPrefix));
        assert_eq!(check("504944"), length(6));
        for length in [16, 17, 18] {
            assert_eq!(check(&C18[..length]), Ok(()));
        }
    }
}

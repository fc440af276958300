//! A line, cut into words, groups of digits and marks; what stands between them is white space.

use unicode_normalization::char::is_combining_mark;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Letters, with the apostrophes between them.
    Word,
    Digits,
    Mark(char),
}

/// Where it stands in the line, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    pub fn text<'a>(&self, line: &'a str) -> &'a str {
        &line[self.start..self.end]
    }

    pub fn digits(&self) -> usize {
        if self.kind == Kind::Digits { self.end - self.start } else { 0 }
    }
}

pub const APOSTROPHES: [char; 4] = ['\'', '’', '‘', '`'];

/// Keycaps are digits with these behind them. They number a list.
const KEYCAP: [char; 2] = ['\u{FE0F}', '\u{20E3}'];

/// The tokens of a line, in order.
pub fn of(line: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut end = start + c.len_utf8();
        let kind = if c.is_ascii_digit() {
            Kind::Digits
        } else if c.is_alphanumeric() {
            Kind::Word
        } else if c.is_whitespace() && c != '\t' {
            continue;
        } else {
            Kind::Mark(c)
        };
        match kind {
            Kind::Digits => {
                while let Some((at, c)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
                    end = at + c.len_utf8();
                }
            }
            Kind::Word => {
                while let Some(&(at, c)) = chars.peek() {
                    let letter = |c: char| c.is_alphanumeric() && !c.is_ascii_digit();
                    let inside = APOSTROPHES.contains(&c) && line[at + c.len_utf8()..].starts_with(letter);
                    if !(letter(c) || is_combining_mark(c) || inside) {
                        break;
                    }
                    end = at + c.len_utf8();
                    chars.next();
                }
            }
            Kind::Mark(mark) if KEYCAP.contains(&mark) => {
                // What was a digit is a bullet.
                if let Some(digit) = tokens.last_mut().filter(|last| last.end == start) {
                    digit.kind = Kind::Mark(mark);
                    digit.end = end;
                }
                continue;
            }
            Kind::Mark(_) => {}
        }
        tokens.push(Token { kind, start, end });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<&str> {
        of(line).iter().map(|token| token.text(line)).collect()
    }

    #[test]
    fn words_groups_of_digits_and_marks_come_apart() {
        assert_eq!(
            texts("1. Siti Nama'ah kjp5049 08/27"),
            ["1", ".", "Siti", "Nama'ah", "kjp", "5049", "08", "/", "27"]
        );
        assert_eq!(texts("'Ani' \t|"), ["'", "Ani", "'", "\t", "|"]);
    }

    #[test]
    fn a_keycap_is_no_digit() {
        let line = "1\u{FE0F}\u{20E3} Nama";
        assert_eq!(of(line).iter().map(|token| token.digits()).sum::<usize>(), 0);
        assert_eq!(of(line).len(), 2);
    }
}

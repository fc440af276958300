//! A terminal that shows phones: bubbles left and right, WhatsApp's bold, commentary between.
//!
//! Colours and bold only when the output is a terminal and `NO_COLOR` is not set
//! (<https://no-color.org>); otherwise plain text with the stars as they were sent.

use std::cell::RefCell;
use std::io::{IsTerminal, Write, stdout};

/// Columns of the whole picture.
const WIDTH: usize = 96;

/// Columns of text inside a bubble.
const BUBBLE: usize = 60;

/// Lines of one bubble; longer answers are cut with a note, so that a scene stays on the screen.
const BUBBLE_LINES: usize = 32;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";

/// Where a bubble stands on the customer's phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the other party wrote.
    Left,
    /// What the phone's owner wrote.
    Right,
}

/// Prints the demo.
pub struct Screen {
    styled: bool,
    out: RefCell<Box<dyn Write>>,
}

impl Screen {
    /// Looks at stdout and the environment.
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { styled: stdout().is_terminal() && !refused, out: RefCell::new(Box::new(stdout())) }
    }

    /// Plain text to somewhere else.
    pub fn plain(out: Box<dyn Write>) -> Self {
        Self { styled: false, out: RefCell::new(out) }
    }

    /// The name of the play or of a scene, between rules.
    pub fn headline(&self, text: &str) {
        let rule = "═".repeat(WIDTH);
        let bold = self.style(BOLD, text);
        self.print(&format!("\n{rule}\n  {bold}\n{rule}"));
    }

    /// What happens, told to the reader.
    pub fn narrate(&self, text: &str) {
        let lines: Vec<String> = wrap(text, WIDTH - 2).iter().map(|line| format!("  {line}")).collect();
        self.print(&format!("\n{}", lines.join("\n")));
    }

    /// One message on the phone of `owner`.
    pub fn bubble(&self, owner: &str, side: Side, author: &str, text: &str) {
        self.print(&bubble(owner, side, author, text, self.styled));
    }

    /// A heading and indented rows: what stands in a database.
    pub fn rows(&self, heading: &str, rows: &[String]) {
        self.print(&format!("\n  {}", self.style(CYAN, heading)));
        if rows.is_empty() {
            self.print("    (nothing)");
        }
        for row in rows {
            self.print(&format!("    {row}"));
        }
    }

    /// Whether something came as promised.
    pub fn verdict(&self, kept: bool, promise: &str) {
        let mark = if kept { self.style(GREEN, "✔") } else { self.style(RED, "✘ NOT SO:") };
        self.print(&format!("  {mark} {promise}"));
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("{code}{text}{RESET}") } else { text.to_owned() }
    }

    // Not println!, which panics when the reader of a pipe (`| head`) has gone.
    fn print(&self, text: &str) {
        let mut out = self.out.borrow_mut();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn bubble(owner: &str, side: Side, author: &str, text: &str, styled: bool) -> String {
    // Terminals disagree about the width of a sign with the emoji variation selector; without it
    // they agree.
    let text = text.replace('\u{FE0F}', "");
    let mut lines: Vec<String> = text.lines().flat_map(|line| wrap(line, BUBBLE)).collect();
    if lines.len() > BUBBLE_LINES {
        let hidden = lines.len() - BUBBLE_LINES;
        lines.truncate(BUBBLE_LINES);
        lines.push(format!("[… {hidden} more lines on the phone]"));
    }
    let inner = lines.iter().map(|line| columns(&shown(line, styled).0)).max().unwrap_or(0);
    let inner = inner.max(columns(author));
    let indent = match side {
        Side::Left => 2,
        Side::Right => WIDTH - inner - 4,
    };
    let (indent, frame) = (" ".repeat(indent), "─".repeat(inner + 2));
    let mut picture = format!("{indent}╭{frame}╮\n");
    let mut line = |plain: &str, painted: &str| {
        let gap = " ".repeat(inner - columns(plain));
        picture.push_str(&format!("{indent}│ {painted}{gap} │\n"));
    };
    let heading = match (styled, side) {
        (false, _) => author.to_owned(),
        (true, Side::Left) => format!("{CYAN}{author}{RESET}"),
        (true, Side::Right) => format!("{GREEN}{author}{RESET}"),
    };
    line(author, &heading);
    for text in &lines {
        let (plain, painted) = shown(text, styled);
        line(&plain, &painted);
    }
    let caption = format!("{owner}'s phone");
    let caption = if styled { format!("{DIM}{caption}{RESET}") } else { caption };
    match side {
        Side::Left => format!("\n{indent}{caption}\n{picture}{indent}╰{frame}╯"),
        Side::Right => format!("\n{picture}{indent}╰{frame}╯"),
    }
}

/// A line as the phone shows it: its visible characters, and the same with terminal codes.
///
/// `*bold*` and `_italic_` count as WhatsApp counts them: the mark stands at the edge of a word and
/// touches the text it encloses. Without styles the marks stay.
fn shown(line: &str, styled: bool) -> (String, String) {
    if !styled {
        return (line.to_owned(), line.to_owned());
    }
    let characters: Vec<char> = line.chars().collect();
    let (mut plain, mut painted) = (String::new(), String::new());
    let mut open: Option<char> = None;
    for (place, &c) in characters.iter().enumerate() {
        let before = place.checked_sub(1).map(|p| characters[p]);
        let after = characters.get(place + 1).copied();
        if matches!(c, '*' | '_') {
            if open == Some(c)
                && before.is_some_and(|b| !b.is_whitespace())
                && !after.is_some_and(char::is_alphanumeric)
            {
                painted.push_str(RESET);
                open = None;
                continue;
            }
            let closes_later = || characters[place + 1..].iter().skip(1).any(|&later| later == c);
            if open.is_none()
                && !before.is_some_and(char::is_alphanumeric)
                && after.is_some_and(|a| !a.is_whitespace() && a != c)
                && closes_later()
            {
                painted.push_str(if c == '*' { BOLD } else { "\x1b[3m" });
                open = Some(c);
                continue;
            }
        }
        plain.push(c);
        painted.push(c);
    }
    if open.is_some() {
        painted.push_str(RESET);
    }
    (plain, painted)
}

/// Breaks a line at spaces so that no part is wider than `width`; longer words are cut. Spaces at
/// the start stay.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let words = line.trim_start_matches(' ');
    let indent = (line.len() - words.len()).min(width / 2);
    let (mut lines, mut current, mut used) = (Vec::new(), " ".repeat(indent), indent);
    let mut starts_line = true;
    for word in words.split(' ') {
        if !starts_line && used + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut current));
            used = 0;
        } else if !starts_line {
            current.push(' ');
            used += 1;
        }
        starts_line = false;
        for c in word.chars() {
            if used + columns_of(c) > width {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push(c);
            used += columns_of(c);
        }
    }
    lines.push(current);
    lines
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Columns of a character in a terminal: the few kinds that chat texts have (emoji, East Asian wide,
/// joiners and variation selectors), not all of UAX #11.
fn columns_of(c: char) -> usize {
    match c {
        '\u{200B}'..='\u{200F}' | '\u{FE00}'..='\u{FE0F}' | '\u{2060}'..='\u{2069}' => 0,
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}' => 2,
        '\u{FF00}'..='\u{FF60}' | '\u{1F300}'..='\u{1FAFF}' => 2,
        '✅' | '❌' | '⏳' | '⚡' | '❗' | '➕' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width_of(picture: &str) -> usize {
        picture.lines().map(columns).max().unwrap()
    }

    #[test]
    fn bubbles_stay_inside_a_hundred_columns_and_lose_no_word() {
        let long = "kata ".repeat(60) + &"x".repeat(200);
        for side in [Side::Left, Side::Right] {
            let picture = bubble("Ani", side, "Bot KJP", &long, false);
            assert!(width_of(&picture) <= 100, "{} columns:\n{picture}", width_of(&picture));
            assert_eq!(picture.matches("kata").count(), 60);
            assert_eq!(picture.matches('x').count(), 200);
        }
    }

    #[test]
    fn lines_keep_their_indent_and_break_between_words() {
        assert_eq!(wrap("   - Nomor KTP", 60), ["   - Nomor KTP"]);
        assert_eq!(wrap("satu dua tiga", 8), ["satu dua", "tiga"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn all_lines_of_a_bubble_end_in_the_same_column() {
        let picture = bubble("Ani", Side::Left, "Bot", "✅ *Berhasil*\n⚠\u{FE0F} 📇 KJP\n\nSelesai", false);
        let widths: Vec<usize> = picture.lines().skip(2).map(columns).collect();
        assert!(widths.iter().all(|&w| w == widths[0]), "{widths:?}\n{picture}");
    }

    #[test]
    fn bold_is_rendered_on_a_terminal_and_kept_as_written_elsewhere() {
        assert_eq!(shown("*Menu* utama", true), ("Menu utama".into(), "\x1b[1mMenu\x1b[0m utama".into()));
        assert_eq!(shown("*Menu* utama", false).1, "*Menu* utama");
    }

    #[test]
    fn lone_stars_and_underscores_inside_words_stay() {
        for text in ["3 * 4 * 5", "nama_file_baru", "* daftar", "**", "5*"] {
            assert_eq!(shown(text, true), (text.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn long_answers_are_cut_with_a_note() {
        let picture = bubble("Ani", Side::Left, "Bot", &"baris\n".repeat(50), false);
        assert_eq!(picture.matches("baris").count(), BUBBLE_LINES);
        assert!(picture.contains("18 more lines"));
    }
}

//! What the operator sees while the bot waits to be linked: steps, code, countdown.
//!
//! On a terminal a new code replaces the old one and the countdown runs in place. Elsewhere each
//! code is printed once, without control sequences or countdown.

use std::io::{self, Write};

use thiserror::Error;

use super::qr::{self, QrError, Surface};
use super::wording;

/// Starts the line anew: carriage return, erase (ECMA-48 `EL` 2).
const ERASE_LINE: &str = "\r\x1b[2K";

/// What the phone can be linked with right now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Offer<'a> {
    /// Text of a QR code.
    Qr(&'a str),
    /// Eight characters to type into the phone.
    LinkCode(&'a str),
}

/// Why the code could not be shown.
#[derive(Debug, Error)]
pub enum ScreenError {
    #[error(transparent)]
    Qr(#[from] QrError),
    #[error("cannot write to the terminal: {0}")]
    Write(#[from] io::Error),
}

/// The part of the terminal that shows the pairing, from the first offer on.
pub struct PairingScreen<W> {
    out: W,
    surface: Surface,
    /// Line breaks written since the first line of the offer.
    lines: usize,
}

impl<W: Write> PairingScreen<W> {
    /// Writes to `out`; whether that is a terminal is the caller's knowledge
    /// ([`std::io::IsTerminal`]).
    pub fn new(out: W, surface: Surface) -> Self {
        Self { out, surface, lines: 0 }
    }

    /// Shows `offer` in place of the one before it.
    ///
    /// # Errors
    /// The code is too long for a QR code, or the terminal is gone.
    pub fn show(&mut self, offer: &Offer<'_>, seconds_left: u64) -> Result<(), ScreenError> {
        let mut text = wording::pairing_steps(offer);
        if let Offer::Qr(code) = offer {
            text.push_str(&qr::render(code, self.surface)?);
        }
        if self.surface == Surface::Terminal && self.lines > 0 {
            // Up to the first line of the old offer, then erase to the end (ECMA-48 CUU, ED).
            write!(self.out, "\r\x1b[{}A\x1b[J", self.lines)?;
        }
        self.out.write_all(text.as_bytes())?;
        self.lines = text.matches('\n').count();
        match self.surface {
            Surface::Terminal => self.tick(offer, seconds_left)?,
            Surface::Plain => {
                writeln!(self.out, "{}", wording::countdown(offer, seconds_left))?;
                self.out.flush()?;
            }
        }
        Ok(())
    }

    /// Renews the countdown; to be called once a second. Writes nothing unless on a terminal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn tick(&mut self, offer: &Offer<'_>, seconds_left: u64) -> io::Result<()> {
        if self.surface == Surface::Terminal {
            write!(self.out, "{ERASE_LINE}{}", wording::countdown(offer, seconds_left))?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Ends with one last sentence in place of the countdown. On a terminal the code, which is a
    /// secret while it lasts, is erased.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn close(mut self, sentence: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(self.out, "{sentence}")?;
        self.out.flush()
    }

    /// Ends without a word.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn erase(mut self) -> io::Result<()> {
        self.clear()?;
        self.out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.surface == Surface::Terminal && self.lines > 0 {
            write!(self.out, "\r\x1b[{}A\x1b[J", self.lines)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that a terminal would show after `bytes`, without colours.
    fn displayed(bytes: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(bytes).unwrap();
        let (mut lines, mut row) = (vec![String::new()], 0);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let (number, letter) = (&sequence[..end], &sequence[end..=end]);
                match letter {
                    "A" => row -= number.parse::<usize>().unwrap(),
                    "J" => {
                        lines.truncate(row + 1);
                        lines[row].clear();
                    }
                    "K" => lines[row].clear(),
                    "m" => {}
                    other => panic!("unexpected sequence {other}"),
                }
                rest = &sequence[end + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => {
                    row += 1;
                    lines.resize(lines.len().max(row + 1), String::new());
                }
                // Every carriage return is followed by a sequence that erases the line.
                '\r' => assert!(rest.starts_with("\x1b[")),
                c => lines[row].push(c),
            }
        }
        lines
    }

    fn shown(surface: Surface, act: impl FnOnce(&mut PairingScreen<&mut Vec<u8>>)) -> Vec<u8> {
        let mut out = vec![];
        act(&mut PairingScreen::new(&mut out, surface));
        out
    }

    #[test]
    fn a_new_code_replaces_the_old_one_on_a_terminal() {
        let (first, second) = (Offer::Qr("2@first"), Offer::Qr("2@second, and longer than the first one"));
        let replaced = shown(Surface::Terminal, |screen| {
            screen.show(&first, 60).unwrap();
            screen.tick(&first, 59).unwrap();
            screen.show(&second, 20).unwrap();
            screen.tick(&second, 19).unwrap();
        });
        let alone = shown(Surface::Terminal, |screen| screen.show(&second, 19).unwrap());
        assert_eq!(displayed(&replaced), displayed(&alone));
        assert_eq!(displayed(&alone).last().unwrap(), "Kode QR berlaku 19 detik lagi.");
    }

    #[test]
    fn elsewhere_each_code_is_printed_once_and_the_countdown_is_silent() {
        let offer = Offer::LinkCode("ABCD1234");
        let once = shown(Surface::Plain, |screen| screen.show(&offer, 160).unwrap());
        let ticked = shown(Surface::Plain, |screen| {
            screen.show(&offer, 160).unwrap();
            (0..160).for_each(|second| screen.tick(&offer, second).unwrap());
        });
        assert_eq!(once, ticked);
        let text = String::from_utf8(once).unwrap();
        assert!(text.contains("ABCD-1234") && text.ends_with("160 detik lagi.\n") && !text.contains('\x1b'));
    }

    #[test]
    fn the_code_is_gone_from_the_terminal_when_pairing_ends() {
        let mut out = vec![];
        let mut screen = PairingScreen::new(&mut out, Surface::Terminal);
        screen.show(&Offer::LinkCode("ABCD1234"), 160).unwrap();
        screen.close(wording::PAIRED).unwrap();
        assert_eq!(displayed(&out), [wording::PAIRED, ""]);
    }
}

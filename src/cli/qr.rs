//! A QR code as text: two modules per character, for a terminal or a file.

use qrcode::{Color, EcLevel, QrCode};
use thiserror::Error;

/// Light modules around the code (ISO/IEC 18004 §5.3.8: four); scanners need them.
const QUIET_ZONE: usize = 4;

/// White on black from the fixed part of the 256-colour palette, which no theme changes: the code
/// has the same polarity on dark and on light terminals.
const WHITE_ON_BLACK: &str = "\x1b[38;5;231;48;5;16m";
const RESET: &str = "\x1b[0m";

/// Where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// A terminal: colours are set.
    Terminal,
    /// A file, a pipe, the journal: no control sequences. Scans as it is where text is light on
    /// dark; elsewhere the code is inverted, which phones read too.
    Plain,
}

/// The text does not fit into a QR code (2953 bytes at most).
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "cannot show a QR code for {bytes} bytes of pairing data: {source}; pair with --phone NUMBER instead"
)]
pub struct QrError {
    bytes: usize,
    source: qrcode::types::QrError,
}

/// Renders `text` as lines of half blocks, each ended by a line break. The text itself is a
/// secret for as long as it is valid, and so is the picture.
///
/// # Errors
/// [`QrError`] if the text is too long for any QR code.
pub fn render(text: &str, surface: Surface) -> Result<String, QrError> {
    // The lowest error correction gives the smallest picture; a screen has no scratches.
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|source| QrError { bytes: text.len(), source })?;
    let width = code.width();
    let side = width + 2 * QUIET_ZONE;
    let light = |x: usize, y: usize| {
        let inside = |place: usize| (QUIET_ZONE..QUIET_ZONE + width).contains(&place);
        !(inside(x) && inside(y)) || code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Light
    };
    let mut picture = String::with_capacity(side * side * 2);
    for y in (0..side).step_by(2) {
        if surface == Surface::Terminal {
            picture.push_str(WHITE_ON_BLACK);
        }
        for x in 0..side {
            // The side is odd: below the last row there is nothing, which must not look dark.
            picture.push(match (light(x, y), y + 1 == side || light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        if surface == Surface::Terminal {
            picture.push_str(RESET);
        }
        picture.push('\n');
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pixels for one module: the detector needs a few.
    const SCALE: usize = 4;

    /// Reads the picture as a phone's camera would: one colour per half character.
    fn scanned(picture: &str) -> String {
        let plain = picture.replace(WHITE_ON_BLACK, "").replace(RESET, "");
        let lines: Vec<Vec<char>> = plain.lines().map(|line| line.chars().collect()).collect();
        let (width, height) = (lines[0].len() * SCALE, lines.len() * 2 * SCALE);
        let mut image = vec![0; width * height];
        for (place, pixel) in image.iter_mut().enumerate() {
            let (x, y) = (place % width / SCALE, place / width / SCALE);
            let lit = match lines[y / 2][x] {
                '█' => true,
                '▀' => y % 2 == 0,
                '▄' => y % 2 == 1,
                _ => false,
            };
            *pixel = if lit { 255 } else { 0 };
        }
        let codes: Vec<_> = quircs::Quirc::default().identify(width, height, &image).collect();
        assert_eq!(codes.len(), 1, "one code:\n{plain}");
        let data = codes[0].as_ref().expect("found").decode().expect("a readable code");
        String::from_utf8(data.payload).expect("text")
    }

    /// Invented, of the length that WhatsApp's have: a reference and three base64 keys.
    fn pairing_text() -> String {
        let key = "A".repeat(43);
        format!("2@{},{key}=,{key}=,{key}=", "q".repeat(88))
    }

    #[test]
    fn a_scanner_reads_the_picture_back_on_every_surface() {
        for surface in [Surface::Terminal, Surface::Plain] {
            assert_eq!(scanned(&render(&pairing_text(), surface).unwrap()), pairing_text());
        }
    }

    #[test]
    fn a_pairing_code_fits_into_eighty_columns() {
        let picture = render(&pairing_text(), Surface::Plain).unwrap();
        assert!(picture.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn only_a_terminal_gets_control_sequences() {
        assert!(!render("2@a", Surface::Plain).unwrap().contains('\x1b'));
        let picture = render("2@a", Surface::Terminal).unwrap();
        assert!(picture.lines().all(|line| line.starts_with(WHITE_ON_BLACK) && line.ends_with(RESET)));
    }

    #[test]
    fn text_beyond_any_code_is_an_error_that_does_not_repeat_it() {
        let error = render(&"x".repeat(3000), Surface::Plain).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot show a QR code for 3000 bytes") && !error.contains("xx"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_text_scans_back(text in "[ -~]{1,300}") {
            prop_assert_eq!(scanned(&render(&text, Surface::Plain).unwrap()), text);
        }
    }
}

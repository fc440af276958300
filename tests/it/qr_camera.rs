//! Reads a QR code off terminal lines made of half blocks.

/// The text of the last QR code in `lines`, if there is a whole one.
pub fn read(lines: &[String]) -> Option<String> {
    let is_block = |line: &&String| {
        let line = strip_escapes(line);
        line.chars().count() >= 21 && line.chars().all(|c| " ▀▄█".contains(c))
    };
    let end = lines.iter().rposition(|line| is_block(&line))? + 1;
    let start = lines[..end].iter().rposition(|line| !is_block(&line)).map_or(0, |at| at + 1);
    let rows: Vec<Vec<char>> =
        lines[start..end].iter().map(|line| strip_escapes(line).chars().collect()).collect();
    let width = rows.iter().map(Vec::len).max()?;
    // Each character holds two pixels, one above the other.
    let lit = |x: usize, y: usize| {
        let c = rows.get(y / 2).and_then(|row| row.get(x)).copied().unwrap_or(' ');
        if y % 2 == 0 { "▀█".contains(c) } else { "▄█".contains(c) }
    };
    let height = rows.len() * 2;
    // A camera needs a few pixels per module.
    const SCALE: usize = 4;
    for light_is_block in [true, false] {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, |x, y| {
            if lit(x / SCALE, y / SCALE) == light_is_block { 255 } else { 0 }
        });
        let text = image.detect_grids().into_iter().find_map(|grid| grid.decode().ok());
        if let Some((_, text)) = text {
            return Some(text);
        }
    }
    None
}

/// Removes ANSI escape sequences (`ESC [ … letter`).
fn strip_escapes(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

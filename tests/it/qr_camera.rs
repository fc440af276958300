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
        if y.is_multiple_of(2) { "▀█".contains(c) } else { "▄█".contains(c) }
    };
    let height = rows.len() * 2;
    // A camera needs a few pixels per module.
    const SCALE: usize = 4;
    for light_is_block in [true, false] {
        let image: Vec<u8> = (0..height * SCALE)
            .flat_map(|y| (0..width * SCALE).map(move |x| (x / SCALE, y / SCALE)))
            .map(|(x, y)| if lit(x, y) == light_is_block { 255 } else { 0 })
            .collect();
        let mut camera = quircs::Quirc::new();
        let codes = camera.identify(width * SCALE, height * SCALE, &image);
        let texts = codes.filter_map(|code| String::from_utf8(code.ok()?.decode().ok()?.payload).ok());
        if let Some(text) = texts.last() {
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

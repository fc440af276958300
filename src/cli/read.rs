//! `bot-kjp read`: what would happen to a message, and why. Needs no configuration and no database.

use std::fmt::Write as _;
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::exit_code::ExitCode;
use super::wording::read as words;
use crate::desk::step::MAX_TEXT_BYTES;
use crate::desk::wording::{fault_text, warning_text};
use crate::registration::people::{self, Entry};
use crate::registration::reading::{self, Number, Of, Piece};
use crate::registration::{Provider, Rulebook, text};

/// One message of `--jsonl`.
#[derive(Debug, Deserialize)]
struct Asked {
    provider: String,
    text: String,
}

/// One answer of `--jsonl` and `--json`.
#[derive(Debug, Serialize)]
struct Answer {
    people: Vec<Answered>,
    /// Lines that belong to nobody.
    remainder: String,
}

#[derive(Debug, Serialize)]
struct Answered {
    nama: Option<String>,
    no_kjp: Option<String>,
    no_ktp: Option<String>,
    no_kk: Option<String>,
    tanggal_lahir: Option<String>,
    jenis_kartu: Option<&'static str>,
    errors: Vec<(&'static str, &'static str)>,
    warnings: Vec<&'static str>,
}

/// Longest line of `--jsonl`, in bytes: every byte of the longest text as `\u0000`, and what stands around it.
const LONGEST_LINE: u64 = 6 * MAX_TEXT_BYTES as u64 + 1024;

/// Why lines of `--jsonl` are not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("line {line} is not {{\"provider\": …, \"text\": …}}: {source}")]
    Json { line: usize, source: serde_json::Error },
    #[error("line {line}: there is no provider {name:?}; there are PASARJAYA, DHARMAJAYA and FOODSTATION")]
    Provider { line: usize, name: String },
    #[error("line {line} is longer than {LONGEST_LINE} bytes, which no message takes that the bot reads")]
    LongLine { line: usize },
    #[error("the text is longer than {MAX_TEXT_BYTES} bytes, which is the most that the bot reads")]
    TooLong,
    #[error("{file}: {source}")]
    File { file: String, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Json { .. } | Self::Provider { .. } | Self::LongLine { .. } | Self::TooLong => {
                ExitCode::Usage
            }
            Self::File { source, .. } | Self::Io(source) => ExitCode::of_io(source),
        }
    }
}

/// Opens what is to be read; without a file, `input`.
///
/// # Errors
/// The file cannot be opened.
pub fn open<'a>(file: Option<&Path>, input: &'a mut dyn BufRead) -> Result<Box<dyn BufRead + 'a>, ReadError> {
    let Some(file) = file else { return Ok(Box::new(input)) };
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|source| ReadError::File { file: file.display().to_string(), source })?;
    Ok(Box::new(io::BufReader::new(opened)))
}

/// One message, whole.
///
/// # Errors
/// It cannot be read, is no text, or is longer than the bot reads.
pub fn message(input: impl BufRead) -> Result<String, ReadError> {
    let mut text = String::new();
    // One byte more tells that there is more.
    input.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_TEXT_BYTES { Err(ReadError::TooLong) } else { Ok(text) }
}

/// Reads one message a line, and writes what was understood, one answer a line.
///
/// # Errors
/// A line that is no message; those before it are answered.
pub fn lines(
    rules: &Rulebook,
    input: impl BufRead,
    out: &mut dyn Write,
    today: Date,
) -> Result<(), ReadError> {
    let mut input = input;
    for number in 1.. {
        let mut line = String::new();
        if input.by_ref().take(LONGEST_LINE + 1).read_line(&mut line)? == 0 {
            break;
        }
        if line.len() as u64 > LONGEST_LINE {
            return Err(ReadError::LongLine { line: number });
        }
        if line.trim().is_empty() {
            continue;
        }
        let asked: Asked =
            serde_json::from_str(&line).map_err(|source| ReadError::Json { line: number, source })?;
        let provider = Provider::named(&asked.provider)
            .ok_or_else(|| ReadError::Provider { line: number, name: asked.provider.clone() })?;
        writeln!(out, "{}", json(rules, provider, &asked.text, today))?;
    }
    out.flush()?;
    Ok(())
}

/// What was understood, as JSON on one line.
pub fn json(rules: &Rulebook, provider: Provider, text: &str, today: Date) -> String {
    let reading = people::read_all(rules, provider, [text], today);
    let answer = Answer {
        people: reading.entries.iter().map(answered).collect(),
        remainder: reading.remainder.iter().map(|line| line.expose()).collect::<Vec<_>>().join("\n"),
    };
    // Text and numbers in memory cannot fail to be written.
    serde_json::to_string(&answer).unwrap_or_default()
}

fn answered(entry: &Entry) -> Answered {
    let shown =
        |written: &Option<crate::personal::Written>| written.as_ref().map(|text| text.expose().to_owned());
    let errors = match &entry.verdict {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| (fault.field().wire(), fault.wire())).collect(),
    };
    Answered {
        nama: Some(entry.nama.expose().to_owned()).filter(|nama| !nama.is_empty()),
        no_kjp: shown(&entry.read.kjp),
        no_ktp: shown(&entry.read.ktp),
        no_kk: shown(&entry.read.kk),
        tanggal_lahir: entry.read.tanggal_lahir.map(|born| born.to_string()),
        jenis_kartu: entry.read.jenis_kartu.map(|kind| kind.stored()),
        errors,
        warnings: entry.warnings.iter().map(|warning| warning.wire()).collect(),
    }
}

/// Escape sequences of a terminal.
const BOLD: &str = "\u{1b}[1m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const FAINT: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// What was understood, for a person: line by line what its pieces are, then everybody with a verdict.
pub fn explained(rules: &Rulebook, provider: Provider, written: &str, today: Date, colours: bool) -> String {
    let paint = |colour: &str, text: &str| {
        if colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    };
    let mut out = String::new();
    let cleaned = text::clean(written);
    for line in reading::of_text(&cleaned) {
        let Some((line, read)) = line else {
            out.push('\n');
            continue;
        };
        let _ = writeln!(out, "{}", paint(FAINT, line));
        for piece in &read.pieces {
            let (what, text) = described(piece);
            let _ = writeln!(out, "    {} {}", paint(BOLD, &what), text);
        }
        if read.pieces.is_empty() {
            let what = if read.labels.is_empty() { words::PASSED_OVER } else { words::LABEL };
            let _ = writeln!(out, "    {}", paint(FAINT, what));
        }
    }
    let reading = people::read_all(rules, provider, [written], today);
    for (number, entry) in (1..).zip(&reading.entries) {
        let _ = writeln!(out, "\n{}", paint(BOLD, &words::person(number, entry.nama.expose())));
        let rows =
            [(words::CARD, &entry.read.kjp), (words::NIK, &entry.read.ktp), (words::KK, &entry.read.kk)];
        for (what, number) in rows {
            if let Some(number) = number {
                let _ = writeln!(out, "    {what}: {}", number.expose());
            }
        }
        if let Some(kind) = entry.read.jenis_kartu {
            let _ = writeln!(out, "    {}: {}", words::KIND, kind.stored());
        }
        if let Some(born) = entry.read.tanggal_lahir {
            let _ = writeln!(out, "    {}: {}", words::BORN, born.strftime("%d-%m-%Y"));
        }
        match &entry.verdict {
            Ok(_) => {
                let _ = writeln!(out, "    {}", paint(GREEN, words::REGISTERED));
            }
            Err(faults) => {
                for fault in faults {
                    let _ = writeln!(out, "    {}", paint(RED, &format!("✖ {}", fault_text(fault))));
                }
            }
        }
        for warning in &entry.warnings {
            let _ = writeln!(out, "    {}", paint(YELLOW, &format!("⚠ {}", warning_text(*warning))));
        }
    }
    if reading.entries.is_empty() {
        let _ = writeln!(out, "\n{}", words::NOBODY);
    }
    for line in &reading.remainder {
        let _ = writeln!(out, "\n{}", paint(YELLOW, &words::left_over(line.expose())));
    }
    out
}

fn described(piece: &Piece<'_>) -> (String, String) {
    match piece {
        Piece::Name { text, .. } => (words::NAME.to_owned(), (*text).to_owned()),
        Piece::Date { text, .. } => (words::BORN.to_owned(), (*text).to_owned()),
        Piece::Kind(kind) => (words::KIND.to_owned(), kind.stored().to_owned()),
        Piece::Withdrawn => (words::WITHDRAWN.to_owned(), String::new()),
        Piece::Number(Number { of, kind, written, .. }) => {
            let what = match of {
                Some(Of::Card) => words::CARD,
                Some(Of::Nik) => words::NIK,
                Some(Of::Kk) => words::KK,
                None => words::SIXTEEN,
            };
            let kind = kind.map(|kind| format!(" {}", kind.stored())).unwrap_or_default();
            (format!("{what}{kind}"), (*written).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const TODAY: Date = date(2026, 11, 24);
    const ANI: &str = "Ani\nKJP 5049488500000000\n3171010101900000\n3171010101100000";

    #[test]
    fn a_line_of_json_is_answered_with_one() {
        let asked = serde_json::json!({ "provider": "DHARMAJAYA", "text": format!("{ANI}\n\nBudi\n5049488500000001") });
        let mut out = Vec::new();
        lines(&Rulebook::default(), format!("{asked}\n\n{asked}\n").as_bytes(), &mut out, TODAY).unwrap();
        let out = String::from_utf8(out).unwrap();
        let answers: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), 2);
        let people = &answers[0]["people"];
        assert_eq!(people[0]["no_ktp"], "3171010101900000");
        assert_eq!(people[0]["jenis_kartu"], "KJP");
        assert_eq!(people[0]["tanggal_lahir"], serde_json::Value::Null);
        assert_eq!(people[1]["errors"], serde_json::json!([["no_ktp", "required"], ["no_kk", "required"]]));
        assert_eq!(people[1]["no_kjp"], "5049488500000001");
    }

    #[test]
    fn a_line_that_is_no_message_is_named() {
        let fails = |line: &str| {
            lines(&Rulebook::default(), line.as_bytes(), &mut Vec::new(), TODAY).unwrap_err().to_string()
        };
        assert!(fails("\n{}").starts_with("line 2 is not"));
        let nowhere = fails(r#"{"provider": "NOWHERE", "text": ""}"#);
        assert!(nowhere.contains("line 1") && nowhere.contains("NOWHERE") && nowhere.contains("PASARJAYA"));
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let error = lines(&Rulebook::default(), endless, &mut Vec::new(), TODAY).unwrap_err();
        assert!(error.to_string().starts_with("line 1 is longer"), "{error}");
    }

    #[test]
    fn what_is_shown_names_every_piece_and_the_verdict() {
        let shown = explained(
            &Rulebook::default(),
            Provider::DharmaJaya,
            &format!("Selamat pagi\n{ANI}"),
            TODAY,
            false,
        );
        for part in ["NIK", "KK", "kartu KJP", "Ani", words::REGISTERED, words::PASSED_OVER] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'));
        assert!(explained(&Rulebook::default(), Provider::DharmaJaya, ANI, TODAY, true).contains(GREEN));
        assert!(
            explained(&Rulebook::default(), Provider::DharmaJaya, "halo", TODAY, false)
                .contains(words::NOBODY)
        );
    }

    #[test]
    fn no_more_is_read_than_the_bot_reads() {
        assert!(matches!(message("x".repeat(MAX_TEXT_BYTES + 1).as_bytes()), Err(ReadError::TooLong)));
        assert_eq!(message("x".repeat(MAX_TEXT_BYTES).as_bytes()).unwrap().len(), MAX_TEXT_BYTES);
    }
}

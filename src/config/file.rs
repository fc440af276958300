//! Reads the text of a configuration file: finds each declared key, and everything that should
//! not be there.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::key::{self, Initial, Settings};
use super::nearest::nearest;
use super::problem::{Fault, Place, Problem};
use super::rule::Rule;
use super::secret::looks_like_a_secret;

/// What a text says, with everything that is wrong with it.
pub(super) struct Outcome {
    pub settings: Settings,
    /// Keys that the text sets, with their line.
    pub set: Vec<(&'static str, Place)>,
    pub problems: Vec<Problem>,
}

/// Reads `text`, the content of `file`. Every problem is found, not only the first; a key with a
/// problem has its default in `settings`.
pub(super) fn read(file: &Path, text: &str) -> Outcome {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader =
        Reader { file: file.to_owned(), text, document: document.get_ref(), set: vec![], problems: vec![] };
    for error in syntax {
        let offset = error.span().map_or(text.len(), |span| span.start);
        reader.report(offset, Fault::Syntax(error.message().to_owned()));
    }
    let settings = Settings::read(&mut reader);
    reader.refuse_strangers();
    let Reader { set, mut problems, .. } = reader;
    // After a syntax error the rest of the line is guesswork, and so are its other problems.
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    problems.dedup_by(|next, first| next.place == first.place && matches!(first.fault, Fault::Syntax(_)));
    let homeless = lines_below_broken_headers(text, &problems);
    problems
        .retain(|problem| matches!(problem.fault, Fault::Syntax(_)) || !homeless.contains(&problem.line()));
    Outcome { settings, set, problems }
}

pub(super) struct Reader<'a> {
    file: PathBuf,
    text: &'a str,
    document: &'a DeTable<'a>,
    set: Vec<(&'static str, Place)>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The value of the key `path` = `section.name`, or what it is worth unset.
    pub(super) fn value<R: Rule>(&mut self, path: &'static str, initial: Initial, rule: &R) -> R::Value {
        let (section, name) = path.split_once('.').expect("a declared path is section.name");
        let section = self.document.get(section).and_then(|section| section.get_ref().as_table());
        if let Some(written) = section.and_then(|section| section.get(name)) {
            let place = self.place(written.span().start);
            if let Some(value) = rule.read(written.get_ref()) {
                self.set.push((path, place));
                return value;
            }
            if !holds_secret(written.get_ref()) {
                let found = wrong_kind(written.get_ref(), initial);
                let fault = Fault::Value { key: Some(path), found, allowed: rule.allowed() };
                self.problems.push(Problem { place, fault });
            }
        }
        match initial {
            Initial::Default(toml) => DeValue::parse(toml).ok().and_then(|value| rule.read(value.get_ref())),
            Initial::Unset(_) => rule.unset(),
        }
        .expect("each declared default keeps its own rule: a test reads them all")
    }

    /// Reports secrets, unknown keys, and sections that are not sections.
    fn refuse_strangers(&mut self) {
        for (section, content) in self.document {
            let name = section.get_ref().as_ref();
            let DeValue::Table(keys) = content.get_ref() else {
                self.refuse(section.span().start, name, name, content.get_ref());
                continue;
            };
            if keys.is_empty() && !key::SECTIONS.contains(&name) {
                self.refuse(section.span().start, name, name, content.get_ref());
            }
            for (key, value) in keys {
                let path = format!("{name}.{}", key.get_ref());
                self.refuse(key.span().start, &path, key.get_ref(), value.get_ref());
            }
        }
    }

    /// Reports the key `path` unless it is a declared one that holds no secret.
    fn refuse(&mut self, offset: usize, path: &str, name: &str, value: &DeValue<'_>) {
        if holds_secret(value) {
            return self.report(offset, Fault::SecretInFile { key: path.to_owned() });
        }
        if key::PATHS.contains(&path) {
            return;
        }
        if let Some(section) = key::SECTIONS.iter().find(|section| **section == path) {
            let allowed = format!("a section, written [{section}]");
            return self
                .report(offset, Fault::Value { key: Some(section), found: Some(kind(value)), allowed });
        }
        // A key in the wrong section, or in none, is found by its name alone.
        let namesake = || key::PATHS.iter().copied().find(|known| known.split('.').next_back() == Some(name));
        let near = nearest(path, key::PATHS.iter().copied()).or_else(namesake);
        let fault = match near {
            None if names_a_secret(name) => Fault::SecretInFile { key: path.to_owned() },
            near => Fault::UnknownKey { key: path.to_owned(), nearest: near, instead: alternatives(path) },
        };
        self.report(offset, fault);
    }

    fn report(&mut self, offset: usize, fault: Fault) {
        let place = self.place(offset);
        self.problems.push(Problem { place, fault });
    }

    fn place(&self, offset: usize) -> Place {
        Place::Line { file: self.file.clone(), line: line_of(self.text.as_bytes(), offset) }
    }
}

/// The line, counted from 1, that holds the byte at `offset`.
pub(super) fn line_of(text: &[u8], offset: usize) -> usize {
    let before = &text[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The lines whose section cannot be known because the header above them is not TOML: to call
/// their keys unknown would mislead.
fn lines_below_broken_headers(text: &str, problems: &[Problem]) -> Vec<usize> {
    let mut broken = false;
    let mut homeless = vec![];
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim_start().starts_with('[') {
            broken = problems.iter().any(|p| p.line() == line && matches!(p.fault, Fault::Syntax(_)));
        }
        if broken {
            homeless.push(line);
        }
    }
    homeless
}

/// What may stand where an unknown key stood.
fn alternatives(path: &str) -> String {
    let section = path.split('.').next().unwrap_or_default();
    let keys: Vec<_> =
        key::PATHS.iter().filter(|key| key.split('.').next() == Some(section)).copied().collect();
    if keys.is_empty() || !path.contains('.') {
        format!("sections are {}", key::SECTIONS.join(", "))
    } else {
        format!("keys here are {}", keys.join(", "))
    }
}

/// Whether a key of this name would hold a secret.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "secret", "token", "password", "apikey"].iter().any(|word| name.contains(word))
}

/// Whether a value is a secret, or a list or table with one in it.
fn holds_secret(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => looks_like_a_secret(text),
        DeValue::Array(values) => values.iter().any(|value| holds_secret(value.get_ref())),
        DeValue::Table(values) => values.values().any(|value| holds_secret(value.get_ref())),
        _ => false,
    }
}

/// The kind of `written`, if it is not the kind that the key wants.
fn wrong_kind(written: &DeValue<'_>, initial: Initial) -> Option<&'static str> {
    let (Initial::Default(toml) | Initial::Unset(toml)) = initial;
    let wanted = DeValue::parse(toml).ok()?;
    (!written.same_type(wanted.get_ref())).then(|| kind(written))
}

/// The kind of a value, in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

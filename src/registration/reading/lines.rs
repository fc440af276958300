//! What the pieces of a line are: names, numbers with what they are numbers of, dates (RULES.md §3).

use std::borrow::Cow;
use std::ops::Range;

use super::tokens::{self, Kind, Token};
use super::vocabulary::{self, Label, Words};
use crate::registration::{CardType, birth_date, card};

/// Digits of a NIK and of a KK.
const SIXTEEN: usize = 16;

/// Fewest digits of what was meant as a card, NIK or KK. A telephone number is told by how it begins.
pub const FEWEST_DIGITS: usize = 9;

/// The same behind a label.
const FEWEST_LABELLED: usize = 3;

/// Most groups of letters and digits that are looked at as one number.
const MOST_PARTS: usize = 16;

/// Most letters of a label that is spelled with dots, such as `K.J.P`.
const MOST_SPELLED: usize = 6;

/// Most digits that are part of a name: people tell namesakes apart by a number ("Ani 2").
const DIGITS_OF_A_NAME: usize = 5;

/// Digits of a telephone number, from the 0 or the 62 on; and no NIK or KK begins as one.
const PHONE: std::ops::RangeInclusive<usize> = 9..=16;

/// What a number is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Card,
    Nik,
    Kk,
}

/// How a number was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Digits in one group, or in groups with single separators between them.
    Digits,
    /// Letters among the digits: the first of them, and its place counted from 1.
    Broken { letter: char, place: usize },
    /// As a spreadsheet writes a number that is too long for it: the digits are lost.
    Spreadsheet,
    /// A whole number, and so many digits more which may belong to it or not.
    Tail { digits: usize },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number<'a> {
    pub digits: String,
    pub form: Form,
    pub of: Option<Of>,
    /// The kind of card that stands beside it.
    pub kind: Option<CardType>,
    /// As it was written.
    pub written: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// `before_date`: a date follows, so it may be the place of birth.
    Name {
        text: &'a str,
        labelled: bool,
        before_date: bool,
    },
    Number(Number<'a>),
    Date {
        text: &'a str,
    },
    /// A kind of card on a line of its own.
    Kind(CardType),
    /// A word with which somebody is taken back.
    Withdrawn,
}

/// What a line is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line<'a> {
    pub pieces: Vec<Piece<'a>>,
    /// Labels, where a line has nothing else: of the next line, or the head of a table.
    pub labels: Vec<Label>,
    /// Nothing but words that may be a name or chat.
    pub perhaps_name: bool,
}

/// A step between tokens and pieces.
#[derive(Debug, Clone)]
enum Item {
    Label {
        label: Label,
        colon: bool,
        bracketed: bool,
    },
    Number {
        digits: String,
        form: Form,
        at: Range<usize>,
    },
    /// One to eight digits.
    Short(Range<usize>),
    Date(Range<usize>),
    Words {
        at: Range<usize>,
        kind: Words,
    },
    Break(char),
}

/// Reads a line. `awaited`: the label on the line before, if nothing else stood there.
pub fn of<'a>(line: &'a str, awaited: &[Label]) -> Line<'a> {
    if (FEWEST_DIGITS..2 * SIXTEEN).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_digit()) {
        // As most numbers are written.
        let number = Item::Number { digits: line.to_owned(), form: Form::Digits, at: 0..line.len() };
        return pieces(line, vec![number], awaited);
    }
    let tokens = tokens::of(line);
    let lower = line.to_ascii_lowercase();
    let last_number = tokens.iter().rposition(|token| token.digits() > 2);
    let scanner = Scanner { line, lower: &lower, tokens: &tokens, last_number, at: 0, items: Vec::new() };
    let items = scanner.scan();
    let mut read = pieces(line, items, awaited);
    // "Nama Ibu Sri": the mother's name, or hers. Nobody's numbers go on behind it.
    let named = lower.trim_start_matches(|c: char| !c.is_alphabetic()).starts_with("nama");
    read.perhaps_name |= named && read.pieces.is_empty() && read.labels.is_empty() && !lower.contains(':');
    read
}

struct Scanner<'a> {
    line: &'a str,
    lower: &'a str,
    tokens: &'a [Token],
    /// The last token with more digits than a list number or a namesake has.
    last_number: Option<usize>,
    at: usize,
    items: Vec<Item>,
}

impl Scanner<'_> {
    fn scan(mut self) -> Vec<Item> {
        while let Some(&token) = self.tokens.get(self.at) {
            match token.kind {
                Kind::Mark(mark) => {
                    if self.is_break(mark) {
                        self.items.push(Item::Break(mark));
                    }
                    self.at += 1;
                }
                Kind::Digits => self.digits(),
                Kind::Word => self.word(),
            }
        }
        self.items
    }

    fn token(&self, at: usize) -> Option<Token> {
        self.tokens.get(at).copied()
    }

    fn mark(&self, at: usize) -> Option<char> {
        match self.token(at)?.kind {
            Kind::Mark(mark) => Some(mark),
            Kind::Word | Kind::Digits => None,
        }
    }

    /// Nothing stands between this token and the one before.
    fn glued(&self, at: usize) -> bool {
        at > 0 && at < self.tokens.len() && self.tokens[at - 1].end == self.tokens[at].start
    }

    fn is_break(&self, mark: char) -> bool {
        match mark {
            '\t' | '|' | ';' | ',' | '/' | '#' | '\\' | '→' | '>' | '+' | '–' | '—' => true,
            '-' => !self.glued(self.at) && !self.glued(self.at + 1),
            _ => false,
        }
    }

    fn lower(&self, at: usize) -> &str {
        let token = self.tokens[at];
        &self.lower[token.start..token.end]
    }

    // ---- Digits

    fn digits(&mut self) {
        if let Some(after) = self.spreadsheet() {
            let at = self.range(self.at, after);
            self.items.push(Item::Number { digits: String::new(), form: Form::Spreadsheet, at });
            self.at = after;
            return;
        }
        if let Some(after) = self.date(self.at) {
            let at = self.range(self.at, after);
            self.items.push(Item::Date(at));
            self.at = after;
            return;
        }
        if let Some((after, form, digits)) = self.broken() {
            let at = self.range(self.at, after);
            self.items.push(Item::Number { digits, form, at });
            self.at = after;
            return;
        }
        let run = self.run();
        let after = run.last().map_or(self.at + 1, |last| last + 1);
        self.numbers(&run);
        self.at = after;
    }

    fn range(&self, from: usize, after: usize) -> Range<usize> {
        self.tokens[from].start..self.tokens[after - 1].end
    }

    /// `3,17101E+15`
    fn spreadsheet(&self) -> Option<usize> {
        let at = self.at;
        let whole = self.tokens[at].digits() == 1 && matches!(self.mark(at + 1), Some(',' | '.'));
        let fraction = self.token(at + 2)?.digits() > 0 && self.token(at + 3)?.kind == Kind::Word;
        if !(whole && fraction && self.lower(at + 3) == "e") {
            return None;
        }
        let sign = matches!(self.mark(at + 4), Some('+'));
        let exponent = at + 4 + usize::from(sign);
        (self.token(exponent)?.digits() == 2).then_some(exponent + 1)
    }

    /// The end of a date that begins at a token: day, month by number or name, year, or the other way round.
    fn date(&self, from: usize) -> Option<usize> {
        let mut parts = 0;
        let mut lengths = [0usize; 3];
        let mut by_name = false;
        let mut comma = false;
        let mut separators: [Option<char>; 3] = [None; 3];
        let mut at = from;
        let mut end = at;
        while parts < 3 {
            let token = self.token(at)?;
            match token.kind {
                Kind::Digits => {
                    lengths[parts] = token.digits();
                    parts += 1;
                    end = at + 1;
                }
                Kind::Word if parts == 1 && birth_date::is_month(self.lower(at)) => {
                    by_name = true;
                    parts += 1;
                }
                Kind::Word if parts == 2 && matches!(self.lower(at), "thn" | "tahun" | "th") => {}
                Kind::Mark(mark @ ('-' | '/' | '.' | ',' | '\'')) if parts > 0 => {
                    comma |= mark == ',';
                    separators[parts] = Some(mark);
                }
                Kind::Word | Kind::Mark(_) => return None,
            }
            at += 1;
        }
        let shape = if by_name {
            lengths[0] <= 2 && matches!(lengths[2], 2 | 4)
        } else {
            // Not the number of a list and the day and month behind it.
            !comma
                && (separators[1] == separators[2] || lengths[2] == 4)
                && ((lengths[0] <= 2 && lengths[1] <= 2 && matches!(lengths[2], 2 | 4))
                    || (lengths[0] == 4 && lengths[1] <= 2 && lengths[2] <= 2))
        };
        // A group more, and it is a number written in groups.
        let continues = self.joined(end).is_some_and(|next| self.tokens[next].digits() > 2);
        (shape && !continues).then_some(end)
    }

    /// The next group of a number whose last group ends before `at`: behind a single space, dot or dash.
    fn joined(&self, at: usize) -> Option<usize> {
        let last = self.token(at.checked_sub(1)?)?;
        let next = self.token(at)?;
        if next.digits() > 0 {
            return (&self.line[last.end..next.start] == " ").then_some(at);
        }
        let dotted = matches!(next.kind, Kind::Mark('.' | '-')) && self.glued(at) && self.glued(at + 1);
        (dotted && self.token(at + 1)?.digits() > 0).then_some(at + 1)
    }

    /// Groups of digits that may be one number, as places of tokens.
    fn run(&self) -> Vec<usize> {
        let mut run = vec![self.at];
        let mut digits = self.tokens[self.at].digits();
        while let Some(next) = self.joined(run[run.len() - 1] + 1) {
            if digits >= SIXTEEN && self.is_clearly_a_date(next) {
                break;
            }
            digits += self.tokens[next].digits();
            run.push(next);
        }
        run
    }

    /// A date that no group of a number looks like: its month is a name, its parts are joined by the same mark, or its
    /// year has four digits.
    fn is_clearly_a_date(&self, from: usize) -> bool {
        self.date(from).is_some_and(|after| {
            let marks =
                |kind: fn(Kind) -> bool| (from..after).filter(|at| kind(self.tokens[*at].kind)).count();
            let by_name = marks(|kind| kind == Kind::Word) > 0;
            let marked = marks(|kind| matches!(kind, Kind::Mark(_))) == 2;
            by_name || marked || self.tokens[after - 1].digits() == 4 || self.tokens[from].digits() == 4
        })
    }

    /// Where what is glued together without a mark ends, from a token on.
    fn glued_parts(&self, from: usize) -> usize {
        let mut after = from;
        while self.glued(after) && self.mark(after).is_none() && after - from < MOST_PARTS {
            after += 1;
        }
        after
    }

    /// Letters among digits without a gap, if that is meant as one number.
    fn broken(&self) -> Option<(usize, Form, String)> {
        let mut after = self.glued_parts(self.at + 1);
        // A label, or a word, behind a number is none of it.
        while after > self.at + 1 && self.tokens[after - 1].kind == Kind::Word {
            let word = self.lower(after - 1);
            let stray = word.chars().count() <= 2 && vocabulary::phrase(&[word]).is_none();
            if stray && !matches!(word, "th") {
                break;
            }
            after -= 1;
        }
        let parts = &self.tokens[self.at..after];
        let first_letter = parts.iter().position(|part| part.kind == Kind::Word)?;
        let mut digits = String::new();
        for (place, part) in parts.iter().enumerate() {
            match part.kind {
                Kind::Digits => digits.push_str(part.text(self.line)),
                Kind::Word => {
                    let word = self.lower(self.at + place);
                    let masked = word.chars().all(|c| c == 'x');
                    if vocabulary::phrase(&[word]).is_some() || (word.chars().count() > 2 && !masked) {
                        return None;
                    }
                }
                Kind::Mark(_) => return None,
            }
        }
        let whole = &self.line[parts[0].start..parts[parts.len() - 1].end];
        if digits.len() < 4 || whole.chars().count() < FEWEST_DIGITS {
            return None;
        }
        let letter = parts[first_letter].text(self.line).chars().next()?;
        let place = self.line[parts[0].start..parts[first_letter].start].chars().count() + 1;
        Some((after, Form::Broken { letter, place }, digits))
    }

    /// Cuts a run of groups into numbers.
    fn numbers(&mut self, run: &[usize]) {
        let mut run = run;
        // An expiry date, an age.
        if let [.., last] = run
            && self.tokens[*last].digits() <= 2
            && (self.is_month_of_expiry(*last) || self.is_unit(last + 1))
        {
            let short = self.tokens[*last];
            run = &run[..run.len() - 1];
            self.cut(run);
            self.items.push(Item::Short(short.start..short.end));
            return;
        }
        self.cut(run);
    }

    /// `08/27`
    fn is_month_of_expiry(&self, at: usize) -> bool {
        self.mark(at + 1) == Some('/')
            && self.glued(at + 1)
            && self.glued(at + 2)
            && self.token(at + 2).is_some_and(|year| matches!(year.digits(), 2 | 4))
    }

    /// `th`, `tahun`, `bln`: the number before it counts years or months.
    fn is_unit(&self, at: usize) -> bool {
        self.token(at).is_some_and(|token| token.kind == Kind::Word) && is_unit(self.lower(at))
    }

    fn cut(&mut self, mut run: &[usize]) {
        while let [first, ..] = *run {
            let took = self.one_number(run);
            if took == 0 {
                let token = self.tokens[first];
                self.items.push(Item::Short(token.start..token.end));
                run = &run[1..];
            } else {
                run = &run[took..];
            }
        }
    }

    /// Takes the number with which a run begins; how many groups that was.
    fn one_number(&mut self, run: &[usize]) -> usize {
        let length = |count: usize| run[..count].iter().map(|at| self.tokens[*at].digits()).sum::<usize>();
        let digits = |count: usize| -> String {
            run[..count].iter().map(|at| self.tokens[*at].text(self.line)).collect()
        };
        let is_card = |digits: &str| digits.starts_with(card::PREFIX);
        // The number of a list in front of a whole number.
        if run.len() > 1 && length(1) <= 2 && self.tokens[run[1]].digits() >= SIXTEEN {
            return 0;
        }
        let count = (1..=run.len()).find(|count| length(*count) >= SIXTEEN).unwrap_or(run.len());
        let mut took = count;
        let mut form = Form::Digits;
        let whole = length(count);
        if whole == SIXTEEN && run.len() > count && is_card(&digits(count)) {
            let next = self.tokens[run[count]].digits();
            match (count, next) {
                // A whole card in one group, and a lone digit that numbers it.
                (1, 1) => {}
                (1, 2) | (2.., 1) => {
                    took += 1;
                    form = Form::Tail { digits: next };
                }
                (2.., 2) => took += 1,
                _ => {}
            }
        } else if whole == SIXTEEN && count == 1 && run.len() == 2 && self.tokens[run[1]].digits() == 2 {
            took += 1;
            form = Form::Tail { digits: 2 };
        }
        let number = digits(took);
        if number.len() < FEWEST_DIGITS {
            return 0;
        }
        let at = self.tokens[run[0]].start..self.tokens[run[took - 1]].end;
        // Two numbers without a gap: there is one way only to part them.
        if took == 1 && number.len() == 2 * SIXTEEN {
            let middle = at.start + SIXTEEN;
            for (digits, at) in [(&number[..SIXTEEN], at.start..middle), (&number[SIXTEEN..], middle..at.end)]
            {
                self.items.push(Item::Number { digits: digits.to_owned(), form: Form::Digits, at });
            }
            return took;
        }
        self.items.push(Item::Number { digits: number, form, at });
        took
    }

    // ---- Words

    fn word(&mut self) {
        if let Some((label, after)) = self.label() {
            let colon = self.mark(after) == Some(':');
            let before = self.at.checked_sub(1).and_then(|at| self.mark(at));
            let bracketed = matches!(before, Some('(' | '['));
            self.items.push(Item::Label { label, colon, bracketed });
            self.at = after;
            if label == Label::Name && colon {
                self.name_behind_label();
            }
            return;
        }
        if self.at > 0 && self.tokens[self.at - 1].kind == Kind::Digits && self.is_unit(self.at) {
            self.at += 1;
            return;
        }
        // One letter glued to many digits is one of them.
        let token = self.tokens[self.at];
        if self.glued(self.at + 1)
            && token.end - token.start <= 2
            && self.token(self.at + 1).is_some_and(|next| next.digits() >= SIXTEEN - 2)
        {
            let after = self.glued_parts(self.at + 2);
            let at = self.range(self.at, after);
            let letter = token.text(self.line).chars().next().unwrap_or('?');
            let digits = self.line[at.clone()].chars().filter(char::is_ascii_digit).collect();
            self.items.push(Item::Number { digits, form: Form::Broken { letter, place: 1 }, at });
            self.at = after;
            return;
        }
        self.words();
    }

    /// Behind a label with a colon a name is whatever stands there, until the next label or number.
    fn name_behind_label(&mut self) {
        while self.mark(self.at).is_some_and(|mark| !self.is_break(mark)) {
            self.at += 1;
        }
        let begin = self.at;
        let mut end = begin;
        while let Some(token) = self.token(self.at) {
            match token.kind {
                Kind::Word => {
                    // Beside numbers a label is one; on a line of its own a name may hold any word.
                    let labels = self.label().is_some_and(|(_, after)| {
                        self.mark(after) == Some(':')
                            || self.last_number.is_some_and(|number| number >= after)
                    });
                    if labels {
                        break;
                    }
                    self.at += 1;
                    end = self.at;
                }
                Kind::Digits
                    if token.digits() <= 2
                        && self
                            .token(self.at + 1)
                            .is_none_or(|next| next.digits() == 0 || next.digits() >= 4) =>
                {
                    self.at += 1;
                    end = self.at;
                }
                Kind::Digits => break,
                Kind::Mark(mark) => {
                    if mark == ':' || self.is_break(mark) {
                        break;
                    }
                    self.at += 1;
                    if matches!(mark, '.' | ')' | ']') && end > begin && self.glued(self.at - 1) {
                        end = self.at;
                    }
                }
            }
        }
        if end == begin {
            return;
        }
        let mut at = self.range(begin, end);
        if self.glued(begin) && matches!(self.mark(begin - 1), Some('(' | '[')) {
            at.start = self.tokens[begin - 1].start;
        }
        self.items.push(Item::Words { at, kind: Words::Name });
    }

    fn is_label_at(&self, at: usize) -> bool {
        self.label_at(at).is_some()
    }

    /// The label that begins here, and the token behind it.
    fn label(&self) -> Option<(Label, usize)> {
        self.label_at(self.at)
    }

    fn label_at(&self, at: usize) -> Option<(Label, usize)> {
        // Most words are no label: no need to look at what follows.
        let spelled = self.mark(at + 1) == Some('.') && self.token(at)?.end - self.token(at)?.start == 1;
        if !spelled && !vocabulary::begins_phrase(self.lower(at)) {
            return None;
        }
        let (words, ends) = self.words_ahead(at);
        let of = |skip: usize| {
            let ahead: Vec<&str> = words[skip..].iter().map(String::as_str).collect();
            vocabulary::phrase(&ahead).map(|(label, count)| (label, skip + count))
        };
        let (mut label, mut count) = of(0)?;
        if label == Label::Number && count < words.len() {
            // `no ktp`, `no. rek`; not a word that is none.
            match of(count) {
                Some((next, taken)) if next != Label::Number => (label, count) = (next, taken),
                _ => {}
            }
        } else if self.is_name_instead(at, &words[..count], ends[count - 1]) {
            return None;
        }
        if label == Label::Name {
            count = self.whose_name(&words, &ends, count);
        } else if matches!(label, Label::Nik | Label::Kk | Label::Card | Label::Kind(_) | Label::BirthDate) {
            if words.get(count).is_some_and(|word| vocabulary::is_kin(word))
                && !matches!(label, Label::Card | Label::Kind(_))
            {
                (label, count) = (Label::Foreign, count + 1);
            } else {
                while words.get(count).is_some_and(|word| vocabulary::is_whose_number(word)) {
                    count += 1;
                }
            }
        }
        let mut after = ends[count - 1];
        while matches!(self.mark(after), Some('.' | ':' | ')' | ']' | '*' | '_' | '~' | '`' | '"'))
            && self.mark(after.wrapping_sub(1)) != Some(':')
        {
            after += 1;
            if self.mark(after - 1) == Some(':') {
                after -= 1;
                break;
            }
        }
        Some((label, after))
    }

    /// Whether a label that is a name as well is meant as a name.
    fn is_name_instead(&self, at: usize, words: &[String], after: usize) -> bool {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if !vocabulary::is_also_name(&words) {
            return false;
        }
        if words == ["a", "n"] {
            return self.mark(at + 1) != Some('.') && self.mark(at + 1) != Some('/');
        }
        if vocabulary::is_kin(words[0]) || words == ["anak"] {
            return self.mark(after) != Some(':');
        }
        let marked = matches!(self.mark(after), Some(':' | '.' | '+'))
            || self.token(after).is_some_and(|next| next.digits() > 0);
        !marked
    }

    /// `nama lengkap`, `nama (sesuai ktp)`: words that tell whose name follows. Without a colon behind them a name
    /// may begin with one of them, so only those are taken that no name has.
    fn whose_name(&self, words: &[String], ends: &[usize], label: usize) -> usize {
        let mut count = label;
        while count < words.len() && vocabulary::is_whose_name(&words[count]) {
            count += 1;
        }
        if count == label || words[label - 1] == "an" || words[label - 1] == "n" {
            return label;
        }
        // "siswa/i"
        if words.get(count).is_some_and(|word| word == "i") && self.mark(ends[count] - 2) == Some('/') {
            count += 1;
        }
        let mut after = ends[count - 1];
        while matches!(self.mark(after), Some('.' | ')' | ']' | '*' | '_')) {
            after += 1;
        }
        let ends_there = after >= self.tokens.len();
        if self.mark(after) == Some(':') || ends_there || self.mark(after).is_some() {
            return count;
        }
        // "Nama Anak Agung": Anak Agung is a name.
        let agung = words.get(count).is_some_and(|word| word == "agung");
        if agung && words[count - 1] == "anak" { count - 1 } else { count }
    }

    /// Up to six lower-case words from here, with nothing but weak marks between them, and where each ends. Letters
    /// with dots between them are one word.
    fn words_ahead(&self, from: usize) -> (Vec<String>, Vec<usize>) {
        let (mut words, mut ends) = (Vec::new(), Vec::new());
        let mut at = from;
        while let Some(token) = self.token(at)
            && words.len() < 6
        {
            match token.kind {
                Kind::Word => {
                    let (word, after) = self.dotted(at);
                    words.push(word);
                    ends.push(after);
                    at = after;
                }
                Kind::Mark('.' | '-' | '(' | ')' | '/' | '*' | '_' | '~') => at += 1,
                Kind::Mark(_) | Kind::Digits => break,
            }
        }
        (words, ends)
    }

    /// `K.J.P` is the word kjp.
    fn dotted(&self, at: usize) -> (String, usize) {
        let single = |at: usize| {
            self.token(at).is_some_and(|token| token.kind == Kind::Word && token.end - token.start == 1)
        };
        let (mut word, mut after) = (self.lower(at).to_owned(), at + 1);
        if single(at) {
            let mut letters = 1;
            let mut next = at;
            while letters <= MOST_SPELLED
                && self.mark(next + 1) == Some('.')
                && self.glued(next + 1)
                && single(next + 2)
                && self.glued(next + 2)
            {
                next += 2;
                letters += 1;
                word.push_str(self.lower(next));
            }
            if (3..=MOST_SPELLED).contains(&letters) || word == "kk" {
                after = next + 1;
            } else {
                word.truncate(1);
            }
        }
        (word, after)
    }

    /// Words that are no label: a name, or chat.
    fn words(&mut self) {
        let begin = self.at;
        let mut end = begin;
        let lower = self.lower;
        let mut words: Vec<Cow<'_, str>> = Vec::new();
        while let Some(token) = self.token(self.at) {
            match token.kind {
                Kind::Word => {
                    let teacher = self.lower(self.at) == "guru"
                        && !words.is_empty()
                        && words.iter().all(|word| vocabulary::TEACHERS.contains(&word.as_ref()));
                    if self.at > begin && !teacher && self.label().is_some() {
                        break;
                    }
                    let word = &lower[token.start..token.end];
                    words.push(match word.contains(tokens::APOSTROPHES) {
                        true => word.replace(tokens::APOSTROPHES, "").into(),
                        false => word.into(),
                    });
                    self.at += 1;
                    end = self.at;
                }
                Kind::Digits => {
                    let mut run = self.run();
                    // "Ani 2" before a number.
                    if run.len() > 1 && self.tokens[run[0]].digits() <= 2 && self.tokens[run[1]].digits() >= 4
                    {
                        run.truncate(1);
                    }
                    let digits: usize = run.iter().map(|at| self.tokens[*at].digits()).sum();
                    let after = run[run.len() - 1] + 1;
                    let counts = self.is_unit(after) || self.is_month_of_expiry(run[0]);
                    if digits > DIGITS_OF_A_NAME
                        || counts
                        || self.broken().is_some()
                        || self.date(self.at).is_some()
                    {
                        break;
                    }
                    self.at = after;
                    end = after;
                }
                Kind::Mark(mark) => {
                    if mark == ':' || self.is_break(mark) {
                        break;
                    }
                    self.at += 1;
                    // A bracket or a dot belongs to the word before it.
                    if matches!(mark, '.' | ')' | ']') && self.glued(self.at - 1) {
                        end = self.at;
                    }
                }
            }
        }
        let words: Vec<&str> = words.iter().map(Cow::as_ref).collect();
        let kind = vocabulary::words(&words);
        // "Hobi: memasak": a field, of which nobody knows the name.
        let field = self.mark(self.at) == Some(':')
            && self.token(self.at + 1).is_some_and(|next| next.kind == Kind::Word)
            && self.tokens[begin..end].iter().all(|token| token.digits() == 0);
        if field && kind != Words::Chat && !self.is_label_at(self.at + 1) {
            self.items.push(Item::Label { label: Label::Other, colon: true, bracketed: false });
            return;
        }
        let mut at = self.range(begin, end);
        // The bracket before the first word.
        if begin > 0 && self.glued(begin) && matches!(self.mark(begin - 1), Some('(' | '[')) {
            at.start = self.tokens[begin - 1].start;
        }
        self.items.push(Item::Words { at, kind });
    }
}

// ---- Items to pieces

/// The number with which a line begins, if it is one of a list. The dot behind it may have gone.
pub fn ordinal(line: &str) -> Option<u8> {
    let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
    let (number, rest) = line.split_at(line.find(|c: char| !c.is_ascii_digit())?);
    let rest = rest.trim_start_matches('\u{FE0F}');
    let behind = rest.strip_prefix(['.', ')', ']', '\u{20E3}', ':', '-', ' '])?;
    let behind = behind.trim_start_matches([' ', '*', '_', '~', '`', '"', '(', '\'']);
    if !behind.starts_with(char::is_alphanumeric) {
        return None;
    }
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    let word = behind.split(|c: char| !c.is_alphabetic()).next().unwrap_or("").to_lowercase();
    // Not the day of a date, an age, nor a group of a number.
    let counts = birth_date::is_month(&word) || is_unit(&word);
    let is_number = (1..=2).contains(&number.len()) && !number.starts_with('0');
    if is_number
        && !counts
        && (digits == 0 || digits >= FEWEST_DIGITS || (digits == SIXTEEN / 4 && number.len() == 1))
    {
        number.parse().ok()
    } else {
        None
    }
}

/// The number before this word counts years or months.
fn is_unit(word: &str) -> bool {
    matches!(word, "th" | "thn" | "tahun" | "bln" | "bulan" | "tahunan")
}

fn pieces<'a>(line: &'a str, items: Vec<Item>, awaited: &[Label]) -> Line<'a> {
    let mut items = without_other_fields(line, items);
    let beside_numbers =
        ordinal(line).is_some() || items.iter().any(|item| matches!(item, Item::Number { .. }));
    said_to_be_a_number(line, &mut items);
    let mut perhaps_name = false;
    for item in &mut items {
        if let Item::Words { kind: kind @ Words::Either, .. } = item {
            perhaps_name = true;
            *kind = if beside_numbers { Words::Name } else { Words::Chat };
        }
    }
    let labels_only =
        items.iter().all(|item| matches!(item, Item::Label { .. } | Item::Break(_) | Item::Short(_)));
    if labels_only {
        let labels: Vec<Label> = items
            .iter()
            .filter_map(|item| match item {
                Item::Label { label: Label::Other | Label::Foreign | Label::Place, .. } => None,
                Item::Label { label, .. } => Some(*label),
                _ => None,
            })
            .collect();
        let mut read = Line { pieces: Vec::new(), labels, perhaps_name: false };
        compact_date(line, &items, &mut read);
        if let ([label @ (Label::Nik | Label::Kk)], [Item::Short(at)]) = (awaited, &items[..])
            && at.len() >= FEWEST_LABELLED
        {
            let of = Some(if *label == Label::Nik { Of::Nik } else { Of::Kk });
            let written = &line[at.clone()];
            let number = Number { digits: written.to_owned(), form: Form::Digits, of, kind: None, written };
            read.pieces.push(Piece::Number(number));
        }
        if let [Label::Kind(kind)] = read.labels[..] {
            read.pieces.push(Piece::Kind(kind));
        }
        return read;
    }
    let numbers = numbers_of(line, &items, awaited);
    let mut numbers = numbers.into_iter();
    let mut read = Line::default();
    let mut name_label = awaited.contains(&Label::Name);
    let mut date_label = awaited.contains(&Label::BirthDate);
    let has_number = items.iter().any(|item| matches!(item, Item::Number { .. }));
    let chat = items
        .iter()
        .any(|item| matches!(item, Item::Words { kind: Words::Chat, at } if !vocabulary::is_answer(&line[at.clone()])));
    let is_date = |item: &Item| match item {
        Item::Date(_) => true,
        Item::Short(at) => is_compact_date(&line[at.clone()]),
        _ => false,
    };
    let mut kinds: Vec<CardType> = Vec::new();
    let mut named = false;
    let mut last_break = None;
    for (place, item) in items.iter().enumerate() {
        match item {
            Item::Label { label: Label::Name, .. } => name_label = true,
            Item::Label { label: Label::BirthDate, .. } => date_label = true,
            Item::Label { label: Label::Kind(kind), .. } => kinds.push(*kind),
            Item::Label { .. } => {}
            Item::Number { .. } => {
                if let Some(Some(number)) = numbers.next() {
                    read.pieces.push(Piece::Number(number));
                }
                name_label = false;
            }
            // The day on which somebody wants to come.
            Item::Date(_) if chat && !date_label && !has_number => {}
            Item::Date(at) => {
                read.pieces.push(Piece::Date { text: &line[at.clone()] });
                date_label = false;
            }
            Item::Short(at) => {
                let text = &line[at.clone()];
                let behind_numbers = matches!(read.pieces.last(), Some(Piece::Number(_)));
                if is_compact_date(text) && (date_label || !has_number || behind_numbers) {
                    read.pieces.push(Piece::Date { text });
                    date_label = false;
                }
            }
            Item::Words { kind: Words::Chat, .. } if !name_label => {}
            Item::Words { .. } if date_label && !name_label => {}
            Item::Words { at, .. } => {
                let text = &line[at.clone()];
                let mut following = items[place + 1..].iter().filter(|item| !matches!(item, Item::Break(_)));
                let before_date =
                    !name_label && (named || !has_number) && following.next().is_some_and(is_date);
                let continues = match last_break {
                    Some(',') => !has_number || vocabulary::is_title(text),
                    Some('/' | '-') => !has_number,
                    _ => false,
                };
                match read.pieces.last_mut() {
                    // A name with a comma or a slash in it.
                    Some(Piece::Name { text: before, .. }) if continues => {
                        let start = before.as_ptr() as usize - line.as_ptr() as usize;
                        *before = &line[start..at.end];
                    }
                    // What was before the comma was chat.
                    _ if last_break == Some(',') && !named && vocabulary::is_only_titles(text) => {}
                    _ => {
                        read.pieces.push(Piece::Name { text, labelled: name_label, before_date });
                        named = true;
                    }
                }
                name_label = false;
            }
            Item::Break(_) => {}
        }
        last_break = match item {
            Item::Break(mark) => Some(*mark),
            _ => None,
        };
    }
    let withdrawn = |item: &Item| matches!(item, Item::Words { kind: Words::Chat, at } if vocabulary::withdraws(&line[at.clone()]));
    if read.pieces.is_empty() && items.iter().any(withdrawn) {
        read.pieces.push(Piece::Withdrawn);
    }
    read.perhaps_name = read.pieces.is_empty() && perhaps_name;
    if !has_number && read.pieces.is_empty() && kinds.len() == 1 {
        read.pieces.push(Piece::Kind(kinds[0]));
    }
    read
}

/// A few digits behind the label of a number are one that was not finished.
fn said_to_be_a_number(line: &str, items: &mut [Item]) {
    let digits = |item: &Item| matches!(item, Item::Number { .. } | Item::Date(_));
    if items.iter().any(digits)
        || items.iter().any(|item| matches!(item, Item::Label { label: Label::BirthDate, .. }))
    {
        return;
    }
    for place in 1..items.len() {
        let labelled = matches!(
            items[place - 1],
            Item::Label { label: Label::Nik | Label::Kk | Label::Card | Label::Kind(_), .. }
        );
        if let Item::Short(at) = &items[place]
            && labelled
            && at.len() >= FEWEST_LABELLED
        {
            let digits = line[at.clone()].to_owned();
            items[place] = Item::Number { digits, form: Form::Digits, at: at.clone() };
            return;
        }
    }
}

/// A date of digits alone stands on a line where nothing else does.
fn compact_date<'a>(line: &'a str, items: &[Item], read: &mut Line<'a>) {
    for item in items {
        if let Item::Short(at) = item
            && is_compact_date(&line[at.clone()])
        {
            read.pieces.push(Piece::Date { text: &line[at.clone()] });
            read.labels.clear();
            return;
        }
    }
}

/// `02112015`, `021115`
fn is_compact_date(text: &str) -> bool {
    let part = |from: usize| text.get(from..from + 2).and_then(|two| two.parse::<u8>().ok()).unwrap_or(0);
    matches!(text.len(), 6 | 8)
        && birth_date::looks_like(text)
        && (1..=31).contains(&part(0))
        && (1..=12).contains(&part(2))
}

/// Drops fields that nobody asked for: from their label on to the next label that counts, a whole number, or the end
/// of the cell.
fn without_other_fields(line: &str, items: Vec<Item>) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    let mut passing = false;
    // A label whose number is none of ours.
    let mut foreign = false;
    // In which city somebody was born.
    let mut birth = false;
    // What is kept last is the label of a number.
    let mut labelled = false;
    for item in items {
        match &item {
            Item::Label { label: Label::Other, .. } if birth => continue,
            Item::Label { label: label @ (Label::Other | Label::Foreign), .. } => {
                passing = true;
                foreign = *label == Label::Foreign;
                continue;
            }
            Item::Label { label: Label::Place, .. } => continue,
            Item::Label { label: Label::Number, .. } if passing => continue,
            Item::Label { label: Label::Kind(CardType::Rusun), colon: false, .. } if passing => continue,
            Item::Label { label, .. } => {
                passing = false;
                birth = *label == Label::BirthDate;
            }
            Item::Number { digits, form, at } => {
                let of_ours = digits.len() == SIXTEEN || digits.starts_with(card::PREFIX);
                let phone = *form == Form::Digits && is_phone(&line[..at.start], digits, labelled);
                if phone || (passing && (foreign || !of_ours)) {
                    foreign = false;
                    continue;
                }
                passing = false;
            }
            Item::Break('\t' | '|' | ';') => (passing, foreign) = (false, false),
            _ if passing => continue,
            _ => {}
        }
        if !matches!(item, Item::Break(_)) {
            labelled = matches!(
                item,
                Item::Label { label: Label::Nik | Label::Kk | Label::Card | Label::Kind(_), .. }
            );
        }
        kept.push(item);
    }
    kept
}

/// Whether digits, behind this text, are a telephone number. No label makes one of an international number.
fn is_phone(before: &str, digits: &str, labelled: bool) -> bool {
    let begins = digits.starts_with("08") || digits.starts_with("628");
    PHONE.contains(&digits.len()) && (before.ends_with('+') || (begins && !labelled))
}

/// What each number of the line is a number of, in order; `None` for one that is passed over.
fn numbers_of<'a>(line: &'a str, items: &[Item], awaited: &[Label]) -> Vec<Option<Number<'a>>> {
    let places: Vec<usize> =
        (0..items.len()).filter(|place| matches!(items[*place], Item::Number { .. })).collect();
    let label_at = |place: usize| match &items[place] {
        Item::Label { label: label @ (Label::Nik | Label::Kk | Label::Card | Label::Kind(_)), .. } => {
            Some(*label)
        }
        _ => None,
    };
    let labels_in = |range: Range<usize>| range.filter_map(label_at).collect::<Vec<Label>>();
    let first_labelled = places.first().is_some_and(|first| !labels_in(0..*first).is_empty());
    let last_labelled = places.last().is_some_and(|last| !labels_in(last + 1..items.len()).is_empty());
    // Labels stand behind their numbers if the last one does and the first one does not stand before.
    let behind = !first_labelled && last_labelled && awaited.is_empty();
    let mut numbers = Vec::with_capacity(places.len());
    for (nth, &place) in places.iter().enumerate() {
        let Item::Number { digits, form, at } = &items[place] else { continue };
        let from = if nth == 0 { 0 } else { places[nth - 1] + 1 };
        let to = places.get(nth + 1).copied().unwrap_or(items.len());
        let (mut before, mut after) = (labels_in(from..place), labels_in(place + 1..to));
        if nth == 0 && before.is_empty() {
            before.extend(
                awaited.iter().copied().filter(|label| !matches!(label, Label::Name | Label::BirthDate)),
            );
        }
        // In brackets behind a number a label is that number's.
        let bracketed = |range: Range<usize>| {
            range.clone().next().is_some_and(|next| {
                matches!(items.get(next), Some(Item::Label { bracketed: true, .. })) && range.contains(&next)
            })
        };
        let own_bracket = bracketed(place + 1..to);
        let others_bracket = nth > 0 && bracketed(from..place);
        let card = digits.starts_with(card::PREFIX);
        let sixteen = |label: &&Label| matches!(label, Label::Nik | Label::Kk);
        let of_sixteen = |labels: &[Label], last: bool| {
            let mut found = labels.iter().filter(sixteen);
            if last { found.next_back().copied() } else { found.next().copied() }
        };
        let written_of = if own_bracket || behind {
            of_sixteen(&after, false)
        } else if others_bracket {
            None
        } else {
            of_sixteen(&before, true)
        };
        let kind_in = |labels: &[Label]| {
            labels.iter().rev().find_map(|label| match label {
                Label::Kind(kind) => Some(*kind),
                _ => None,
            })
        };
        let says_card =
            |labels: &[Label]| labels.iter().any(|label| matches!(label, Label::Card | Label::Kind(_)));
        let of = if card {
            match written_of {
                // Kept, so that it can be told.
                Some(Label::Nik) if !says_card(&before) && !says_card(&after) => Some(Of::Nik),
                Some(Label::Kk) if !says_card(&before) && !says_card(&after) => Some(Of::Kk),
                _ => Some(Of::Card),
            }
        } else {
            match written_of {
                Some(Label::Nik) => Some(Of::Nik),
                Some(Label::Kk) => Some(Of::Kk),
                _ => {
                    let said = if behind || own_bracket {
                        says_card(&after)
                    } else {
                        says_card(&before) && !others_bracket
                    };
                    said.then_some(Of::Card)
                }
            }
        };
        let kind = if of == Some(Of::Card) {
            // Behind the number and before the next one only if that one is no card.
            let next_is_card = places.get(nth + 1).is_some_and(|next| {
                matches!(&items[*next], Item::Number { digits, .. } if digits.starts_with(card::PREFIX))
            });
            if next_is_card && !behind && !own_bracket {
                after.clear();
            }
            kind_in(&after).or_else(|| kind_in(&before))
        } else {
            None
        };
        numbers.push(Some(Number {
            digits: digits.clone(),
            form: form.clone(),
            of,
            kind,
            written: &line[at.clone()],
        }));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_list_are_told_from_days_and_numbers() {
        for (line, number) in [
            ("1. Ani", Some(1)),
            ("2) 5049488500000000", Some(2)),
            ("*3.* Ani", Some(3)),
            ("4\u{FE0F}\u{20E3} Ani", Some(4)),
            ("1.5049488500000000", Some(1)),
            ("1 Ani", Some(1)),
            ("31 7101 0101 9000 00", None),
            ("8 th", None),
            ("18 - 08 - 1978", None),
            ("20-01-2015", None),
            ("1. 2. 2015", None),
            ("5 Mei 2015", None),
            ("01.AGUSTUS.1948 (78 th)", None),
            ("1-Agustus-1948", None),
            ("Ani 2.", None),
        ] {
            assert_eq!(ordinal(line), number, "{line}");
        }
    }
}

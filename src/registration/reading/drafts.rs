//! Pieces, put together to people (RULES.md §4).

use std::collections::{HashMap, HashSet};

use super::lines::{self, Line, Number, Of, Piece};
use super::vocabulary::Label;
use crate::registration::Provider;

/// Most labels on a line of their own that are labels of the next line, such as `No KTP / NIK`.
const MOST_AWAITED: usize = 2;

/// Most blocks that are one person together: each of name, card, NIK, KK and date on its own.
const MOST_PARTS: usize = 5;

/// Card, NIK and KK of a person: so many numbers of sixteen digits beside the card.
const SIXTEENS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameText<'a> {
    pub text: &'a str,
    pub labelled: bool,
}

/// A person as far as the text tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft<'a> {
    pub name: Option<NameText<'a>>,
    /// A line before the name that may be the name as well.
    pub other_name: Option<&'a str>,
    pub card: Option<Number<'a>>,
    /// Words beside the card that are no kind of card.
    pub beside_card: Option<&'a str>,
    /// NIK and KK, in the order in which they stand.
    pub sixteens: Vec<Number<'a>>,
    pub date: Option<&'a str>,
    /// The KK stands first in a table's head.
    pub kk_first: bool,
    /// One number more than a person has.
    pub surplus: bool,
    /// The text can be read in two ways, and this person is another one in each.
    pub unclear: bool,
    /// Who has the same card, or the same name, in the other way.
    pub other_way: Option<Box<Draft<'a>>>,
    /// The name stands behind everything else on a line of its own, where people also write greetings.
    pub trailing_name: bool,
    /// The name stands behind some of the numbers, and no label says that it is one.
    name_behind: bool,
    /// The first of its block.
    first: bool,
}

impl<'a> Draft<'a> {
    fn has_numbers(&self) -> bool {
        self.card.is_some() || !self.sixteens.is_empty()
    }

    fn card_digits(&self) -> Option<&str> {
        self.card.as_ref().map(|card| card.digits.as_str())
    }

    fn is_empty(&self) -> bool {
        self.name.is_none() && !self.has_numbers() && self.date.is_none()
    }

    fn has_all_but_name(&self, provider: Provider) -> bool {
        self.card.is_some()
            && self.sixteens.len() == SIXTEENS
            && (provider != Provider::PasarJaya || self.date.is_some())
    }

    fn is_complete(&self, provider: Provider) -> bool {
        self.name.is_some() && self.has_all_but_name(provider)
    }

    /// Only a KK, which says that it is one.
    fn is_shared_kk(&self) -> bool {
        self.name.is_none()
            && self.card.is_none()
            && matches!(&self.sixteens[..], [kk] if kk.of == Some(Of::Kk))
    }

    /// NIK and KK.
    pub fn nik_and_kk(&self) -> (Option<&Number<'a>>, Option<&Number<'a>>) {
        let labelled = |of| self.sixteens.iter().find(|number| number.of == Some(of));
        let (nik, kk) = (labelled(Of::Nik), labelled(Of::Kk));
        let mut rest = self.sixteens.iter().filter(|number| !matches!(number.of, Some(Of::Nik | Of::Kk)));
        match (nik, kk) {
            (Some(nik), Some(kk)) => (Some(nik), Some(kk)),
            (Some(nik), None) => (Some(nik), rest.next()),
            (None, Some(kk)) => (rest.next(), Some(kk)),
            (None, None) if self.kk_first && self.sixteens.len() == SIXTEENS => {
                let kk = rest.next();
                (rest.next(), kk)
            }
            (None, None) => (rest.next(), rest.next()),
        }
    }

    /// What tells two readings of a text apart.
    fn key(&self) -> (Option<&'a str>, [Option<&str>; 3], Option<&'a str>) {
        let (nik, kk) = self.nik_and_kk();
        let digits = [self.card.as_ref(), nik, kk].map(|number| number.map(|number| number.digits.as_str()));
        (self.name.map(|name| name.text), digits, self.date)
    }
}

/// What parts a text before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parting {
    Start,
    Blank,
    /// The number of a list of people, or a line with a whole person on it.
    Sure,
}

#[derive(Debug, Clone)]
struct Placed<'a> {
    piece: Piece<'a>,
    /// A card stands behind it on its line.
    with_card: bool,
    /// Nothing else stands on its line.
    alone: bool,
}

/// Lines that stand together, with nobody on both sides of their ends, unless the writer likes blank lines.
#[derive(Debug, Clone)]
struct Block<'a> {
    parting: Parting,
    pieces: Vec<Placed<'a>>,
    /// A table's head above says that the KK stands before the NIK.
    kk_first: bool,
}

/// The people of a cleaned text, good and bad, and the lines that belong to none of them.
pub fn drafts<'a>(provider: Provider, cleaned: &'a str) -> (Vec<Draft<'a>>, Vec<&'a str>) {
    let blocks = blocks(provider, cleaned);
    let certain = |draft: &Draft<'a>| draft.is_complete(provider) && !draft.unclear && !draft.trailing_name;
    let by_blanks = with_shared_kk(together(provider, joined(provider, &blocks)));
    if by_blanks.iter().all(certain) || blocks.iter().all(|block| block.parting != Parting::Blank) {
        return finish(by_blanks);
    }
    // Blank lines anywhere: then everything has its place without them.
    let read =
        without_blanks(&blocks).iter().map(|block| (block.parting, read_block(provider, block))).collect();
    let without = together(provider, read);
    if without.iter().all(certain) { finish(without) } else { finish(by_blanks) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// A name is the last of a person, or stands among the numbers: it fills the place that is free. Else it begins
    /// the next person.
    name_fills: bool,
    /// Only what a label says to be a name is one.
    labelled_names: bool,
    /// A birth date is the first of a person, as in a text that begins with one.
    date_begins: bool,
}

/// The ways in which a block may be meant. One that begins with a name has its names in front.
fn ways(provider: Provider, block: &Block<'_>) -> Vec<Way> {
    let pieces = || block.pieces.iter().map(|placed| &placed.piece);
    let name = |wanted: Option<bool>| {
        pieces().any(|piece| matches!(piece, Piece::Name { labelled, .. } if wanted.is_none_or(|wanted| wanted == *labelled)))
    };
    let both = name(Some(true)) && name(Some(false));
    let either = |possible: bool| [false, true].into_iter().filter(move |way| possible || !way);
    let mut ways = Vec::new();
    for labelled_names in either(both) {
        let first = pieces().find(|piece| match piece {
            Piece::Name { labelled, .. } => *labelled || !labelled_names,
            Piece::Number(_) => true,
            Piece::Date { .. } | Piece::Kind(_) | Piece::Withdrawn => false,
        });
        let name_first = matches!(first, None | Some(Piece::Name { .. }));
        let date_begins =
            provider == Provider::PasarJaya && matches!(pieces().next(), Some(Piece::Date { .. }));
        for name_fills in either(name(None) && !name_first) {
            ways.push(Way { name_fills, labelled_names, date_begins });
        }
    }
    ways
}

/// The people of a block. Of several ways to read it those count in which the fewest lack something; who is not the
/// same in all of these is unclear.
fn read_block<'a>(provider: Provider, block: &Block<'a>) -> Vec<Draft<'a>> {
    // Twice, so that a name that is not used weighs less than a person.
    let lacking = |way: Way, drafts: &[Draft<'a>]| {
        let lacks = |draft: &&Draft<'a>| {
            if draft.has_numbers() {
                !draft.is_complete(provider)
            } else {
                draft.name.is_some_and(|name| name.labelled)
            }
        };
        let unused = drafts.iter().filter(|draft| way.labelled_names && !draft.has_numbers()).count();
        // Where names come last, one must come last.
        let ends_otherwise = way.name_fills
            && drafts.iter().filter(|draft| draft.has_numbers()).count() > 1
            && drafts.last().is_some_and(|last| last.name.is_none());
        2 * (drafts.iter().filter(lacks).count() + usize::from(ends_otherwise)) + unused
    };
    let read = |way| {
        let drafts = assemble(provider, block, way);
        (lacking(way, &drafts), drafts)
    };
    let readings: Vec<(usize, Vec<Draft<'a>>)> = ways(provider, block).into_iter().map(read).collect();
    let fewest = readings.iter().map(|(lacking, _)| *lacking).min().unwrap_or(0);
    let mut best = readings.into_iter().filter(|(lacking, _)| *lacking == fewest).map(|(_, drafts)| drafts);
    let mut chosen = best.next().unwrap_or_default();
    for other in best {
        let keys: HashSet<_> = other.iter().map(Draft::key).collect();
        let by_card: HashMap<&str, &Draft<'a>> =
            other.iter().filter_map(|draft| Some((draft.card_digits()?, draft))).collect();
        let by_name: HashMap<&str, &Draft<'a>> =
            other.iter().filter_map(|draft| Some((draft.name?.text, draft))).collect();
        for draft in chosen.iter_mut().filter(|draft| draft.has_numbers() && !keys.contains(&draft.key())) {
            let same_card = draft.card_digits().and_then(|card| by_card.get(card));
            let same = same_card.or_else(|| draft.name.and_then(|name| by_name.get(name.text)));
            let same = same.map(|other| Box::new((*other).clone()));
            draft.unclear = true;
            draft.other_way = same;
        }
    }
    // Where the names stand cannot be told, if numbers come first and nothing says what is a name.
    let numbers_first = matches!(block.pieces.first(), Some(Placed { piece: Piece::Number(_), .. }));
    if numbers_first && chosen.iter().filter(|draft| draft.has_numbers()).count() > 1 {
        for draft in &mut chosen {
            draft.unclear |= draft.name.is_some_and(|name| !name.labelled);
        }
    }
    if let Some(first) = chosen.first_mut() {
        first.first = true;
    }
    chosen
}

/// The lines of a cleaned text with what they are made of; `None` for blank ones.
pub fn lines(cleaned: &str) -> Vec<Option<(&str, Line<'_>)>> {
    let mut all = Vec::new();
    let mut awaited: Vec<Label> = Vec::new();
    for line in cleaned.split('\n').map(str::trim) {
        if line.is_empty() {
            all.push(None);
            continue;
        }
        let read = lines::of(line, &awaited);
        // A label of the next line; more of them are the head of a table, or a form that was not filled in.
        awaited = if read.labels.len() <= MOST_AWAITED { read.labels.clone() } else { Vec::new() };
        all.push(Some((line, read)));
    }
    all
}

/// Whether the numbers of a list number people, so that each begins one: not when they number every line. Each line
/// with its number, and whether a name is on it.
fn begins_person(lines: &[(Option<u8>, bool)]) -> Vec<bool> {
    let given: Vec<u8> = lines.iter().filter_map(|(number, _)| *number).collect();
    let named = lines.iter().filter(|(number, named)| number.is_some() && *named).count();
    let rising = (given.len() > 1 || given.first() > Some(&1))
        && given.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    if rising && 2 * given.len() <= lines.len() && 2 * named >= given.len() {
        return lines.iter().map(|(number, _)| number.is_some()).collect();
    }
    // Lines are numbered, anew for each person.
    let again = given.iter().filter(|number| **number == 1).count() > 1;
    lines.iter().map(|(number, _)| again && *number == Some(1)).collect()
}

fn blocks<'a>(provider: Provider, cleaned: &'a str) -> Vec<Block<'a>> {
    let lines = lines(cleaned);
    let counts = |line: &str, read: &Line<'_>| {
        !read.pieces.is_empty() || (read.perhaps_name && lines::ordinal(line).is_some())
    };
    let named = |read: &Line<'_>| {
        read.perhaps_name || read.pieces.iter().any(|piece| matches!(piece, Piece::Name { .. }))
    };
    let ordinals: Vec<(Option<u8>, bool)> = lines
        .iter()
        .flatten()
        .filter(|(line, read)| counts(line, read))
        .map(|(line, read)| (lines::ordinal(line), named(read)))
        .collect();
    let mut begins = begins_person(&ordinals).into_iter();
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut parting = Parting::Start;
    let mut kk_first = false;
    for line in lines {
        let Some((line, read)) = line else {
            parting = parting.max(Parting::Blank);
            continue;
        };
        let head = |wanted| read.labels.iter().position(|label| *label == wanted);
        if let (Some(nik), Some(kk)) = (head(Label::Nik), head(Label::Kk)) {
            kk_first = kk < nik;
        }
        if counts(line, &read) && begins.next() == Some(true) {
            parting = Parting::Sure;
        }
        if read.pieces.is_empty() {
            // Between two people, or instead of a name.
            if read.perhaps_name && !blocks.is_empty() {
                parting = parting.max(Parting::Blank);
            }
            continue;
        }
        let count = |of: fn(&Piece<'_>) -> bool| read.pieces.iter().filter(|piece| of(piece)).count();
        let names = count(|piece| matches!(piece, Piece::Name { .. }));
        let dates = count(|piece| matches!(piece, Piece::Date { .. }));
        let cards = count(|piece| matches!(piece, Piece::Number(Number { of: Some(Of::Card), .. })));
        let sixteens = count(|piece| matches!(piece, Piece::Number(_))) - cards;
        let whole = names > 0 && cards > 0 && sixteens >= SIXTEENS;
        if whole {
            parting = Parting::Sure;
        }
        let is_card =
            |piece: &Piece<'_>| matches!(piece, Piece::Number(number) if number.of == Some(Of::Card));
        let card = read.pieces.iter().position(is_card);
        let alone = read.pieces.len() == 1;
        let placed = read.pieces.into_iter().enumerate().map(|(at, piece)| Placed {
            piece,
            with_card: card.is_some_and(|card| at < card),
            alone,
        });
        match (parting, blocks.last_mut()) {
            (Parting::Start, Some(block)) => block.pieces.extend(placed),
            _ => blocks.push(Block { parting, pieces: placed.collect(), kk_first }),
        }
        let closed = whole && (provider != Provider::PasarJaya || dates > 0);
        parting = if closed { Parting::Sure } else { Parting::Start };
    }
    blocks
}

fn without_blanks<'a>(blocks: &[Block<'a>]) -> Vec<Block<'a>> {
    let mut all: Vec<Block<'a>> = Vec::new();
    for block in blocks {
        match all.last_mut() {
            Some(before) if block.parting == Parting::Blank => {
                before.pieces.extend(block.pieces.iter().cloned())
            }
            _ => all.push(block.clone()),
        }
    }
    all
}

/// The people of blocks, in order.
fn together<'a>(provider: Provider, blocks: Vec<(Parting, Vec<Draft<'a>>)>) -> Vec<Draft<'a>> {
    let mut all: Vec<Draft<'a>> = Vec::new();
    for (parting, mut drafts) in blocks {
        // What stands before the name may be the rest of the person above.
        if parting == Parting::Blank
            && all.last().is_some_and(|above| above.has_numbers() && !above.is_complete(provider))
            && let Some(first) = drafts.first_mut()
        {
            first.unclear |= first.name_behind;
        }
        all.extend(drafts);
    }
    all
}

/// The people of each block. Blocks that are one person together are one: some put a blank line between all lines.
fn joined<'a>(provider: Provider, blocks: &[Block<'a>]) -> Vec<(Parting, Vec<Draft<'a>>)> {
    let mut read: Vec<Vec<Draft<'a>>> = blocks.iter().map(|block| read_block(provider, block)).collect();
    let lacks_kk =
        |drafts: &[Draft<'a>]| matches!(drafts, [draft] if draft.card.is_some() && draft.sixteens.len() == 1);
    let lacking_kk = read.iter().filter(|drafts| lacks_kk(drafts)).count();
    let mut joined = Vec::with_capacity(blocks.len());
    let mut place = 0;
    while place < blocks.len() {
        let mut after = place + 1;
        if matches!(&read[place][..], [draft] if draft.name.is_some() && !draft.is_complete(provider)) {
            let has_card = read[place][0].card.is_some();
            let mut whole = blocks[place].clone();
            for next in place + 1..blocks.len().min(place + MOST_PARTS) {
                let [part] = &read[next][..] else { break };
                // One KK that may be for all.
                let within = read[place..=next].iter().filter(|drafts| lacks_kk(drafts)).count();
                let shared =
                    has_card && part.card.is_none() && part.sixteens.len() == 1 && lacking_kk > within;
                if blocks[next].parting != Parting::Blank || part.name.is_some() || shared {
                    break;
                }
                whole.pieces.extend(blocks[next].pieces.iter().cloned());
                let drafts = read_block(provider, &whole);
                if matches!(&drafts[..], [draft] if draft.is_complete(provider)) {
                    read[place] = drafts;
                    after = next + 1;
                    break;
                }
            }
        }
        joined.push((blocks[place].parting, std::mem::take(&mut read[place])));
        place = after;
    }
    joined
}

fn assemble<'a>(provider: Provider, block: &Block<'a>, way: Way) -> Vec<Draft<'a>> {
    let mut all: Vec<Draft<'a>> = Vec::new();
    let mut draft = Draft::default();
    let mut kind = None;
    macro_rules! close {
        () => {
            if !draft.is_empty() {
                all.push(std::mem::take(&mut draft));
            }
        };
    }
    for Placed { piece, with_card, alone } in &block.pieces {
        match piece {
            Piece::Withdrawn => {
                let taken_back = if draft.is_empty() { all.last_mut() } else { Some(&mut draft) };
                if let Some(taken_back) = taken_back {
                    taken_back.unclear = true;
                }
            }
            Piece::Kind(found) => match &mut draft.card {
                Some(card) if card.kind.is_none() && draft.sixteens.len() < SIXTEENS => {
                    card.kind = Some(*found)
                }
                _ => kind = Some(*found),
            },
            Piece::Name { labelled: false, text, .. } if way.labelled_names => {
                all.push(Draft { name: Some(NameText { text, labelled: false }), ..Draft::default() });
            }
            Piece::Name { text, labelled: false, .. }
                if *with_card && draft.name.is_some() && !draft.has_numbers() =>
            {
                draft.beside_card = Some(text);
            }
            // Where somebody was born.
            Piece::Name { before_date: true, labelled: false, .. } => {}
            Piece::Name { text, labelled, .. } => {
                if draft.name.is_some() || (!way.name_fills && draft.has_numbers()) {
                    close!();
                }
                draft.name_behind = !labelled && draft.has_numbers();
                draft.trailing_name = draft.name_behind && *alone && draft.has_all_but_name(provider);
                draft.name = Some(NameText { text, labelled: *labelled });
            }
            Piece::Date { text, .. } => {
                if provider == Provider::PasarJaya {
                    if draft.date.is_some() || (way.date_begins && !draft.is_empty()) {
                        close!();
                    }
                    draft.date = Some(text);
                }
            }
            Piece::Number(number) => {
                let mut number = number.clone();
                let is_card = number.of == Some(Of::Card);
                let again = is_card && draft.card.as_ref().is_some_and(|card| card.digits == number.digits);
                if is_card && !again {
                    if draft.card.is_some() || draft.is_complete(provider) {
                        close!();
                    }
                    number.kind = number.kind.or(kind.take());
                    draft.card = Some(number);
                } else {
                    if again {
                        number.of = None;
                    }
                    let same =
                        number.of.is_some() && draft.sixteens.iter().any(|other| other.of == number.of);
                    if draft.sixteens.len() == SIXTEENS
                        && draft.card.is_none()
                        && !same
                        && draft.sixteens.iter().all(|other| other.of.is_none())
                    {
                        // Three numbers, and none of them is a card: the first was meant as one.
                        let mut card = draft.sixteens.remove(0);
                        card.of = Some(Of::Card);
                        draft.card = Some(card);
                    } else if draft.sixteens.len() == SIXTEENS || same {
                        close!();
                    }
                    draft.kk_first = block.kk_first;
                    draft.sixteens.push(number);
                }
            }
        }
    }
    close!();
    // Among several people a name that stands behind numbers may be the one of the next.
    if all.len() > 1 {
        for draft in &mut all {
            draft.trailing_name |= draft.name_behind;
        }
    }
    all
}

/// One KK for all, at the top or at the bottom.
fn with_shared_kk(drafts: Vec<Draft<'_>>) -> Vec<Draft<'_>> {
    let shared: Vec<usize> = (0..drafts.len()).filter(|place| drafts[*place].is_shared_kk()).collect();
    let [place] = shared[..] else { return drafts };
    let kk = drafts[place].sixteens[0].clone();
    let lacks_kk = |draft: &Draft<'_>| {
        draft.card.is_some() && matches!(&draft.sixteens[..], [nik] if nik.of != Some(Of::Kk))
    };
    let mut others = drafts.clone();
    others.remove(place);
    let people = others.iter().filter(|draft| draft.has_numbers()).count();
    let outside = place == 0 || place + 1 == drafts.len();
    if !outside || people == 0 || !others.iter().filter(|draft| draft.has_numbers()).all(lacks_kk) {
        return drafts;
    }
    for draft in others.iter_mut().filter(|draft| draft.has_numbers()) {
        draft.sixteens.push(kk.clone());
    }
    others
}

/// Takes out what is no person: lines without a number, numbers that are left over.
fn finish(drafts: Vec<Draft<'_>>) -> (Vec<Draft<'_>>, Vec<&str>) {
    let mut people: Vec<Draft<'_>> = Vec::with_capacity(drafts.len());
    let mut rest = Vec::new();
    let mut name_before: Option<&str> = None;
    for mut draft in drafts {
        match (draft.has_numbers(), draft.name) {
            (false, Some(name)) => {
                rest.push(name.text);
                name_before = Some(name.text);
                continue;
            }
            (false, None) => {
                // A date that is left over.
                if let Some(last) = people.last_mut() {
                    last.surplus |= !draft.first;
                }
                continue;
            }
            (true, _) => {}
        }
        if let Some(before) = name_before.take()
            && !draft.first
            && draft.name.is_some_and(|name| !name.labelled)
        {
            rest.pop();
            draft.other_name = Some(before);
        }
        let numbers = draft.sixteens.len() + usize::from(draft.card.is_some());
        let stray = draft.name.is_none() && numbers <= 1;
        match people.last_mut() {
            Some(last) if stray && !draft.first => last.surplus = true,
            // Alone between people it is nobody's.
            Some(_) if stray => {
                rest.extend(draft.card.iter().chain(&draft.sixteens).map(|number| number.written))
            }
            _ => people.push(draft),
        }
    }
    (people, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_list_begin_people_or_lines() {
        let name = |number| (Some(number), true);
        let number = |number| (Some(number), false);
        let more = (None, false);
        let of = |lines: &[(Option<u8>, bool)]| -> Vec<usize> {
            let begins = begins_person(lines);
            (0..lines.len()).filter(|place| begins[*place]).collect()
        };
        assert_eq!(of(&[name(1), more, more, name(2), more, more]), [0, 3]);
        assert_eq!(of(&[number(1), more, more, name(2), more, more]), [0, 3]);
        assert_eq!(of(&[name(1), number(2), name(1), number(2)]), [0, 2]);
        assert_eq!(of(&[name(1), number(2), number(3), number(4)]), [0; 0]);
        assert_eq!(of(&[(None, true), more, number(1), number(2)]), [0; 0]);
        assert_eq!(of(&[(None, true), number(2), more, more]), [0; 0]);
        assert_eq!(of(&[more, more]), [0; 0]);
    }
}

//! What repeats is written once and then counted: an outage of an hour is two lines, not ten thousand.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// For so long the same line is only counted; then the count is written, and the line may come again.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Lines that are remembered at most; the one that was written first makes room. A bot in trouble
/// repeats a handful.
const MOST: usize = 64;

/// So much of a line, in bytes, stands beside its count.
const SHOWN_BYTES: usize = 160;

/// Lines of the last minutes, the oldest first.
#[derive(Default)]
pub(super) struct Repeats {
    seen: Vec<Seen>,
    hasher: RandomState,
}

struct Seen {
    /// Of the whole line. Two lines with the same one are taken for the same: one in 2⁶⁴.
    hash: u64,
    begin: String,
    since: Instant,
    again: u32,
}

impl Seen {
    /// The line about what was not written, if there was something.
    fn count(&self, now: Instant) -> Option<String> {
        let minutes = now.saturating_duration_since(self.since).as_secs().div_ceil(60).max(1);
        let (times, minutes_word) = (self.again, if minutes == 1 { "minute" } else { "minutes" });
        let time_word = if times == 1 { "time" } else { "times" };
        (times > 0)
            .then(|| format!("{} … repeated {times} {time_word} in {minutes} {minutes_word}", self.begin))
    }
}

impl Repeats {
    /// What is to be written when `line` comes at `now`: the counts that are due, and the line if it is
    /// not a repetition.
    pub fn take(&mut self, line: &str, now: Instant) -> Vec<String> {
        let mut written = self.due(now);
        let hash = self.hasher.hash_one(line);
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.hash == hash) {
            seen.again = seen.again.saturating_add(1);
            return written;
        }
        if self.seen.len() == MOST {
            written.extend(self.seen.remove(0).count(now));
        }
        let begin = line[..line.floor_char_boundary(SHOWN_BYTES)].to_owned();
        self.seen.push(Seen { hash, begin, since: now, again: 0 });
        written.push(line.to_owned());
        written
    }

    /// The counts of lines whose time is over.
    fn due(&mut self, now: Instant) -> Vec<String> {
        let over = self.seen.partition_point(|seen| now.saturating_duration_since(seen.since) >= WINDOW);
        self.seen.drain(..over).filter_map(|seen| seen.count(now)).collect()
    }

    /// The counts of all lines. Those whose time is not over go on being counted, from nought.
    pub fn end(&mut self, now: Instant) -> Vec<String> {
        let mut written = self.due(now);
        for seen in &mut self.seen {
            written.extend(seen.count(now));
            seen.again = 0;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_line_is_written_once_then_counted_then_written_again() {
        let mut repeats = Repeats::default();
        let begin = clock::now();
        assert_eq!(repeats.take("disk full", begin), ["disk full"]);
        for second in 1..599 {
            assert!(repeats.take("disk full", begin + Duration::from_secs(second)).is_empty());
        }
        assert_eq!(repeats.take("other", begin + MINUTE), ["other"]);
        let expected = ["disk full … repeated 598 times in 10 minutes", "disk full"];
        assert_eq!(repeats.take("disk full", begin + 10 * MINUTE), expected);
        assert!(repeats.end(begin + 10 * MINUTE).is_empty());
    }

    #[test]
    fn the_count_is_said_at_the_end_and_only_once() {
        let mut repeats = Repeats::default();
        let begin = clock::now();
        for _ in 0..3 {
            repeats.take("a", begin);
        }
        repeats.take("b", begin);
        assert_eq!(repeats.end(begin + MINUTE), ["a … repeated 2 times in 1 minute"]);
        assert!(repeats.end(begin + MINUTE).is_empty());
        repeats.take("a", begin + MINUTE);
        assert_eq!(repeats.end(begin + 2 * MINUTE), ["a … repeated 1 time in 2 minutes"]);
    }

    #[test]
    fn many_different_lines_do_not_grow_the_memory_and_lose_no_count() {
        let mut repeats = Repeats::default();
        let begin = clock::now();
        repeats.take("first", begin);
        repeats.take("first", begin);
        let written: Vec<String> =
            (0..1000).flat_map(|n| repeats.take(&format!("{n} {}", "é".repeat(500)), begin)).collect();
        assert_eq!(written.len(), 1001);
        assert_eq!(written[MOST - 1], "first … repeated 1 time in 1 minute");
        assert_eq!(repeats.seen.len(), MOST);
        assert!(repeats.seen.iter().all(|seen| seen.begin.len() <= SHOWN_BYTES));
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_counted(lines in prop::collection::vec((0..80_u8, 0..200_u64), 0..300)) {
            let mut repeats = Repeats::default();
            let mut now = clock::now();
            let mut written = Vec::new();
            for (line, seconds) in &lines {
                now += Duration::from_secs(*seconds);
                written.extend(repeats.take(&format!("line {line}"), now));
            }
            written.extend(repeats.end(now));
            let counted: usize = written
                .iter()
                .map(|line| match line.split_once("repeated ") {
                    Some((_, rest)) => rest.split(' ').next().unwrap().parse().unwrap(),
                    None => 1,
                })
                .sum();
            prop_assert_eq!(counted, lines.len());
        }
    }
}

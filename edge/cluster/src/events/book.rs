//! Which events there were, and which should be sent now. Pure: time is an argument.

use vpc_agent::ClusterEvent;
use vpc_model::{Millis, Time, WallTime};

/// Different events that are remembered.
const ENTRIES: usize = 64;

/// The same event within this time after its last occurrence is one more of a series.
const WINDOW: Millis = Millis::seconds(600);

/// Least time between two words on the same series.
const SERIES_EVERY: Millis = Millis::seconds(10);

/// Requests that may be made at once, and how long it takes until one more may: some 700 an hour.
const BURST: u32 = 20;
const REFILL: Millis = Millis::seconds(5);

/// One event with its occurrences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) event: ClusterEvent,
    /// Occurrences.
    pub(super) count: u32,
    pub(super) first: WallTime,
    pub(super) last: WallTime,
    /// Namespace and name of the object in the API, once there is one.
    pub(super) object: Option<(String, String)>,
    number: u64,
    last_at: Time,
    /// Occurrences that the API knows of.
    told: u32,
    not_before: Time,
    refused: bool,
}

/// The events of the last minutes.
#[derive(Debug)]
pub(super) struct Book {
    entries: Vec<Entry>,
    next_number: u64,
    tokens: u32,
    refilled: Time,
    lost: u64,
}

impl Book {
    pub(super) fn new(now: Time) -> Self {
        Self { entries: Vec::new(), next_number: 0, tokens: BURST, refilled: now, lost: 0 }
    }

    /// An event happened.
    pub(super) fn add(&mut self, now: Time, wall: WallTime, event: ClusterEvent) {
        self.forget_old(now);
        if let Some(entry) = self.entries.iter_mut().find(|entry| is_same(&entry.event, &event)) {
            entry.count = entry.count.saturating_add(1);
            (entry.last, entry.last_at) = (wall, now);
            return;
        }
        if self.entries.len() >= ENTRIES {
            self.make_room();
        }
        self.next_number += 1;
        self.entries.push(Entry {
            event,
            count: 1,
            first: wall,
            last: wall,
            object: None,
            number: self.next_number,
            last_at: now,
            told: 0,
            not_before: now,
            refused: false,
        });
    }

    /// What to send now. Takes a token; [`Book::told`], [`Book::refused`] or [`Book::unsent`] tells how it went.
    pub(super) fn take(&mut self, now: Time) -> Option<Entry> {
        self.forget_old(now);
        self.refill(now);
        if self.tokens == 0 {
            return None;
        }
        let due = self.entries.iter().filter(|entry| entry.is_open() && entry.not_before <= now);
        let entry = due.min_by_key(|entry| (entry.told > 0, entry.not_before, entry.number))?.clone();
        self.tokens -= 1;
        Some(entry)
    }

    /// When there may be something to send; `None`: nothing waits.
    pub(super) fn next(&mut self, now: Time) -> Option<Time> {
        self.refill(now);
        let due = self.entries.iter().filter(|entry| entry.is_open()).map(|entry| entry.not_before).min()?;
        Some(if self.tokens == 0 { due.max(self.refilled + REFILL) } else { due })
    }

    /// The API has it as it was taken.
    pub(super) fn told(&mut self, now: Time, sent: &Entry, object: (String, String)) {
        if let Some(entry) = self.find(sent) {
            entry.object = Some(object);
            entry.told = sent.count;
            entry.not_before = now + SERIES_EVERY;
        }
    }

    /// The object of a series is gone: it expired, or somebody deleted it. It is made anew.
    pub(super) fn vanished(&mut self, sent: &Entry) {
        if let Some(entry) = self.find(sent) {
            entry.object = None;
        }
    }

    /// The API will not have it, now or later.
    pub(super) fn refused(&mut self, sent: &Entry) {
        if let Some(entry) = self.find(sent) {
            entry.refused = true;
        }
    }

    /// It could not be sent: later again.
    pub(super) fn unsent(&mut self, now: Time, sent: &Entry, pause: Millis) {
        self.tokens = (self.tokens + 1).min(BURST);
        if let Some(entry) = self.find(sent) {
            entry.not_before = now + pause;
        }
    }

    /// Events that were forgotten before the API had them.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Nothing waits to be sent.
    #[cfg(test)]
    fn is_quiet(&self) -> bool {
        !self.entries.iter().any(Entry::is_open)
    }

    fn find(&mut self, sent: &Entry) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.number == sent.number)
    }

    fn refill(&mut self, now: Time) {
        let earned = now.since(self.refilled).0 / REFILL.0;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(BURST);
            self.refilled = self.refilled + Millis(earned * REFILL.0);
        }
    }

    fn forget_old(&mut self, now: Time) {
        let (kept, old): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| now.since(entry.last_at) < WINDOW);
        self.entries = kept;
        old.iter().for_each(|entry| self.count_lost(entry));
    }

    /// The entry that was heard of least recently goes.
    fn make_room(&mut self) {
        let oldest = (0..self.entries.len()).min_by_key(|at| self.entries[*at].last_at);
        if let Some(at) = oldest {
            let entry = self.entries.swap_remove(at);
            self.count_lost(&entry);
        }
    }

    fn count_lost(&mut self, entry: &Entry) {
        self.lost += if entry.refused { 0 } else { u64::from(entry.count - entry.told) };
    }
}

/// The same happened again, though it took other times or concerned other numbers of pods.
fn is_same(one: &ClusterEvent, other: &ClusterEvent) -> bool {
    let head = |event: &ClusterEvent| (event.warning, event.reason);
    head(one) == head(other)
        && one.about == other.about
        && one.action == other.action
        && shape(&one.note).eq(shape(&other.note))
}

/// The words of a note; numbers that stand alone are all the same. Ids and addresses are words.
fn shape(note: &str) -> impl Iterator<Item = &str> {
    note.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation());
        if !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit() || b == b'.') && bare.parse::<f64>().is_ok() {
            "#"
        } else {
            word
        }
    })
}

impl Entry {
    fn is_open(&self) -> bool {
        self.told < self.count && !self.refused
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_agent::About;

    use super::*;

    fn event(note: &str) -> ClusterEvent {
        ClusterEvent { about: About::Node, warning: true, reason: "Test", action: "a".into(), note: note.into() }
    }

    const WALL: WallTime = WallTime(7);

    fn at(seconds: u64) -> Time {
        Time(seconds * 1000)
    }

    fn object() -> (String, String) {
        ("default".into(), "e".into())
    }

    #[test]
    fn the_same_again_is_counted_and_told_at_intervals() {
        let mut book = Book::new(at(0));
        book.add(at(0), WALL, event("x"));
        let first = book.take(at(0)).unwrap();
        assert_eq!((first.count, &first.object), (1, &None));
        // What happens while it is sent is not forgotten.
        book.add(at(0), WALL, event("x"));
        book.told(at(0), &first, object());
        assert_eq!(book.take(at(1)), None);
        assert_eq!(book.next(at(1)), Some(at(10)));
        (0..1000).for_each(|_| book.add(at(2), WallTime(9), event("x")));
        let series = book.take(at(10)).unwrap();
        assert_eq!((series.count, series.last, series.object.clone()), (1002, WallTime(9), Some(object())));
        book.told(at(10), &series, object());
        assert!(book.is_quiet() && book.next(at(10)).is_none());
        // After the window it is a new event.
        book.add(at(700), WALL, event("x"));
        let again = book.take(at(700)).unwrap();
        assert_eq!((again.count, again.object), (1, None));
        assert_eq!(book.lost(), 0);
    }

    #[test]
    fn a_flood_of_different_events_is_paced_and_bounded() {
        let mut book = Book::new(at(0));
        (0..1000).for_each(|n| book.add(at(0), WALL, event(&format!("pod-{n}"))));
        let mut sent = 0;
        while let Some(entry) = book.take(at(0)) {
            book.told(at(0), &entry, object());
            sent += 1;
        }
        assert_eq!(sent, BURST);
        assert_eq!(book.next(at(0)), Some(at(5)));
        assert!(book.take(at(4)).is_none() && book.take(at(5)).is_some());
        assert_eq!(book.lost(), 1000 - ENTRIES as u64);
    }

    #[test]
    fn what_can_not_be_sent_is_tried_again_until_nobody_wants_it() {
        let mut book = Book::new(at(0));
        book.add(at(0), WALL, event("x"));
        for second in 0..500 {
            if let Some(entry) = book.take(at(second)) {
                book.unsent(at(second), &entry, Millis::seconds(5));
            }
        }
        assert_eq!(book.lost(), 0);
        assert_eq!(book.take(at(601)), None);
        assert_eq!(book.lost(), 1);
        // A refused one is not tried again, nor counted as lost.
        book.add(at(700), WALL, event("y"));
        let entry = book.take(at(700)).unwrap();
        book.refused(&entry);
        book.add(at(701), WALL, event("y"));
        assert!(book.take(at(720)).is_none() && book.is_quiet());
        book.add(at(5000), WALL, event("z"));
        assert_eq!(book.lost(), 1);
    }

    #[test]
    fn numbers_make_no_other_event_and_names_do() {
        let same = |one: &str, other: &str| is_same(&event(one), &event(other));
        assert!(same("failed; tried again in 2.3 s (1 pods wait)", "failed; tried again in 17 s (12 pods wait)"));
        assert!(!same("subnet-0123 is full", "subnet-0456 is full"));
        assert!(!same("10.0.0.1 is taken", "10.0.0.2 is taken"));
        assert!(!same("in 3 s", "in 3 s more"));
        let other = ClusterEvent { reason: "Other", ..event("x") };
        assert!(!is_same(&other, &event("x")));
    }

    #[test]
    fn a_series_whose_object_has_gone_is_made_anew() {
        let mut book = Book::new(at(0));
        book.add(at(0), WALL, event("x"));
        let entry = book.take(at(0)).unwrap();
        book.told(at(0), &entry, object());
        book.add(at(1), WALL, event("x"));
        let series = book.take(at(10)).unwrap();
        book.vanished(&series);
        let anew = book.take(at(10)).unwrap();
        assert_eq!((anew.object, anew.count), (None, 2));
    }
}

//! What was said, what waits to be said, and how much may be said: no input or output.
//!
//! The same event again within six minutes becomes a count in the one that stands (a *series*). About one object at most
//! 25 events are said at once and one more every five minutes, the measure that Kubernetes' own components keep. At most
//! 256 events are kept at a time, so an API server that stays away costs no more than that.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::{Event, Regarding};

/// How many events are kept, said or waiting.
const KEPT: usize = 256;
/// How long after its last time an event can still be the same one.
const SERIES: SignedDuration = SignedDuration::from_mins(6);
/// How far apart the counts of a series are told.
const BETWEEN_COUNTS: SignedDuration = SignedDuration::from_secs(10);
/// Events about one object at once.
const BURST: u32 = 25;
/// How long until one more may be said about an object.
const REFILL: SignedDuration = SignedDuration::from_mins(5);

/// Everything that is remembered of events.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<Event, Entry>,
    spent: HashMap<Regarding, Bucket>,
    /// Events that were not said at all.
    dropped: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Order of arrival.
    number: u64,
    first: Timestamp,
    last: Timestamp,
    count: i32,
    /// The count that the API server knows; 0 while it has none.
    told: i32,
    told_at: Option<Timestamp>,
    /// Name of the object there.
    name: String,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    spent: u32,
    refilled: Timestamp,
}

/// One event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) event: Event,
    /// Name of its object.
    pub(super) name: String,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: i32,
    /// Whether it is there already and only its count is new.
    pub(super) stands: bool,
}

impl Ledger {
    /// Takes an event in; says nothing yet. `false` when it was dropped.
    pub(super) fn observe(&mut self, event: Event, now: Timestamp) -> bool {
        self.forget_old(now);
        if let Some(entry) = self.entries.get_mut(&event) {
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
            return true;
        }
        if !self.has_room() || !self.spend(&event.regarding, now) {
            self.dropped += 1;
            return false;
        }
        let number = self.entries.values().map(|entry| entry.number + 1).max().unwrap_or_default();
        let name = object_name(&event.regarding, now, number);
        let entry = Entry { number, first: now, last: now, count: 1, told: 0, told_at: None, name };
        self.entries.insert(event, entry);
        true
    }

    /// The oldest event that has something to tell now.
    pub(super) fn due(&self, now: Timestamp) -> Option<Due> {
        let ready = |entry: &Entry| {
            entry.count > entry.told && entry.told_at.is_none_or(|told| now.duration_since(told) >= BETWEEN_COUNTS)
        };
        let (event, entry) = self.entries.iter().filter(|(_, entry)| ready(entry)).min_by_key(|(_, e)| e.number)?;
        let Entry { first, last, count, ref name, told, .. } = *entry;
        Some(Due { event: event.clone(), name: name.clone(), first, last, count, stands: told > 0 })
    }

    /// How long until something is due, when nothing is now.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<SignedDuration> {
        let waiting = self.entries.values().filter(|entry| entry.count > entry.told);
        waiting.filter_map(|entry| Some(BETWEEN_COUNTS - now.duration_since(entry.told_at?))).min()
    }

    /// It was written.
    pub(super) fn told(&mut self, due: &Due, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&due.event) {
            entry.told = due.count;
            entry.told_at = Some(now);
        }
    }

    /// It stands no longer where it was: the API server keeps events for an hour.
    pub(super) fn lost(&mut self, due: &Due, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&due.event) {
            entry.told = 0;
            entry.told_at = None;
            entry.name = object_name(&due.event.regarding, now, entry.number);
        }
    }

    /// It can never be written.
    pub(super) fn give_up(&mut self, due: &Due) {
        self.entries.remove(&due.event);
        self.dropped += 1;
    }

    /// How many events were not said, since the start.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| entry.count > entry.told || now.duration_since(entry.last) < SERIES);
        self.spent.retain(|_, bucket| bucket.after_refill(now).spent > 0);
    }

    /// Makes room by forgetting the oldest event that was told; there is none when everything waits.
    fn has_room(&mut self) -> bool {
        if self.entries.len() < KEPT {
            return true;
        }
        let told = self.entries.iter().filter(|(_, entry)| entry.count == entry.told);
        let oldest = told.min_by_key(|(_, entry)| entry.number).map(|(event, _)| event.clone());
        oldest.is_some_and(|event| self.entries.remove(&event).is_some())
    }

    fn spend(&mut self, regarding: &Regarding, now: Timestamp) -> bool {
        let bucket = self.spent.entry(regarding.clone()).or_insert(Bucket { spent: 0, refilled: now });
        *bucket = bucket.after_refill(now);
        let may = bucket.spent < BURST;
        bucket.spent += u32::from(may);
        may
    }
}

impl Bucket {
    fn after_refill(self, now: Timestamp) -> Self {
        let passed = now.duration_since(self.refilled).as_secs().max(0) / REFILL.as_secs();
        let refilled = u32::try_from(passed).unwrap_or(u32::MAX);
        if refilled == 0 {
            return self;
        }
        Self { spent: self.spent.saturating_sub(refilled), refilled: now }
    }
}

/// A name that no other event has.
fn object_name(regarding: &Regarding, now: Timestamp, number: u64) -> String {
    let (Regarding::Node { name } | Regarding::Pod { name, .. }) = regarding;
    format!("{name}.{:x}{number:02x}", now.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn event(node: &str, note: &str) -> Event {
        let (kind, reason, action) = (EventKind::Warning, "MpsFault", "Recovering");
        Event { regarding: Regarding::node(node), kind, reason, action, note: note.to_owned() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    #[test]
    fn repeats_become_the_count_of_one_event_told_ten_seconds_apart() {
        let mut ledger = Ledger::default();
        ledger.observe(event("n", "a"), at(0));
        let first = ledger.due(at(0)).expect("due");
        assert_eq!((first.count, first.stands), (1, false));
        ledger.told(&first, at(0));
        for second in 1..=8 {
            ledger.observe(event("n", "a"), at(second));
        }
        assert_eq!(ledger.due(at(8)), None);
        assert_eq!(ledger.next_due(at(8)), Some(SignedDuration::from_secs(2)));
        let again = ledger.due(at(10)).expect("due");
        assert_eq!((again.count, again.stands, again.first, again.last), (9, true, at(0), at(8)));
        assert_eq!(again.name, first.name);
        ledger.lost(&again, at(10));
        assert_eq!(ledger.due(at(10)).map(|due| due.stands), Some(false));
    }

    #[test]
    fn an_object_that_has_too_much_to_say_is_cut_short_and_another_is_not() {
        let mut ledger = Ledger::default();
        let taken = (0..40).filter(|number| ledger.observe(event("n", &number.to_string()), at(0))).count();
        assert_eq!(taken, 25);
        assert_eq!(ledger.dropped(), 15);
        assert!(ledger.observe(event("m", "a"), at(0)));
        assert!(ledger.observe(event("n", "later"), at(300)) && !ledger.observe(event("n", "too soon"), at(301)));
    }

    #[test]
    fn while_the_api_server_is_away_no_more_than_so_many_wait_and_the_oldest_are_kept() {
        let mut ledger = Ledger::default();
        let taken = (0..1000).filter(|number| ledger.observe(event(&number.to_string(), "a"), at(0))).count();
        assert_eq!(taken, KEPT);
        let first = ledger.due(at(600)).expect("due");
        assert_eq!(first.event.regarding, Regarding::node("0"));
        ledger.told(&first, at(600));
        assert!(ledger.observe(event("new", "a"), at(600)), "what was told makes room");
    }

    #[test]
    fn the_same_event_after_six_quiet_minutes_is_a_new_one() {
        let mut ledger = Ledger::default();
        ledger.observe(event("n", "a"), at(0));
        let first = ledger.due(at(0)).expect("due");
        ledger.told(&first, at(0));
        ledger.observe(event("n", "a"), at(361));
        let second = ledger.due(at(361)).expect("due");
        assert_eq!((second.count, second.stands), (1, false));
        assert_ne!(first.name, second.name);
    }
}

//! Intents and their outcomes made one.

use std::collections::{HashMap, VecDeque};

use super::Row;
use crate::audit::entry::Record;

/// The most rows that wait for their outcome: those of many seconds of a slow CMS.
const MOST_WAITING: usize = 32 << 10;

/// Puts intents and outcomes together, and gives rows in the order of their first records.
pub(super) enum Joiner {
    /// Intents come first, and hold up what came after them until they have their outcomes.
    OldestFirst(Queue),
    /// Outcomes come first, and wait for their intents, by request.
    NewestFirst(HashMap<String, Record>),
}

#[derive(Default)]
pub(super) struct Queue {
    rows: VecDeque<Row>,
    /// How many rows were given.
    given: usize,
    /// The intents without an outcome, by request; counted from the first row of all.
    waiting: HashMap<String, usize>,
}

impl Joiner {
    pub(super) fn new(is_newest_first: bool) -> Self {
        if is_newest_first {
            Self::NewestFirst(HashMap::new())
        } else {
            Self::OldestFirst(Queue::default())
        }
    }

    /// Takes the next record, and gives what is complete until there is enough.
    pub(super) fn take(&mut self, record: Record, give: &mut dyn FnMut(Row) -> bool) -> bool {
        let request = record.request_id.clone().filter(|_| record.kind != "denied");
        let is_outcome = record.kind == "outcome";
        match (self, request) {
            (Self::OldestFirst(queue), request) => {
                queue.push(record, request);
                queue.give(give)
            }
            (Self::NewestFirst(outcomes), Some(request)) if is_outcome => {
                outcomes.insert(request, record);
                true
            }
            (Self::NewestFirst(outcomes), request) => {
                let mut row = Row::begin(record);
                if let Some(outcome) = request.and_then(|request| outcomes.remove(&request)) {
                    row.end(outcome);
                }
                give(row)
            }
        }
    }

    /// What is left when there are no more records.
    pub(super) fn rest(self) -> Vec<Row> {
        match self {
            Self::OldestFirst(queue) => queue.rows.into(),
            Self::NewestFirst(outcomes) => {
                let mut outcomes: Vec<Record> = outcomes.into_values().collect();
                outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.sequence));
                outcomes.into_iter().map(Row::begin).collect()
            }
        }
    }
}

impl Queue {
    fn push(&mut self, record: Record, request: Option<String>) {
        if record.kind != "outcome" {
            let last = self.given + self.rows.len();
            self.waiting.extend(request.map(|request| (request, last)));
            return self.rows.push_back(Row::begin(record));
        }
        let place = request.and_then(|request| self.waiting.remove(&request));
        match place.and_then(|place| self.rows.get_mut(place.checked_sub(self.given)?)) {
            Some(row) => row.end(record),
            None => self.rows.push_back(Row::begin(record)),
        }
    }

    /// Gives the rows that wait for nothing, or have waited for too many others.
    fn give(&mut self, give: &mut dyn FnMut(Row) -> bool) -> bool {
        while let Some(row) = self.rows.front()
            && (row.outcome.is_some()
                || row.record.kind == "denied"
                || self.rows.len() > MOST_WAITING)
        {
            let Some(row) = self.rows.pop_front() else { break };
            self.given += 1;
            if let (None, Some(request)) = (&row.outcome, &row.record.request_id) {
                self.waiting.remove(request);
            }
            if !give(row) {
                return false;
            }
        }
        true
    }
}

//! Finding records: segments that can't hold any are skipped by the manifest, the others are
//! searched for a text that every record sought must hold, and only the lines that hold it are
//! decoded. An intent and its outcome make one row.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;

use memchr::memmem::Finder;

use super::entry::Record;
use super::folder::{self, SegmentFile};
use super::log::manifest;
use super::reader::{Blocks, map_parts};

/// The most rows that wait for their other half.
const MOST_WAITING: usize = 4 << 10;

/// Which records are sought; what is not said matters not.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The token's subject.
    pub actor: Option<String>,
    /// The token's client.
    pub client: Option<String>,
    /// The campaign.
    pub campaign: Option<i32>,
    /// The lead.
    pub lead: Option<i32>,
    /// A user who is assigned or taken off.
    pub user: Option<String>,
    /// The operation.
    pub operation: Option<String>,
    /// Whether it was allowed.
    pub allow: Option<bool>,
    /// The code of the refusal, or of the error that came of it.
    pub code: Option<String>,
    /// The request's id.
    pub request: Option<String>,
    /// From this time on, as records have it.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
}

/// A call: its intent and its outcome, or its denial.
#[derive(Debug, Clone)]
pub struct Row {
    /// The intent, or the denial; nothing where only the outcome was found.
    pub first: Option<Record>,
    /// The outcome; nothing where there is none.
    pub outcome: Option<Record>,
}

/// Shows every call that is sought, the oldest first or the newest, until `show` says that it is
/// enough.
///
/// # Errors
///
/// When the folder or a segment can't be read, or `show` fails.
pub fn query(
    directory: &Path,
    filter: &Filter,
    is_newest_first: bool,
    show: &mut dyn FnMut(Row) -> io::Result<bool>,
) -> io::Result<()> {
    let mut joiner = Joiner::new(is_newest_first);
    let mut segments = segments(directory, filter)?;
    if is_newest_first {
        segments.reverse();
    }
    let mut give = |row: Row| if filter.fits_row(&row) { show(row) } else { Ok(true) };
    for segment in segments {
        let mut records = Vec::new();
        let mut goes_on = true;
        search(&segment, filter, &mut |found| {
            if is_newest_first {
                records.extend(found);
                return Ok(true);
            }
            for record in found {
                goes_on = goes_on && joiner.take(record, &mut give)?;
            }
            Ok(goes_on)
        })?;
        for record in records.into_iter().rev() {
            goes_on = goes_on && joiner.take(record, &mut give)?;
        }
        if !goes_on {
            return Ok(());
        }
    }
    for row in joiner.rows {
        if !give(row)? {
            break;
        }
    }
    Ok(())
}

/// The segments that may hold what is sought, the oldest first.
fn segments(directory: &Path, filter: &Filter) -> io::Result<Vec<SegmentFile>> {
    let (closed, _) = manifest(directory)?;
    let mut segments = folder::segments(directory)?;
    segments.retain(|segment| {
        let place = closed.binary_search_by_key(&segment.first, |closed| closed.first);
        let Some(closed) = place.ok().and_then(|place| closed.get(place)) else { return true };
        let is_before = |time: &str, limit: &Option<String>| {
            limit.as_ref().is_some_and(|limit| time < limit.as_str())
        };
        let (Some(from), Some(to)) = (closed.from, closed.to) else { return true };
        !is_before(to.as_str(), &filter.since)
            && filter.until.as_ref().is_none_or(|until| from.as_str() < until.as_str())
    });
    Ok(segments)
}

/// Gives the records of a segment that fit, a block's at a time, in their order.
pub(super) fn search(
    segment: &SegmentFile,
    filter: &Filter,
    give: &mut dyn FnMut(Vec<Record>) -> io::Result<bool>,
) -> io::Result<()> {
    let needle = filter.needle();
    let finder = needle.as_ref().map(|needle| Finder::new(needle.as_bytes()));
    let mut blocks = Blocks::open(segment)?;
    while let Some(block) = blocks.next()? {
        let found = map_parts(block, |part| {
            let lines: Vec<&[u8]> = match &finder {
                None => part.split(|byte| *byte == b'\n').collect(),
                Some(finder) => lines_with(part, finder),
            };
            let records = lines.into_iter().filter_map(Record::parse);
            records.filter(|record| filter.fits(record)).collect::<Vec<_>>()
        });
        if !give(found.into_iter().flatten().collect())? {
            break;
        }
    }
    Ok(())
}

/// The lines that hold a text.
fn lines_with<'a>(part: &'a [u8], finder: &Finder<'_>) -> Vec<&'a [u8]> {
    let (mut lines, mut from) = (Vec::new(), 0);
    while let Some(rest) = part.get(from..)
        && let Some(hit) = finder.find(rest)
    {
        let hit = from + hit;
        let before = part.get(..hit).unwrap_or_default();
        let start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        let after = part.get(hit..).unwrap_or_default();
        let end = memchr::memchr(b'\n', after).map_or(part.len(), |end| hit + end);
        lines.push(part.get(start..end).unwrap_or_default());
        from = end + 1;
    }
    lines
}

impl Filter {
    /// A text that the line of every record sought holds, letter by letter.
    fn needle(&self) -> Option<String> {
        let text = |text: &str| serde_json::to_string(text).ok();
        if let Some(request) = &self.request {
            return Some(request.clone());
        }
        match (self.campaign, self.lead) {
            (Some(campaign), Some(lead)) => {
                return Some(format!("\"target\":{{\"campaign\":{campaign},\"lead\":{lead}}}"));
            }
            (Some(campaign), None) => {
                return Some(format!("\"target\":{{\"campaign\":{campaign},"));
            }
            (None, Some(lead)) => return Some(format!(",\"lead\":{lead}}}")),
            (None, None) => {}
        }
        let named = |name: &str, value: &Option<String>| {
            Some(format!("\"{name}\":{}", text(value.as_ref()?)?))
        };
        let user = self.user.as_ref().and_then(|user| text(user));
        user.or_else(|| named("subject", &self.actor)).or_else(|| named("client_id", &self.client))
    }

    /// Whether a record fits in what intent and outcome have both.
    fn fits(&self, record: &Record) -> bool {
        fn is<T: PartialEq>(sought: Option<&T>, found: Option<&T>) -> bool {
            sought.is_none_or(|sought| found == Some(sought))
        }
        let names =
            |user: &String| record.assigned().contains(user) || record.unassigned().contains(user);
        record.kind != "event"
            && is(self.actor.as_ref(), record.actor.subject.as_ref())
            && is(self.client.as_ref(), record.actor.client_id.as_ref())
            && is(self.campaign.as_ref(), record.target.campaign.as_ref())
            && is(self.lead.as_ref(), record.target.lead.as_ref())
            && is(self.operation.as_ref(), record.operation.as_ref())
            && is(self.request.as_ref(), record.request_id.as_ref())
            && self.user.as_ref().is_none_or(names)
            && self.since.as_ref().is_none_or(|since| record.time >= *since)
            && self.until.as_ref().is_none_or(|until| record.time < *until)
    }

    fn fits_row(&self, row: &Row) -> bool {
        let code = |code: &String| row.code() == Some(code);
        self.allow.is_none_or(|allow| row.any().decision.allow == Some(allow))
            && self.code.as_ref().is_none_or(code)
    }
}

impl Row {
    /// The record that is there; of two, the one that came first.
    #[must_use]
    pub fn any(&self) -> &Record {
        static NONE: std::sync::LazyLock<Record> = std::sync::LazyLock::new(Record::default);
        self.first.as_ref().or(self.outcome.as_ref()).unwrap_or(&NONE)
    }

    /// The code of the refusal, or of the error that came of it.
    #[must_use]
    pub fn code(&self) -> Option<&String> {
        let outcome = self.outcome.as_ref().and_then(|outcome| outcome.upstream.code.as_ref());
        outcome.or(self.any().decision.code.as_ref())
    }
}

/// Puts intents and outcomes together, and gives rows in the order of their beginnings.
struct Joiner {
    rows: VecDeque<Row>,
    /// How many rows were given.
    given: usize,
    /// The rows that wait for their other half, by request; counted from the first row of all.
    waiting: HashMap<String, usize>,
    is_newest_first: bool,
}

impl Joiner {
    fn new(is_newest_first: bool) -> Self {
        Self { rows: VecDeque::new(), given: 0, waiting: HashMap::new(), is_newest_first }
    }

    fn take(
        &mut self,
        record: Record,
        give: &mut dyn FnMut(Row) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let request = record.request_id.as_deref().filter(|_| record.kind != "denied");
        let place = request.and_then(|request| self.waiting.remove(request));
        let row = place.and_then(|place| self.rows.get_mut(place.checked_sub(self.given)?));
        let is_outcome = record.kind == "outcome";
        match row {
            Some(row) if is_outcome => row.outcome = Some(record),
            Some(row) => row.first = Some(record),
            None => {
                // What comes first of two: the intent, or the outcome when read backwards.
                if let Some(request) = request.filter(|_| is_outcome == self.is_newest_first) {
                    self.waiting.insert(request.to_owned(), self.given + self.rows.len());
                }
                let (first, outcome) =
                    if is_outcome { (None, Some(record)) } else { (Some(record), None) };
                self.rows.push_back(Row { first, outcome });
            }
        }
        while let Some(row) = self.rows.front()
            && (self.is_done(row) || self.rows.len() > MOST_WAITING)
        {
            let Some(row) = self.rows.pop_front() else { break };
            self.given += 1;
            if let Some(request) = row.any().request_id.as_ref().filter(|_| !self.is_done(&row)) {
                self.waiting.remove(request);
            }
            if !give(row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing more of it is to come.
    fn is_done(&self, row: &Row) -> bool {
        let other = if self.is_newest_first { &row.first } else { &row.outcome };
        other.is_some() || row.any().kind == "denied"
    }
}

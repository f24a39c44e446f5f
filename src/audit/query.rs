//! Finding records: segments that can't hold any are skipped by the manifest, the others are
//! searched. An intent and its outcome make one row, which belongs to the time of its intent.

mod join;
mod search;

use std::borrow::Cow;
use std::path::Path;

use uuid::Uuid;

use self::join::Joiner;
use self::search::Search;
use super::entry::Record;
use super::folder::{MANIFEST, SegmentFile};
use super::log::{self, Closed, manifest};
use crate::reply::Code;

pub use self::search::Damage;
pub(crate) use super::reader::Blocks;
pub use super::reader::{ReadError, segments};

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
    /// What came of it, as [`Row::result`] has it, in whichever case.
    pub code: Option<String>,
    /// The request's id.
    pub request: Option<String>,
    /// From this time on, as records have it.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
}

/// A call.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The intent, with what its outcome says of upstream and credential; or the denial. Or an
    /// outcome, where its intent was not found.
    pub record: Record,
    /// Which record the outcome is; nothing where there is none.
    pub outcome: Option<Outcome>,
}

/// Which record an outcome is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its time.
    pub time: String,
    /// Its number.
    pub sequence: u64,
}

/// What is known of a change's effect at the CMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The CMS says that it is made.
    Made,
    /// It was refused, or failed.
    NotMade,
    /// Nothing says what came of it, or the CMS gave no answer that could be understood.
    Unknown,
}

/// Shows every call that is sought, the oldest first or the newest, until `show` says that it is
/// enough, and tells what was noticed to be wrong with the trail.
///
/// # Errors
///
/// When there is no trail, or the folder or a segment can't be read.
pub fn query(
    directory: &Path,
    filter: &Filter,
    is_newest_first: bool,
    show: &mut dyn FnMut(Row) -> bool,
) -> Result<Damage, ReadError> {
    let mut joiner = Joiner::new(is_newest_first);
    let mut give = |row: Row| !filter.fits_row(&row) || show(row);
    let reading = Reading { directory, filter, is_newest_first, with_outcomes: true };
    let fits = |record: &Record| filter.fits(record);
    let (damage, goes_on) =
        reading.read(filter.needle(), &fits, &mut |record| joiner.take(record, &mut give))?;
    if goes_on {
        // The first that is enough ends it.
        let _ = joiner.rest().into_iter().all(give);
    }
    Ok(damage)
}

/// Shows every event of the filter's period, as [`query`] shows calls.
///
/// # Errors
///
/// When there is no trail, or the folder or a segment can't be read.
pub fn events(
    directory: &Path,
    filter: &Filter,
    is_newest_first: bool,
    show: &mut dyn FnMut(Record) -> bool,
) -> Result<Damage, ReadError> {
    let reading = Reading { directory, filter, is_newest_first, with_outcomes: false };
    let fits = |record: &Record| record.kind == "event" && filter.has_in_period(&record.time);
    let needle = "\"kind\":\"event\"".to_owned();
    reading.read(Some(needle), &fits, show).map(|(damage, _)| damage)
}

/// What is read, and in which direction.
struct Reading<'a> {
    directory: &'a Path,
    filter: &'a Filter,
    is_newest_first: bool,
    /// Those too that come after the period, of what began in it.
    with_outcomes: bool,
}

impl Reading<'_> {
    /// Gives each record that fits until there are enough; and whether there never were.
    fn read(
        &self,
        needle: Option<String>,
        fits: &(dyn Fn(&Record) -> bool + Sync),
        give: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(Damage, bool), ReadError> {
        let path = self.directory.join(MANIFEST);
        let (closed, _) = manifest(self.directory).map_err(ReadError::io(&path))?;
        segments(self.directory)?;
        let all = log::segments(self.directory, &closed);
        let mut all = all.map_err(ReadError::io(self.directory))?;
        all.retain(is_begun);
        let mut chosen = self.choose(&closed, &all);
        if self.is_newest_first {
            chosen.reverse();
        }
        let mut search = Search { needle, fits, damage: Damage::of_row(&closed, &all) };
        for (segment, end) in chosen {
            let mut backwards = Vec::new();
            let mut goes_on = true;
            let read = search.read(segment, end, &mut |found| {
                if self.is_newest_first {
                    backwards.extend(found);
                } else {
                    goes_on = found.into_iter().all(&mut *give);
                }
                goes_on
            });
            match read {
                Err(error) if error.is_not_found() && self.begins_after(segment) => continue,
                result => result?,
            }
            if !goes_on || !backwards.into_iter().rev().all(&mut *give) {
                return Ok((search.damage, false));
            }
        }
        Ok((search.damage, true))
    }

    /// Whether retention has deleted a segment since the folder was listed.
    fn begins_after(&self, segment: &SegmentFile) -> bool {
        let left = segments(self.directory).unwrap_or_default();
        left.first().is_some_and(|oldest| oldest.first > segment.first)
    }

    /// The segments that may hold what is sought, the oldest first, and with which record the next
    /// one should begin.
    fn choose<'a>(
        &self,
        closed: &[Closed],
        segments: &'a [SegmentFile],
    ) -> Vec<(&'a SegmentFile, Option<u64>)> {
        let Filter { since, until, .. } = self.filter;
        let nexts = segments.iter().skip(1).map(|next| Some(next.first)).chain([None]);
        // The changes of the period that wait for their outcomes, as far as is known.
        let mut open: Vec<Uuid> = Vec::new();
        let mut chosen = Vec::new();
        for (segment, next) in segments.iter().zip(nexts) {
            let place = closed.binary_search_by_key(&segment.first, |closed| closed.first);
            let closed = place.ok().and_then(|place| closed.get(place));
            let (from, to) = closed.map_or((None, None), |closed| (closed.from, closed.to));
            let is_before = to.zip(since.as_deref()).is_some_and(|(to, since)| to.as_str() < since);
            let is_after =
                from.zip(until.as_deref()).is_some_and(|(from, until)| from.as_str() >= until);
            let pending = closed.map_or(&[][..], |closed| &closed.pending);
            let are_open = open.len();
            open.retain(|request| pending.contains(request));
            let has_outcomes = self.with_outcomes && open.len() < are_open;
            if !is_before && !is_after {
                open = pending.to_vec();
            }
            if !is_before && (!is_after || has_outcomes) {
                let end = closed.map(|closed| closed.last + 1).or(next);
                chosen.push((segment, end));
            }
        }
        chosen
    }
}

/// Whether it has a record. A file that is made before its first record may yet be unmade.
#[must_use]
pub fn is_begun(segment: &SegmentFile) -> bool {
    // One that is gone was compressed since, or is missed by whoever reads it.
    !segment.path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
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

    /// Whether a record fits in what intent and outcome have both. Where one of them is outside of
    /// the period and the other may not be, both are needed to know.
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
    }

    fn fits_row(&self, row: &Row) -> bool {
        // An outcome alone is one of an intent before the period, or of one that was deleted.
        (row.record.kind != "outcome" || self.since.is_none())
            && self.has_in_period(&row.record.time)
            && self.allow.is_none_or(|allow| row.record.decision.allow == Some(allow))
            && self.code.as_ref().is_none_or(|code| row.result().eq_ignore_ascii_case(code))
    }

    fn has_in_period(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
    }
}

impl Row {
    /// Of the record that comes first: an intent, a denial, or an outcome alone.
    fn begin(record: Record) -> Self {
        let outcome = (record.kind == "outcome").then(|| Outcome::of(&record));
        Self { record, outcome }
    }

    /// Takes the outcome of its intent.
    fn end(&mut self, outcome: Record) {
        self.outcome = Some(Outcome::of(&outcome));
        (self.record.upstream, self.record.credential) = (outcome.upstream, outcome.credential);
    }

    /// The code of the refusal, or of the error that came of it.
    #[must_use]
    pub fn code(&self) -> Option<&String> {
        self.record.upstream.code.as_ref().or(self.record.decision.code.as_ref())
    }

    /// What is known of its effect.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let silent = [Code::UpstreamTooSlow.as_str(), Code::UpstreamUnintelligible.as_str()];
        match (self.code(), self.record.upstream.status) {
            _ if self.outcome.is_none() && self.record.kind != "denied" => Effect::Unknown,
            (None, Some(200..300)) => Effect::Made,
            (Some(code), _) if silent.contains(&code.as_str()) => Effect::Unknown,
            _ => Effect::NotMade,
        }
    }

    /// What came of it: the code of what went wrong, or the CMS's status.
    #[must_use]
    pub fn result(&self) -> Cow<'_, str> {
        match (self.code(), self.record.upstream.status) {
            (Some(code), _) => Cow::Borrowed(code),
            (None, Some(status)) => Cow::Owned(status.to_string()),
            (None, None) => Cow::Borrowed("unknown"),
        }
    }
}

impl Outcome {
    fn of(record: &Record) -> Self {
        Self { time: record.time.clone(), sequence: record.sequence }
    }
}

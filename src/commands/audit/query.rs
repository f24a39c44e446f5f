//! `audit query`: which calls there were, or what happened to the gateway itself.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::filter::FilterArguments;
use super::rows::{Format, Rows};
use super::table::{fixed, flexible};
use super::{conclude, to_the_second};
use crate::audit::entry::Record;
use crate::audit::query::{Row, events, query};
use crate::commands::{DONE, WRONG_USE, refuse, warn};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
    /// Show events, of the gateway itself, and no calls
    #[arg(long)]
    events: bool,
    /// Show so many at most
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// The newest first
    #[arg(long)]
    newest: bool,
    /// How to show them
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// A call as programs have it: the intent with what its outcome says, or the denial.
#[derive(Serialize)]
struct Call<'a> {
    #[serde(flatten)]
    record: &'a Record,
    outcome_time: Option<&'a str>,
    outcome_sequence: Option<u64>,
    result: &'a str,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { directory, filter, limit, newest, format, .. } = arguments;
    if arguments.events && filter.names_calls() {
        let what = "--events goes with --since, --until, --limit, --newest and --format alone";
        return refuse(what, WRONG_USE);
    }
    let filter = match filter.filter() {
        Ok(filter) => filter,
        Err(status) => return status,
    };
    let limit = limit.unwrap_or(u64::MAX);
    let (mut rows, read);
    if arguments.events {
        let columns = vec![fixed("TIME"), fixed("EVENT"), flexible("DETAIL")];
        rows = Rows::new(*format, columns, &Record::default());
        read = events(directory, &filter, *newest, &mut |record| {
            rows.number() < limit
                && rows.show(&record, || event_cells(&record))
                && rows.number() < limit
        });
    } else {
        let columns = vec![
            fixed("TIME"),
            flexible("WHO"),
            fixed("CAMP"),
            fixed("LEAD"),
            fixed("RESULT"),
            flexible("CHANGE"),
        ];
        rows = Rows::new(*format, columns, &Call::of(&Row::default(), ""));
        read = query(directory, &filter, *newest, &mut |row| {
            rows.number() < limit
                && rows.show(&Call::of(&row, &row.result()), || call_cells(&row))
                && rows.number() < limit
        });
    }
    let damage = match read {
        Ok(damage) => damage,
        Err(error) => return refuse(error, WRONG_USE),
    };
    if rows.number() == 0 {
        let what = if arguments.events { "event" } else { "call" };
        warn(format_args!("no {what} matches"));
    }
    conclude(rows.end(), &damage, DONE)
}

impl<'a> Call<'a> {
    fn of(row: &'a Row, result: &'a str) -> Self {
        let outcome = row.outcome.as_ref();
        Self {
            record: &row.record,
            outcome_time: outcome.map(|outcome| outcome.time.as_str()),
            outcome_sequence: outcome.map(|outcome| outcome.sequence),
            result,
        }
    }
}

fn call_cells(row: &Row) -> Vec<String> {
    let record = &row.record;
    let number = |number: Option<i32>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    vec![
        to_the_second(&record.time),
        record.who().into_owned(),
        number(record.target.campaign),
        number(record.target.lead),
        row.result().into_owned(),
        change(record),
    ]
}

fn change(record: &Record) -> String {
    if let Some(count) = record.event.count {
        let (detail, reason) = (record.event.detail.as_deref(), record.decision.reason.as_deref());
        let times = if count == 1 { "once" } else { &format!("{count} times") };
        return format!("{times}: {}", reason.or(detail).unwrap_or_default());
    }
    let assigned = record.assigned().iter().map(|user| format!("+{user}"));
    let unassigned = record.unassigned().iter().map(|user| format!("-{user}"));
    assigned.chain(unassigned).collect::<Vec<_>>().join(" ")
}

fn event_cells(record: &Record) -> Vec<String> {
    let credential = record.credential.version.as_ref();
    let count = record.event.count.map(|count| format!("count {count}"));
    let request = record.request_id.as_ref().map(|request| format!("request {request}"));
    let credential = credential.map(|version| format!("credential version {version}"));
    let detail = [record.event.detail.clone(), count, request, credential];
    let name = record.event.name.clone().unwrap_or_default();
    vec![
        to_the_second(&record.time),
        name,
        detail.into_iter().flatten().collect::<Vec<_>>().join("; "),
    ]
}

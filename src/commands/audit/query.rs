//! `audit query`: which calls there were.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::ValueEnum;

use super::table::{Column, Table};
use crate::audit::entry::Record;
use crate::audit::query::{Filter, Row, query};
use crate::commands::{WRONG_USE, plain, refuse};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
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

#[derive(Debug, Clone, clap::Args)]
pub(super) struct FilterArguments {
    /// Who asked: the token's subject
    #[arg(long)]
    actor: Option<String>,
    /// The client that the token was given to
    #[arg(long)]
    client: Option<String>,
    #[arg(long, value_name = "ID")]
    campaign: Option<i32>,
    #[arg(long, value_name = "ID")]
    lead: Option<i32>,
    /// A user who was assigned or taken off
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    operation: Option<String>,
    #[arg(long, value_enum)]
    decision: Option<Decision>,
    /// The code of the refusal, or of the error that came of it
    #[arg(long)]
    code: Option<String>,
    /// The request's id
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// From then on: RFC 3339, a date, or how long ago, as "7d"
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Until then; of a date the whole day
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decision {
    #[value(alias = "allowed")]
    Allow,
    #[value(alias = "denied")]
    Deny,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
}

impl From<&FilterArguments> for Filter {
    fn from(arguments: &FilterArguments) -> Self {
        let arguments = arguments.clone();
        Self {
            actor: arguments.actor,
            client: arguments.client,
            campaign: arguments.campaign,
            lead: arguments.lead,
            user: arguments.user,
            operation: arguments.operation,
            allow: arguments.decision.map(|decision| matches!(decision, Decision::Allow)),
            code: arguments.code,
            request: arguments.request,
            since: arguments.since,
            until: arguments.until,
        }
    }
}

fn since(text: &str) -> Result<String, String> {
    time(text, false)
}

fn until(text: &str) -> Result<String, String> {
    time(text, true)
}

/// A time as records have it.
fn time(text: &str, is_end: bool) -> Result<String, String> {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    let show = |time: SystemTime| humantime::format_rfc3339_micros(time).to_string();
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).map(show).ok_or_else(|| "is too long".into());
    }
    if text.len() == 10
        && let Ok(day) = humantime::parse_rfc3339(&format!("{text}T00:00:00Z"))
    {
        return Ok(show(if is_end { day + DAY } else { day }));
    }
    let weak = humantime::parse_rfc3339_weak(text).map(show);
    weak.map_err(|_| "write RFC 3339 in UTC (2026-01-31T09:00:00Z), a date, or 7d".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut output = Output::new(arguments.format);
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let filter = Filter::from(&arguments.filter);
    let shown = output.begin().and_then(|()| {
        query(&arguments.directory, &filter, arguments.newest, &mut |row| {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            output.show(&row)?;
            Ok(left > 0)
        })
    });
    match shown.and_then(|()| output.end()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => refuse(format_args!("{}: {error}", arguments.directory.display()), WRONG_USE),
    }
}

/// Where rows go.
enum Output {
    Table(Table<BufWriter<io::Stdout>>),
    Json(BufWriter<io::Stdout>),
    Csv(Box<csv::Writer<io::Stdout>>),
}

impl Output {
    fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Json(BufWriter::new(io::stdout())),
            Format::Csv => Self::Csv(Box::new(csv::Writer::from_writer(io::stdout()))),
            Format::Table => {
                let column = |title, width| Column { title, width };
                let columns = vec![
                    column("TIME", 19),
                    column("WHO", 18),
                    column("CAMP", 5),
                    column("LEAD", 5),
                    column("RESULT", 8),
                    column("CHANGE", 0),
                ];
                Self::Table(Table::new(BufWriter::new(io::stdout()), columns))
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Table(table) => table.titles(),
            Self::Json(_) => Ok(()),
            Self::Csv(out) => Ok(out.write_record(CSV)?),
        }
    }

    fn show(&mut self, row: &Row) -> io::Result<()> {
        let record = row.any();
        let number =
            |number: Option<i32>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
        match self {
            Self::Table(table) => {
                let time = record.time.get(..19).unwrap_or(&record.time).replace('T', " ");
                let (campaign, lead) = (number(record.target.campaign), number(record.target.lead));
                let who = record.who();
                let change = change(row);
                table.row(&[&time, &who, &campaign, &lead, &result(row), &change])
            }
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, &joined(row))?;
                out.write_all(b"\n")
            }
            Self::Csv(out) => Ok(out.write_record(csv_row(row))?),
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Table(mut table) => table.flush(),
            Self::Json(mut out) => out.flush(),
            Self::Csv(mut out) => out.flush(),
        }
    }
}

/// What came of it: the CMS's status, or the code of what went wrong.
fn result(row: &Row) -> String {
    let status = row.outcome.as_ref().and_then(|outcome| outcome.upstream.status);
    match (row.code(), status) {
        (Some(code), _) => code.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

fn change(row: &Row) -> String {
    let record = row.any();
    if let Some(count) = record.event.count {
        let (detail, reason) = (record.event.detail.as_deref(), record.decision.reason.as_deref());
        return format!("{count} times: {}", reason.or(detail).unwrap_or_default());
    }
    let assigned = record.assigned().iter().map(|user| format!("+{user}"));
    let unassigned = record.unassigned().iter().map(|user| format!("-{user}"));
    assigned.chain(unassigned).collect::<Vec<_>>().join(" ")
}

/// An intent and its outcome as one object: the outcome, which has all that the intent has and
/// more, with the intent's time and sequence.
fn joined(row: &Row) -> Record {
    let mut joined = row.outcome.as_ref().unwrap_or_else(|| row.any()).clone();
    let first = row.any();
    (joined.time, joined.sequence) = (first.time.clone(), first.sequence);
    joined
}

const CSV: &[&str] = &[
    "time",
    "sequence",
    "request_id",
    "operation",
    "issuer",
    "subject",
    "client_id",
    "roles",
    "address",
    "campaign",
    "lead",
    "assigned",
    "unassigned",
    "allow",
    "code",
    "reason",
    "grant",
    "upstream_status",
    "attempts",
    "duration_us",
];

fn csv_row(row: &Row) -> Vec<String> {
    let record = row.any();
    let outcome = row.outcome.as_ref().unwrap_or(record);
    fn shown<T: ToString>(value: Option<&T>) -> String {
        value.map(T::to_string).unwrap_or_default()
    }
    let actor = &record.actor;
    let cells = vec![
        record.time.clone(),
        record.sequence.to_string(),
        shown(record.request_id.as_ref()),
        shown(record.operation.as_ref()),
        shown(actor.issuer.as_ref()),
        shown(actor.subject.as_ref()),
        shown(actor.client_id.as_ref()),
        actor.roles.as_deref().unwrap_or_default().join(" "),
        shown(record.source.address.as_ref()),
        shown(record.target.campaign.as_ref()),
        shown(record.target.lead.as_ref()),
        record.assigned().join(" "),
        record.unassigned().join(" "),
        shown(record.decision.allow.as_ref()),
        shown(row.code()),
        shown(record.decision.reason.as_ref()),
        shown(record.decision.grant.as_ref()),
        shown(outcome.upstream.status.as_ref()),
        shown(outcome.upstream.attempts.as_ref()),
        shown(outcome.upstream.duration_us.as_ref()),
    ];
    cells.into_iter().map(inert).collect()
}

/// A spreadsheet would run what begins like a formula, and a terminal obey what is not text.
fn inert(cell: String) -> String {
    let cell = plain(&cell);
    if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell }
}

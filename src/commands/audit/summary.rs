//! `audit summary`: who changed what how often, who was denied why, and what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::conclude;
use super::filter::FilterArguments;
use super::rows::{Format, Rows};
use super::table::{Table, fixed, flexible};
use crate::audit::query::{Effect, Row, query};
use crate::commands::output::Output;
use crate::commands::{DONE, WRONG_USE, refuse, warn};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What somebody had changed, or tried to. Users are counted where the CMS has said that they were
/// assigned or taken off.
#[derive(Debug, Default)]
struct Changes {
    calls: u64,
    failed: u64,
    unknown: u64,
    assigned: u64,
    unassigned: u64,
    campaigns: BTreeSet<i32>,
}

/// What was refused to somebody, or failed, with one code.
#[derive(Debug, Default)]
struct Refusals {
    times: u64,
    reason: String,
}

#[derive(Debug, Default)]
struct Summary {
    changes: BTreeMap<String, Changes>,
    denials: BTreeMap<(String, String), Refusals>,
    failures: BTreeMap<(String, String), Refusals>,
}

/// A row as programs have it: of changes, denials or failures.
#[derive(Debug, Default, Serialize)]
struct Fields<'a> {
    of: &'static str,
    who: &'a str,
    calls: u64,
    code: Option<&'a str>,
    reason: Option<&'a str>,
    failed: Option<u64>,
    unknown: Option<u64>,
    assigned: Option<u64>,
    unassigned: Option<u64>,
    campaigns: Option<&'a BTreeSet<i32>>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let filter = match arguments.filter.filter() {
        Ok(filter) => filter,
        Err(status) => return status,
    };
    let mut summary = Summary::default();
    let read = query(&arguments.directory, &filter, false, &mut |row| {
        summary.count(&row);
        true
    });
    let damage = match read {
        Ok(damage) => damage,
        Err(error) => return refuse(error, WRONG_USE),
    };
    if summary.changes.is_empty() && summary.denials.is_empty() {
        warn("no call matches");
    }
    let output = match arguments.format {
        Format::Table => summary.tables(),
        format => summary.rows(format),
    };
    conclude(output, &damage, DONE)
}

impl Summary {
    fn count(&mut self, row: &Row) {
        let record = &row.record;
        let who = record.who().into_owned();
        if record.kind == "denied" {
            let key = (who, record.decision.code.clone().unwrap_or_default());
            let denied = self.denials.entry(key).or_default();
            denied.times += record.event.count.unwrap_or(1);
            denied.reason = record.decision.reason.clone().unwrap_or_default();
            return;
        }
        let changes = self.changes.entry(who.clone()).or_default();
        changes.calls += 1;
        changes.campaigns.extend(record.target.campaign);
        if row.outcome.is_none() {
            changes.unknown += 1;
        } else if row.effect() == Effect::Made {
            changes.assigned += record.assigned().len() as u64;
            changes.unassigned += record.unassigned().len() as u64;
        } else {
            changes.failed += 1;
            let failed = self.failures.entry((who, row.result().into_owned())).or_default();
            failed.times += 1;
            let status = record.upstream.status.map(|status| format!("the CMS answered {status}"));
            failed.reason = status.unwrap_or_else(|| "no answer of the CMS".to_owned());
        }
    }

    fn tables(&self) -> Output {
        let columns = vec![
            flexible("WHO"),
            fixed("CALLS"),
            fixed("FAILED"),
            fixed("UNKNOWN"),
            fixed("ASSIGNED"),
            fixed("TAKEN OFF"),
            flexible("CAMPAIGNS"),
        ];
        let changes = self.changes.iter().map(|(who, changes)| {
            let Changes { calls, failed, unknown, assigned, unassigned, campaigns } = changes;
            let numbers = [calls, failed, unknown, assigned, unassigned];
            let campaigns: Vec<String> = campaigns.iter().map(i32::to_string).collect();
            let numbers = numbers.into_iter().map(u64::to_string);
            [who.clone()].into_iter().chain(numbers).chain([campaigns.join(" ")]).collect()
        });
        let mut sections = vec![("Changes", columns, changes.collect::<Vec<Vec<String>>>())];
        for (title, refusals) in [
            ("Denials, with the last reason of each", &self.denials),
            ("Failures, with the last of each", &self.failures),
        ] {
            let columns = vec![flexible("WHO"), fixed("CODE"), fixed("TIMES"), flexible("REASON")];
            let rows = refusals.iter().map(|((who, code), Refusals { times, reason })| {
                vec![who.clone(), code.clone(), times.to_string(), reason.clone()]
            });
            sections.push((title, columns, rows.collect()));
        }
        sections.retain(|(.., rows)| !rows.is_empty());
        let mut output = Output::new();
        for (index, (title, columns, rows)) in sections.into_iter().enumerate() {
            if index > 0 {
                output.say("");
            }
            output.say(title);
            let mut table = Table::new(columns);
            rows.into_iter().for_each(|row| table.row(row, &mut output));
            table.end(&mut output);
        }
        output
    }

    fn rows(&self, format: Format) -> Output {
        let mut rows = Rows::new(format, Vec::new(), &Fields::default());
        for (who, changes) in &self.changes {
            let fields = Fields {
                of: "changes",
                who,
                calls: changes.calls,
                failed: Some(changes.failed),
                unknown: Some(changes.unknown),
                assigned: Some(changes.assigned),
                unassigned: Some(changes.unassigned),
                campaigns: Some(&changes.campaigns),
                ..Fields::default()
            };
            rows.show(&fields, Vec::new);
        }
        for (of, refusals) in [("denials", &self.denials), ("failures", &self.failures)] {
            for ((who, code), Refusals { times, reason }) in refusals {
                let (code, reason) = (Some(code.as_str()), Some(reason.as_str()));
                let fields = Fields { of, who, calls: *times, code, reason, ..Fields::default() };
                rows.show(&fields, Vec::new);
            }
        }
        rows.end()
    }
}

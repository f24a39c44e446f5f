//! `audit summary`: who changed what how often, and who was denied why.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::query::FilterArguments;
use super::table::{Column, Table};
use crate::audit::query::{Filter, Row, query};
use crate::commands::{WRONG_USE, refuse, say};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
}

#[derive(Default)]
struct Changes {
    calls: u64,
    failed: u64,
    assigned: u64,
    unassigned: u64,
    campaigns: BTreeSet<i32>,
}

#[derive(Default)]
struct Summary {
    changes: BTreeMap<String, Changes>,
    denials: BTreeMap<(String, String), (u64, String)>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut summary = Summary::default();
    let filter = Filter::from(&arguments.filter);
    let read = query(&arguments.directory, &filter, false, &mut |row| {
        summary.count(&row);
        Ok(true)
    });
    match read.and_then(|()| summary.show()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => refuse(format_args!("{}: {error}", arguments.directory.display()), WRONG_USE),
    }
}

impl Summary {
    fn count(&mut self, row: &Row) {
        let record = row.any();
        let who = record.who().into_owned();
        if record.kind == "denied" {
            let code = record.decision.code.clone().unwrap_or_default();
            let reason = record.decision.reason.clone().unwrap_or_default();
            let denied = self.denials.entry((who, code)).or_default();
            denied.0 += record.event.count.unwrap_or(1);
            denied.1 = reason;
            return;
        }
        let changes = self.changes.entry(who).or_default();
        changes.calls += 1;
        let status = row.outcome.as_ref().and_then(|outcome| outcome.upstream.status);
        changes.failed += u64::from(!status.is_some_and(|status| (200..300).contains(&status)));
        changes.assigned += record.assigned().len() as u64;
        changes.unassigned += record.unassigned().len() as u64;
        changes.campaigns.extend(record.target.campaign);
    }

    fn show(&self) -> io::Result<()> {
        let column = |title, width| Column { title, width };
        say("Changes");
        let mut table = Table::new(
            io::stdout(),
            vec![
                column("WHO", 30),
                column("CALLS", 8),
                column("FAILED", 8),
                column("ASSIGNED", 8),
                column("TAKEN OFF", 9),
                column("CAMPAIGNS", 0),
            ],
        );
        table.titles()?;
        for (who, changes) in &self.changes {
            let Changes { calls, failed, assigned, unassigned, campaigns } = changes;
            let campaigns: Vec<String> = campaigns.iter().map(i32::to_string).collect();
            let numbers = [calls, failed, assigned, unassigned].map(|number| number.to_string());
            let [calls, failed, assigned, unassigned] = numbers.each_ref().map(String::as_str);
            table.row(&[who, calls, failed, assigned, unassigned, &campaigns.join(" ")])?;
        }
        say("\nDenials, with the last reason of each");
        let columns =
            vec![column("WHO", 30), column("CODE", 8), column("TIMES", 8), column("REASON", 0)];
        let mut table = Table::new(io::stdout(), columns);
        table.titles()?;
        for ((who, code), (times, reason)) in &self.denials {
            table.row(&[who, code, &times.to_string(), reason])?;
        }
        Ok(())
    }
}

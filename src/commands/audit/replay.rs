//! `audit replay`: the recorded changes decided anew, under another configuration's roles.

use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use super::query::FilterArguments;
use super::table::{Column, Table};
use crate::audit::entry::Record;
use crate::audit::query::{Filter, query};
use crate::commands::{NO, WRONG_USE, refuse, say};
use crate::config::{self, Config};
use crate::operation::{self, Target};
use crate::policy::Lack;
use crate::reply::Code;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// The configuration to decide by
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
}

/// What a decision would be now.
enum Anew {
    Allowed,
    Denied(String),
    /// It depends on a claim, and the trail keeps no claims.
    OnClaim,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(faults) => return refuse(faults, WRONG_USE),
    };
    let column = |title, width| Column { title, width };
    let columns = vec![
        column("TIME", 19),
        column("WHO", 18),
        column("CAMP", 5),
        column("WAS", 7),
        column("WOULD BE", 0),
    ];
    let mut table = Table::new(BufWriter::new(io::stdout()), columns);
    let (mut decided, mut different, mut open) = (0_u64, 0_u64, 0_u64);
    let filter = Filter::from(&arguments.filter);
    let read = query(&arguments.directory, &filter, false, &mut |row| {
        let record = row.any();
        let (Some(was), Some(anew)) = (decision(record), decide(&config, record)) else {
            return Ok(true);
        };
        decided += 1;
        let (is_other, anew) = match anew {
            Anew::Allowed => (!was, "allowed".to_owned()),
            Anew::Denied(reason) => (was, format!("denied: {reason}")),
            Anew::OnClaim => {
                open += 1;
                (false, String::new())
            }
        };
        if is_other {
            different += 1;
            if different == 1 {
                table.titles()?;
            }
            let time = record.time.get(..19).unwrap_or(&record.time).replace('T', " ");
            let campaign = record.target.campaign.unwrap_or_default().to_string();
            let was = if was { "allowed" } else { "denied" };
            table.row(&[&time, &record.who(), &campaign, was, &anew])?;
        }
        Ok(true)
    });
    match read.and_then(|()| table.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(error) => {
            return refuse(format_args!("{}: {error}", arguments.directory.display()), WRONG_USE);
        }
        Ok(()) => {}
    }
    say(format_args!("{different} of {decided} decisions would differ"));
    if open > 0 {
        say(format_args!("{open} depend on a claim, which the trail does not keep"));
    }
    if different == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) }
}

/// Whether roles allowed it then; nothing where it was not roles that decided.
fn decision(record: &Record) -> Option<bool> {
    let by_roles = [Code::NotGranted.as_str(), Code::NotInCampaign.as_str()];
    match (record.decision.allow?, record.decision.code.as_deref()) {
        (true, _) => Some(true),
        (false, Some(code)) if by_roles.contains(&code) => Some(false),
        (false, _) => None,
    }
}

fn decide(config: &Config, record: &Record) -> Option<Anew> {
    let name = record.operation.as_deref()?;
    let operation = operation::ALL.iter().find(|operation| operation.name == name)?;
    let target = Target { campaign: record.target.campaign?, lead: record.target.lead? };
    let issuer = record.actor.issuer.as_deref()?;
    if !config.issuers.iter().any(|known| known.issuer == issuer) {
        return Some(Anew::Denied(format!("issuer {issuer} is not configured")));
    }
    let body = (operation.restore)(target, record.assigned(), record.unassigned());
    let change = match (operation.decode)(&body, config.limits.users) {
        Ok(change) => change,
        Err(fault) => return Some(Anew::Denied(fault.to_string())),
    };
    let roles = record.actor.roles.as_deref().unwrap_or_default();
    let decide = |claimed: bool| config.roles.decide(roles, change.as_ref(), &|_, _| claimed);
    Some(match (decide(false), decide(true)) {
        (Ok(_), _) => Anew::Allowed,
        (Err(_), Ok(_)) => Anew::OnClaim,
        (Err(_), Err(lacks)) => {
            let lacks: Vec<String> = lacks.iter().map(Lack::to_string).collect();
            Anew::Denied(lacks.join("; "))
        }
    })
}

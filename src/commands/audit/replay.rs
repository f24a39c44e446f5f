//! `audit replay`: the recorded changes decided anew, under another configuration's roles.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::filter::FilterArguments;
use super::rows::{Format, Rows};
use super::table::{fixed, flexible};
use super::{conclude, counted, to_the_second};
use crate::audit::entry::Record;
use crate::audit::query::query;
use crate::commands::{DONE, NO, WRONG_USE, refuse, warn};
use crate::config::{self, Policy};
use crate::operation::{self, Target};
use crate::policy::Lack;
use crate::reply::Code;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// The configuration to decide by: its roles, its limits and its issuers' names
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    filter: FilterArguments,
    /// How to show the decisions that would differ
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a decision would be now.
enum Anew {
    Allowed,
    Denied(String),
    /// It depends on a claim, and the trail keeps no claims.
    OnClaim,
}

/// A decision that would differ, as programs have it.
#[derive(Debug, Default, Serialize)]
struct Fields<'a> {
    time: &'a str,
    sequence: u64,
    request_id: Option<&'a str>,
    who: &'a str,
    campaign: Option<i32>,
    lead: Option<i32>,
    was: &'static str,
    would_be: &'static str,
    reason: Option<&'a str>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let policy = match config::load_policy(&arguments.config) {
        Ok(policy) => policy,
        Err(faults) => return refuse(faults, WRONG_USE),
    };
    let filter = match arguments.filter.filter() {
        Ok(filter) => filter,
        Err(status) => return status,
    };
    let columns = vec![
        fixed("TIME"),
        flexible("WHO"),
        fixed("CAMP"),
        fixed("LEAD"),
        fixed("WAS"),
        flexible("WOULD BE"),
    ];
    let mut rows = Rows::new(arguments.format, columns, &Fields::default());
    let (mut decided, mut open) = (0_u64, 0_u64);
    let read = query(&arguments.directory, &filter, false, &mut |row| {
        let record = &row.record;
        let (Some(was), Some(anew)) = (decision(record), decide(&policy, record)) else {
            return true;
        };
        decided += 1;
        let (would_be, reason) = match &anew {
            Anew::Allowed => (true, None),
            Anew::Denied(reason) => (false, Some(reason.as_str())),
            Anew::OnClaim => {
                open += 1;
                return true;
            }
        };
        if was != would_be {
            // The answer counts those too that nobody reads any more.
            show(&mut rows, record, was, would_be, reason);
        }
        true
    });
    let damage = match read {
        Ok(damage) => damage,
        Err(error) => return refuse(error, WRONG_USE),
    };
    let (different, is_table) = (rows.number(), rows.is_table());
    let decisions = counted(decided, "decision", "decisions");
    let mut said = vec![format!("{different} of {decisions} would differ")];
    if open > 0 {
        let depend = counted(open, "depends", "depend");
        said.push(format!("{depend} on a claim, which the trail does not keep"));
    }
    let mut output = rows.end();
    for line in said {
        if is_table { output.say(line) } else { warn(line) }
    }
    conclude(output, &damage, if different == 0 { DONE } else { NO })
}

fn show(rows: &mut Rows, record: &Record, was: bool, would_be: bool, reason: Option<&str>) {
    let word = |is_allowed| if is_allowed { "allowed" } else { "denied" };
    let who = record.who();
    let (campaign, lead) = (record.target.campaign, record.target.lead);
    let fields = Fields {
        time: &record.time,
        sequence: record.sequence,
        request_id: record.request_id.as_deref(),
        who: &who,
        campaign,
        lead,
        was: word(was),
        would_be: word(would_be),
        reason,
    };
    rows.show(&fields, || {
        let number = |number: Option<i32>| number.unwrap_or_default().to_string();
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let would_be = format!("{}{reason}", word(would_be));
        let time = to_the_second(&record.time);
        let (campaign, lead) = (number(campaign), number(lead));
        vec![time, who.to_string(), campaign, lead, word(was).to_owned(), would_be]
    });
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

fn decide(policy: &Policy, record: &Record) -> Option<Anew> {
    let name = record.operation.as_deref()?;
    let operation = operation::ALL.iter().find(|operation| operation.name == name)?;
    let target = Target { campaign: record.target.campaign?, lead: record.target.lead? };
    let issuer = record.actor.issuer.as_deref()?;
    if !policy.issuers.is_empty() && !policy.issuers.iter().any(|known| known == issuer) {
        return Some(Anew::Denied(format!("issuer {issuer} is not configured")));
    }
    let body = (operation.restore)(target, record.assigned(), record.unassigned());
    let change = match (operation.decode)(&body, policy.users) {
        Ok(change) => change,
        Err(fault) => return Some(Anew::Denied(fault.to_string())),
    };
    let roles = record.actor.roles.as_deref().unwrap_or_default();
    let decide = |claimed: bool| policy.roles.decide(roles, change.as_ref(), &|_, _| claimed);
    Some(match (decide(false), decide(true)) {
        (Ok(_), _) => Anew::Allowed,
        (Err(_), Ok(_)) => Anew::OnClaim,
        (Err(_), Err(lacks)) => {
            let lacks: Vec<String> = lacks.iter().map(Lack::to_string).collect();
            Anew::Denied(lacks.join("; "))
        }
    })
}

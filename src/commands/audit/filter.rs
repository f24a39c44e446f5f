//! Which calls are asked for, as the commands take it.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::audit::query::Filter;
use crate::commands::{WRONG_USE, refuse};
use crate::operation;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct FilterArguments {
    /// Who asked: the token's subject
    #[arg(long)]
    actor: Option<String>,
    /// The client that the token was given to
    #[arg(long)]
    client: Option<String>,
    /// The campaign
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    campaign: Option<i32>,
    /// The lead
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    lead: Option<i32>,
    /// A user who was assigned or taken off
    #[arg(long)]
    user: Option<String>,
    /// The operation
    #[arg(long, value_parser = operations())]
    operation: Option<String>,
    /// What was decided
    #[arg(long, value_enum)]
    decision: Option<Decision>,
    /// What came of it, as RESULT shows it: a code, the CMS's status, or "unknown"
    #[arg(long)]
    code: Option<String>,
    /// The request's id, as in the answer's X-Request-Id
    #[arg(long, value_name = "ID", value_parser = request)]
    request: Option<Uuid>,
    #[command(flatten)]
    period: Period,
}

/// When.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Period {
    /// From then on: RFC 3339, a date or a time in UTC, or how long ago, as "7d"
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Before then; of a date the whole day
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

impl FilterArguments {
    pub(super) fn filter(&self) -> Result<Filter, ExitCode> {
        let arguments = self.clone();
        Ok(Filter {
            actor: arguments.actor,
            client: arguments.client,
            campaign: arguments.campaign,
            lead: arguments.lead,
            user: arguments.user,
            operation: arguments.operation,
            allow: arguments.decision.map(|decision| matches!(decision, Decision::Allow)),
            code: arguments.code,
            request: arguments.request.map(|request| request.to_string()),
            ..arguments.period.filter()?
        })
    }

    /// Whether calls are sought by more than their time.
    pub(super) fn names_calls(&self) -> bool {
        let Self {
            actor, client, campaign, lead, user, operation, decision, code, request, ..
        } = self;
        let texts = [actor, client, user, operation, code];
        texts.iter().any(|text| text.is_some())
            || campaign.or(*lead).is_some()
            || decision.is_some()
            || request.is_some()
    }
}

impl Period {
    fn filter(self) -> Result<Filter, ExitCode> {
        let Self { since, until } = self;
        if let (Some(since), Some(until)) = (&since, &until)
            && since >= until
        {
            let what = format_args!("--since ({since}) is not before --until ({until})");
            return Err(refuse(what, WRONG_USE));
        }
        Ok(Filter { since, until, ..Filter::default() })
    }
}

/// A request's id, in whichever of its spellings.
pub(super) fn request(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| "not a UUID".to_owned())
}

fn operations() -> PossibleValuesParser {
    operation::ALL.iter().map(|operation| operation.name).collect::<Vec<_>>().into()
}

fn since(text: &str) -> Result<String, String> {
    time(text, SystemTime::now(), false)
}

fn until(text: &str) -> Result<String, String> {
    time(text, SystemTime::now(), true)
}

/// A time as records have it.
fn time(text: &str, now: SystemTime, is_end: bool) -> Result<String, String> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(ago).and_then(shown).ok_or_else(|| "before 1970".to_owned());
    }
    // RFC 3339 lets both letters be small (section 5.6).
    let text = text.to_ascii_uppercase();
    let time = if text.len() == 10 {
        let day = humantime::parse_rfc3339(&format!("{text}T00:00:00Z"));
        day.map(|day| if is_end { day + DAY } else { day }).map_err(|error| error.to_string())
    } else {
        let utc = humantime::parse_rfc3339_weak(&text).map_err(|error| error.to_string());
        let with_offset = |_| OffsetDateTime::parse(&text, &Rfc3339).map(SystemTime::from);
        utc.or_else(with_offset).map_err(|error| error.to_string())
    };
    const FORMS: &str = "write 2026-01-31T09:00:00Z, 2026-01-31 (in UTC), or 7d";
    let time = time.map_err(|error| format!("{error}; {FORMS}"))?;
    shown(time).ok_or_else(|| "not from 1970 to 9999".to_owned())
}

/// Nothing where records could not have it.
fn shown(time: SystemTime) -> Option<String> {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since < YEAR_10000).then(|| humantime::format_rfc3339_micros(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_as_people_and_programs_write_them() {
        let now = humantime::parse_rfc3339("2026-03-10T12:00:00Z").unwrap();
        for (text, is_end, expected) in [
            ("7d", false, "2026-03-03T12:00:00.000000Z"),
            ("2026-01-31", false, "2026-01-31T00:00:00.000000Z"),
            ("2026-01-31", true, "2026-02-01T00:00:00.000000Z"),
            ("2026-01-31T09:00:00Z", false, "2026-01-31T09:00:00.000000Z"),
            ("2026-01-31 09:00:00", false, "2026-01-31T09:00:00.000000Z"),
            ("2026-01-31t09:00:00.5z", false, "2026-01-31T09:00:00.500000Z"),
            ("2026-01-31T09:00:00+01:00", false, "2026-01-31T08:00:00.000000Z"),
            ("2026-01-31T23:00:00.000001-02:30", false, "2026-02-01T01:30:00.000001Z"),
        ] {
            assert_eq!(time(text, now, is_end).as_deref(), Ok(expected), "{text}");
        }
        let wrong = ["60y", "1000000d", "1969-12-31", "2026-02-30", "2026-13-01T00:00:00Z", "soon"];
        for text in wrong {
            assert!(time(text, now, false).is_err(), "{text}");
        }
        assert!(time("9999-12-31", now, true).is_err());
    }
}

//! The way from a profile to keys: those with which it begins, and the roles that are taken one after
//! the other. The SDK for Rust's order is kept, also where a profile names more than one.

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use super::super::keys;
use super::super::role::Role;
use super::section::Settings;
use crate::config::aws::WebIdentity;
use crate::config::aws::chain::SESSION_NAME;

/// How many profiles a way may lead through.
const LONGEST: usize = 8;
/// Settings by which a profile leads to a person's sign-on, which is not gone here.
const SIGN_ON: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "sso_role_name",
    "sso_region",
    "login_session",
];

/// A profile's way to keys.
pub(super) struct Way {
    pub(super) base: Base,
    /// In the order in which they are taken.
    pub(super) roles: Vec<Role>,
}

/// Where the first keys come from.
pub(super) enum Base {
    /// They stand in the profile.
    Keys(Credentials),
    /// A command prints them.
    Process(Zeroizing<String>),
    WebIdentity(WebIdentity),
    Environment,
    Container,
    Instance,
}

/// The way from the profile of this name; nothing where it is not there or has none.
pub(super) fn find(
    name: &str,
    settings_of: impl Fn(&str) -> Option<Settings>,
) -> Result<Option<Way>, String> {
    let mut names: Vec<String> = vec![name.to_owned()];
    let mut roles = Vec::new();
    let Some(mut settings) = settings_of(name) else { return Ok(None) };
    let base = loop {
        let own = names.last().map(String::as_str).unwrap_or_default();
        let of_own = |wrong: String| format!("profile {own:?}: {wrong}");
        // In a profile that another one names, keys count before a role.
        if names.len() > 1
            && let Some(keys) = standing(&settings).map_err(of_own)?
        {
            break Some(Base::Keys(keys));
        }
        let Some(role) = role(&settings).map_err(of_own)? else {
            break base(&settings).map_err(of_own)?;
        };
        roles.push(role);
        let Some(next) = source(&settings).map_err(of_own)?.filter(|next| *next != own) else {
            break base(&settings).map_err(of_own)?;
        };
        let next = next.to_owned();
        if names.contains(&next) {
            names.push(next);
            return Err(format!("source_profile leads round in a circle: {}", names.join(", ")));
        }
        if names.len() == LONGEST {
            return Err(format!("profile {name:?} leads through more than {LONGEST} profiles"));
        }
        settings = settings_of(&next)
            .ok_or_else(|| of_own(format!("its source_profile {next:?} is in neither file")))?;
        names.push(next);
    };
    roles.reverse();
    match base {
        Some(base) => Ok(Some(Way { base, roles })),
        None if roles.is_empty() => Ok(None),
        None => {
            let last = names.last().map(String::as_str).unwrap_or_default();
            Err(format!("profile {last:?}: it has no keys with which to take a role"))
        }
    }
}

/// The role that a profile names, if it is to be taken with other keys.
fn role(settings: &Settings) -> Result<Option<Role>, String> {
    if settings.contains_key("web_identity_token_file") {
        return Ok(None);
    }
    let Some(arn) = settings.get("role_arn") else { return Ok(None) };
    if settings.contains_key("mfa_serial") {
        return Err(elsewhere("mfa_serial"));
    }
    let arn = arn.to_string();
    let external_id = settings.get("external_id").cloned();
    Ok(Some(Role { arn, session_name: session_name(settings), external_id }))
}

/// The profile with whose keys the role is taken; nothing where that is the profile itself.
fn source(settings: &Settings) -> Result<Option<&str>, String> {
    match (settings.get("source_profile"), settings.contains_key("credential_source")) {
        (Some(name), false) => Ok(Some(name.as_str())),
        (None, true) => Ok(None),
        (Some(_), true) => Err("it has source_profile and credential_source; keep one".to_owned()),
        (None, false) => Err("role_arn needs source_profile, credential_source or \
                              web_identity_token_file beside it"
            .to_owned()),
    }
}

/// Where a profile's own keys come from, if it says that.
fn base(settings: &Settings) -> Result<Option<Base>, String> {
    let token_file = settings.get("web_identity_token_file");
    if let Some(source) = settings.get("credential_source") {
        return match source.as_str() {
            _ if token_file.is_some() => {
                Err("it has credential_source and web_identity_token_file; keep one".to_owned())
            }
            "Environment" => Ok(Some(Base::Environment)),
            "EcsContainer" => Ok(Some(Base::Container)),
            "Ec2InstanceMetadata" => Ok(Some(Base::Instance)),
            _ => Err("its credential_source is none of Environment, EcsContainer and \
                      Ec2InstanceMetadata"
                .to_owned()),
        };
    }
    if let Some(file) = token_file {
        let role = settings.get("role_arn");
        let role = role.ok_or("it has web_identity_token_file without role_arn")?;
        return Ok(Some(Base::WebIdentity(WebIdentity {
            token_file: file.as_str().into(),
            role_arn: role.to_string(),
            session_name: session_name(settings),
        })));
    }
    if let Some(key) = SIGN_ON.iter().find(|key| settings.contains_key(**key)) {
        return Err(elsewhere(key));
    }
    if let Some(command) = settings.get("credential_process") {
        return Ok(Some(Base::Process(command.clone())));
    }
    let has = |key| settings.contains_key(key);
    match (has("aws_access_key_id"), has("aws_secret_access_key")) {
        (true, false) => Err("it has no aws_secret_access_key".to_owned()),
        (false, true) => Err("it has no aws_access_key_id".to_owned()),
        _ => Ok(standing(settings)?.map(Base::Keys)),
    }
}

/// The keys that stand in a profile.
fn standing(settings: &Settings) -> Result<Option<Credentials>, String> {
    let text = |key| settings.get(key).map(|text| text.to_string());
    let pair = text("aws_access_key_id").zip(text("aws_secret_access_key"));
    let token = text("aws_session_token");
    pair.map(|(id, secret)| keys::checked(id, secret, token, None, "profile"))
        .transpose()
        .map_err(str::to_owned)
}

fn session_name(settings: &Settings) -> String {
    settings.get("role_session_name").map_or(SESSION_NAME, |name| name.as_str()).to_owned()
}

/// What to do about a setting for which a person is asked.
fn elsewhere(key: &str) -> String {
    format!(
        "it has {key}, for which a person is asked; use in its place a profile with \
         credential_process = aws configure export-credentials --format process --profile ..."
    )
}

#[cfg(test)]
mod tests;

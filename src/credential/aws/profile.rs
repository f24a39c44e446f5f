//! A profile of the shared files `credentials` and `config`: its keys and its region.
//!
//! Its way to keys is the one that the SDK for Rust would go, or none: what comes after a profile in
//! the chain may be somebody else.

mod section;
mod way;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use self::section::{Settings, section};
use self::way::{Base, Way};
use super::super::source::SourceError;
use super::call::Call;
use super::sts::Sts;
use super::{container, files, instance, process, role, web_identity};
use crate::config::aws::{Chain, Profile, SharedFile};

/// The keys of the profile; nothing where it has none and was not asked for by its name.
pub(super) async fn keys(
    chain: &Chain,
    sts: &Sts,
    call: &Call<'_>,
) -> Result<Option<Credentials>, SourceError> {
    let Profile { name, is_named, credentials, config } = &chain.profile;
    let texts = Texts { config: read(config, call).await?, keys: read(credentials, call).await? };
    let way = way::find(name, |name| texts.settings(name)).map_err(SourceError::Malformed)?;
    let Some(Way { base, roles }) = way else {
        let lacks = match texts.settings(name) {
            _ if !is_named => return Ok(None),
            None => "neither shared file has it",
            Some(_) => "it has no keys",
        };
        let wrong = format!("profile {name:?}: AWS_PROFILE names it, and {lacks}");
        return Err(SourceError::Malformed(wrong));
    };
    let mut keys = first(base, chain, sts, call).await.map_err(|error| of(name, error))?;
    for role in &roles {
        keys = role::keys(role, &keys, sts, call).await.map_err(|error| of(name, error))?;
    }
    Ok(Some(keys))
}

/// The keys with which a profile's way begins.
async fn first(
    base: Base,
    chain: &Chain,
    sts: &Sts,
    call: &Call<'_>,
) -> Result<Credentials, SourceError> {
    let lacking = |wrong: &str| SourceError::Malformed(format!("credential_source: {wrong}"));
    match base {
        Base::Keys(keys) => Ok(keys),
        Base::Process(command) => process::keys(&command, call).await,
        Base::WebIdentity(identity) => web_identity::keys(&identity, sts, call).await,
        Base::Environment => {
            chain.environment.clone().ok_or_else(|| lacking("no keys are in the environment"))
        }
        Base::Container => match &chain.container {
            Some(container) => container::keys(container, call).await,
            None => Err(lacking("the environment names no container's agent")),
        },
        Base::Instance => match &chain.instance {
            Some(endpoint) => instance::keys(endpoint, call).await,
            None => Err(lacking("the instance's metadata are switched off")),
        },
    }
}

/// A fault of a profile's way.
fn of(name: &str, error: SourceError) -> SourceError {
    let told = format!("profile {name:?}: {error}");
    match error {
        SourceError::Unavailable(_) => SourceError::Unavailable(told),
        SourceError::Denied(_) => SourceError::Denied(told),
        SourceError::Missing(_) => SourceError::Missing(told),
        SourceError::Malformed(_) => SourceError::Malformed(told),
    }
}

/// What the shared files hold, as far as they are there.
struct Texts {
    config: Option<Zeroizing<String>>,
    keys: Option<Zeroizing<String>>,
}

impl Texts {
    /// The settings of a profile. What stands in the file of keys counts more.
    fn settings(&self, name: &str) -> Option<Settings> {
        let of =
            |text: &Option<Zeroizing<String>>, is_config| section(text.as_ref()?, name, is_config);
        match (of(&self.config, true), of(&self.keys, false)) {
            (Some(mut settings), Some(keys)) => {
                settings.extend(keys);
                Some(settings)
            }
            (config, keys) => config.or(keys),
        }
    }
}

async fn read(
    file: &Option<SharedFile>,
    call: &Call<'_>,
) -> Result<Option<Zeroizing<String>>, SourceError> {
    match file {
        Some(file) => files::read_shared(file, call).await,
        None => Ok(None),
    }
}

/// The region of the profile, if its files can be read and have one.
pub(crate) fn region(profile: &Profile) -> Option<String> {
    let of = |file: &Option<SharedFile>, is_config| {
        let text = files::shared(file.as_ref()?).ok()??;
        section(&text, &profile.name, is_config)?.remove("region").map(|text| text.to_string())
    };
    of(&profile.credentials, false).or_else(|| of(&profile.config, true))
}

#[cfg(test)]
mod tests;

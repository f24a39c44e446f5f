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
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;

    use bytes::Bytes;
    use http::Uri;
    use http_body_util::Full;

    use super::*;
    use crate::client::Client;
    use crate::config::aws::tests::settings;
    use crate::disk::Disk;

    const CONFIG: &str = "\
# a comment
[default]
region = eu-west-1
s3 =
  region = us-east-1
[profile north]
region=eu-north-1 # where it is cold
role_arn = arn:aws:iam::123456789012:role/cms
[profile empty]
output = json
";
    const CREDENTIALS: &str = "\
[default]
aws_access_key_id = AKIDDEFAULT
aws_secret_access_key = def/ault=
[ south ]
AWS_ACCESS_KEY_ID=AKIDSOUTH
aws_secret_access_key=sou/th+
aws_session_token = token==
[half]
aws_access_key_id = AKIDHALF
[both]
aws_access_key_id = AKIDBOTH
aws_secret_access_key = bo/th+
credential_source = Ec2InstanceMetadata
[lost]
credential_process = /nonexistent/program hidden
";

    fn profile(name: &str, is_named: bool) -> (tempfile::TempDir, Profile) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Some(SharedFile { path, is_named: true })
        };
        let (credentials, config) = (file("credentials", CREDENTIALS), file("config", CONFIG));
        let profile = Profile { name: name.to_owned(), is_named, credentials, config };
        (folder, profile)
    }

    async fn keys(profile: &Profile) -> Result<Option<Credentials>, SourceError> {
        let client = Client::<Full<Bytes>>::new(None, None, Duration::ZERO).unwrap();
        let disk = Disk::default();
        ask(profile, &Call::new(&client, &disk, Duration::from_secs(20))).await
    }

    async fn ask(profile: &Profile, call: &Call<'_>) -> Result<Option<Credentials>, SourceError> {
        let chain = Chain { profile: profile.clone(), ..settings("prod/cms").chain };
        let sts = Sts { endpoint: Uri::from_static("http://127.0.0.1:1"), region: String::new() };
        super::keys(&chain, &sts, call).await
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once() {
        let (_folder, profile) = profile("south", true);
        let client = Client::<Full<Bytes>>::new(None, None, Duration::ZERO).unwrap();
        let disk = Disk::default();
        let short = || Call::new(&client, &disk, Duration::from_millis(20));
        let (release, released) = mpsc::channel::<()>();
        assert!(short().read(move || released.recv().is_ok()).await.is_none());
        let error = ask(&profile, &short()).await.unwrap_err().to_string();
        assert!(error.contains("config can't be read: no answer in time"), "{error}");
        release.send(()).unwrap();
        let call = Call::new(&client, &disk, Duration::from_secs(20));
        assert!(ask(&profile, &call).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn keys_that_stand_there_are_taken() {
        for (name, id, secret, token) in [
            ("default", "AKIDDEFAULT", "def/ault=", None),
            ("south", "AKIDSOUTH", "sou/th+", Some("token==")),
        ] {
            let (_folder, profile) = profile(name, true);
            let found = keys(&profile).await.unwrap().unwrap();
            assert_eq!((found.access_key_id(), found.secret_access_key()), (id, secret));
            assert_eq!(found.session_token(), token);
        }
    }

    #[tokio::test]
    async fn what_is_no_profile_of_keys_is_told() {
        for (name, words) in [
            ("north", "role_arn"),
            ("empty", "no keys"),
            ("half", "no aws_secret_access_key"),
            ("both", "switched off"),
            ("lost", "\"lost\": /nonexistent/program can't be started"),
            ("gone", "neither shared file"),
        ] {
            let (_folder, profile) = profile(name, true);
            let error = keys(&profile).await.unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hidden"), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn without_a_file_or_a_name_the_next_provider_is_asked() {
        let (folder, mut profile) = profile("gone", false);
        assert!(keys(&profile).await.unwrap().is_none());
        profile.name = "default".to_owned();
        let named = |path: PathBuf| Some(SharedFile { path, is_named: true });
        profile.credentials = named("/nonexistent".into());
        assert!(keys(&profile).await.unwrap().is_none());
        profile.credentials = named(folder.path().join("config/below-a-file"));
        assert!(keys(&profile).await.unwrap().is_none());
        profile.credentials = named(folder.path().to_owned());
        assert!(keys(&profile).await.unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn the_region_is_the_profiles_own() {
        for (name, expected) in
            [("default", Some("eu-west-1")), ("north", Some("eu-north-1")), ("south", None)]
        {
            let (_folder, profile) = profile(name, true);
            assert_eq!(region(&profile).as_deref(), expected, "{name}");
        }
    }
}

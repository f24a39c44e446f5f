//! A profile of the shared files `credentials` and `config`: its keys and its region.
//!
//! Keys that stand there are taken, or those that its program prints. A profile that names another
//! way to them (another role, single sign-on) is refused rather than passed over, and its keys are not taken: they, and what
//! comes after it in the chain, may be somebody else. The SDK for Rust prefers each of these ways to
//! keys as well.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use super::super::source::SourceError;
use super::call::Call;
use super::{files, keys, process};
use crate::config::aws::{Profile, SharedFile};

/// Settings of a profile that lead to keys by ways that are not gone here.
const OTHER_WAYS: [&str; 6] = [
    "role_arn",
    "credential_source",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "login_session",
];

type Settings = BTreeMap<String, Zeroizing<String>>;

/// The keys of the profile; nothing where it has none and was not asked for by its name.
pub(super) async fn keys(
    profile: &Profile,
    call: &Call<'_>,
) -> Result<Option<Credentials>, SourceError> {
    let name = &profile.name;
    let mut settings = Settings::new();
    let mut is_there = false;
    // What stands in the file of keys counts more.
    for (file, is_config) in [(&profile.config, true), (&profile.credentials, false)] {
        let Some(file) = file else { continue };
        let Some(text) = files::read_shared(file, call).await? else { continue };
        if let Some(own) = section(&text, name, is_config) {
            is_there = true;
            settings.extend(own);
        }
    }
    let mut take = |key: &str| settings.remove(key).map(|text| text.to_string());
    let (id, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
    let token = take("aws_session_token");
    let malformed = |wrong: &str| SourceError::Malformed(format!("profile {name:?}: {wrong}"));
    if let Some(key) = OTHER_WAYS.iter().find(|key| settings.contains_key(**key)) {
        return Err(malformed(&format!(
            "it has {key}, a way to keys that the gateway does not go; give it keys alone, or a role \
             by web identity, container or instance"
        )));
    }
    if let Some(command) = settings.get("credential_process") {
        return match process::keys(command, call).await {
            Err(SourceError::Malformed(wrong)) => Err(malformed(&wrong)),
            keys => keys.map(Some),
        };
    }
    match (id, secret) {
        (Some(id), Some(secret)) => {
            keys::checked(id, secret, token, None, "profile").map(Some).map_err(malformed)
        }
        (Some(_), None) => Err(malformed("it has no aws_secret_access_key")),
        (None, Some(_)) => Err(malformed("it has no aws_access_key_id")),
        (None, None) if profile.is_named && !is_there => {
            Err(malformed("AWS_PROFILE names it, and neither shared file has it"))
        }
        (None, None) if profile.is_named => {
            Err(malformed("AWS_PROFILE names it, and it has no keys"))
        }
        (None, None) => Ok(None),
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

/// The settings under a profile's name; nothing where it is not there. The file of other settings
/// writes `[profile name]`, but for the default one.
fn section(text: &str, name: &str, is_config: bool) -> Option<Settings> {
    let mut settings = None;
    let mut is_inside = false;
    for line in text.lines() {
        // Indented lines belong to the setting above, which is none of ours.
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default().trim();
            let own = header.strip_prefix("profile").filter(|it| it.starts_with([' ', '\t']));
            is_inside = match own {
                Some(own) if is_config => own.trim() == name,
                _ => header == name && (!is_config || name == "default"),
            };
            if is_inside {
                settings.get_or_insert_with(Settings::new);
            }
        } else if let (true, Some(settings), Some((key, value))) =
            (is_inside, settings.as_mut(), line.split_once('='))
        {
            let value = value.split_once(" #").map_or(value, |(value, _)| value);
            settings.insert(key.trim().to_lowercase(), Zeroizing::new(value.trim().to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;
    use crate::client::Client;
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
role_arn = arn:aws:iam::123456789012:role/cms
source_profile = both
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
        super::keys(profile, &Call::new(&client, &disk, Duration::from_secs(20))).await
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_asked_once() {
        let (_folder, profile) = profile("south", true);
        let client = Client::<Full<Bytes>>::new(None, None, Duration::ZERO).unwrap();
        let disk = Disk::default();
        let short = || Call::new(&client, &disk, Duration::from_millis(20));
        let (release, released) = mpsc::channel::<()>();
        assert!(short().read(move || released.recv().is_ok()).await.is_none());
        let error = super::keys(&profile, &short()).await.unwrap_err().to_string();
        assert!(error.contains("config can't be read: no answer in time"), "{error}");
        release.send(()).unwrap();
        let call = Call::new(&client, &disk, Duration::from_secs(20));
        assert!(super::keys(&profile, &call).await.unwrap().is_some());
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
            ("both", "role_arn"),
            ("gone", "neither shared file"),
        ] {
            let (_folder, profile) = profile(name, true);
            let error = keys(&profile).await.unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
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

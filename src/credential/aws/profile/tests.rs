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

//! Every fault of these keys and variables is told without asking anybody.

use std::path::Path;

use super::super::section::faults_of;
use super::*;

/// Settings of a secret in a region, with keys that stand nowhere.
pub(crate) fn settings(secret_id: &str) -> SecretsManager {
    SecretsManager {
        secret_id: secret_id.to_owned(),
        region: "eu-central-1".to_owned(),
        endpoint: Uri::from_static("https://secretsmanager.eu-central-1.amazonaws.com/"),
        sts: Uri::from_static("https://sts.eu-central-1.amazonaws.com/"),
        ca: None,
        version_stage: "AWSCURRENT".to_owned(),
        username_key: "username".to_owned(),
        password_key: "password".to_owned(),
        timeout: 5 * SECOND,
        chain: Chain {
            environment: None,
            profile: Profile {
                name: "default".to_owned(),
                is_named: false,
                credentials: None,
                config: None,
            },
            web_identity: None,
            container: None,
            instance: None,
        },
    }
}

fn variables(set: &[(&str, &str)]) -> Variables {
    set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(keys: &str, set: &[(&str, &str)]) -> (String, Vec<String>) {
    let text = format!("aws = {{ {keys} }}");
    let take = |mut section: Section| secrets_manager(&mut section, &variables(set));
    let (source, faults) = faults_of(&text, Path::new("/"), take);
    (format!("{source:?}"), faults)
}

const ID: &str = "secret_id = \"prod/cms\"";
const SOUND: &str = "secret_id = \"prod/cms\", region = \"eu-central-1\"";

#[test]
fn what_is_left_out_has_its_default() {
    let (source, faults) = read(SOUND, &[]);
    assert_eq!(faults, Vec::<String>::new());
    for shown in [
        "endpoint: https://secretsmanager.eu-central-1.amazonaws.com/",
        "version_stage: \"AWSCURRENT\"",
        "username_key: \"username\"",
        "password_key: \"password\"",
        "timeout: 5s",
        "instance: Some(http://169.254.169.254/)",
    ] {
        assert!(source.contains(shown), "{shown}: {source}");
    }
}

#[test]
fn the_region_is_the_nearest_one() {
    let arn = "secret_id = \"arn:aws:secretsmanager:eu-west-1:123456789012:secret:cms-a1b2c3\"";
    let set = [("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_REGION", "us-west-2")];
    for (keys, set, expected) in [
        (SOUND, &set[..], "eu-central-1"),
        (arn, &set, "eu-west-1"),
        (ID, &set, "us-west-2"),
        (ID, &set[..1], "us-east-1"),
    ] {
        let (source, faults) = read(keys, set);
        let shown = format!("region: \"{expected}\", endpoint: https://secretsmanager.{expected}.");
        assert!(source.contains(&shown) && faults.is_empty(), "{expected}: {faults:?} {source}");
    }
    let (source, _) = read("secret_id = \"a\", region = \"cn-north-1\"", &[]);
    assert!(source.contains("secretsmanager.cn-north-1.amazonaws.com.cn"), "{source}");
}

#[test]
fn the_endpoint_may_be_another() {
    let set = [
        ("AWS_ENDPOINT_URL", "https://all.example.com"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "https://own.example.com"),
    ];
    let own = format!("{SOUND}, endpoint = \"http://127.0.0.1:5000\"");
    let plain = format!("{SOUND}, endpoint = \"http://aws.example.com\", allow_plaintext = true");
    let ignored = [set[0], set[1], ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")];
    for (keys, set, expected) in [
        (own.as_str(), &set[..], "http://127.0.0.1:5000/"),
        (SOUND, &set, "https://own.example.com/"),
        (SOUND, &set[..1], "https://all.example.com/"),
        (SOUND, &ignored, "https://secretsmanager.eu-central-1.amazonaws.com/"),
        (&plain, &[], "http://aws.example.com/"),
    ] {
        let (source, faults) = read(keys, set);
        let shown = format!("endpoint: {expected}, sts");
        assert!(source.contains(&shown) && faults.is_empty(), "{expected}: {faults:?} {source}");
    }
}

#[test]
fn who_must_ask_validated_cryptography_asks_it() {
    let set = [("AWS_USE_FIPS_ENDPOINT", "true")];
    for (region, sts) in [("us-east-1", "sts-fips"), ("us-gov-west-1", "sts")] {
        let keys = format!("secret_id = \"a\", region = \"{region}\"");
        let (source, faults) = read(&keys, &set);
        assert_eq!(faults, Vec::<String>::new());
        for host in ["secretsmanager-fips", sts] {
            let shown = format!(": https://{host}.{region}.amazonaws.com/");
            assert!(source.contains(&shown), "{shown}: {source}");
        }
    }
}

#[test]
fn what_is_wrong_is_told() {
    for (keys, words) in [
        ("region = \"eu-west-1\"", "credential.aws.secret_id"),
        (ID, "region = \"eu-central-1\", or set AWS_REGION"),
        ("secret_id = \"a b\", region = \"eu-west-1\"", "no secret's name"),
        ("secret_id = \"a\", region = \"evil.example.com/\"", "no region"),
        ("secret_id = \"arn:aws:s:eu-west-1:1:x\", region = \"eu-west-2\"", "not that of the ARN"),
        ("secret_id = \"a\", region = \"eu-west-1\", regoin = 1", "did you mean region?"),
        ("secret_id = \"a\", region = \"r\", timeout = \"1ms\"", "timeout"),
        ("secret_id = \"a\", region = \"r\", username_key = \"password\"", "the same member"),
        ("secret_id = \"a\", region = \"r\", version_stage = \"\\u0007\"", "no staging label"),
        ("secret_id = \"a\", region = \"r\", ca = \"/nonexistent\"", "credential.aws.ca"),
        ("secret_id = \"a\", region = \"r\", endpoint = \"http://a.example.com\"", "plain text"),
        ("secret_id = \"a\", region = \"r\", endpoint = \"https://a.example.com/b\"", "a path"),
        ("secret_id = \"a\", region = \"r\", endpoint = \"a.example.com\"", "no whole URL"),
    ] {
        let (_, faults) = read(keys, &[]);
        let told = faults.iter().map(|fault| format!("credential.{fault}")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(words), "{keys}: {told:?}");
    }
}

#[test]
fn what_is_wrong_in_the_environment_is_told_without_a_secret() {
    let web = "AWS_WEB_IDENTITY_TOKEN_FILE";
    for (set, words) in [
        (&[("AWS_ACCESS_KEY_ID", "AKID")][..], "without the other"),
        (&[("AWS_SECRET_ACCESS_KEY", "hidden")], "without the other"),
        (&[("AWS_ACCESS_KEY_ID", "AK ID"), ("AWS_SECRET_ACCESS_KEY", "hidden")], "key id"),
        (&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "hid den")], "secret access key"),
        (&[(web, "/token")], "without AWS_ROLE_ARN"),
        (&[("AWS_ENDPOINT_URL_STS", "http://a.example.com")], "AWS_ENDPOINT_URL_STS"),
        (&[("AWS_ENDPOINT_URL", "http://a.example.com")], "AWS_ENDPOINT_URL must"),
        (&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example.com/")], "no path"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.3/")], "an agent's address"),
        (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://a.example.com/")], "neither https"),
        (&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://a.example.com")], "neither https"),
    ] {
        let (_, faults) = read(SOUND, set);
        assert!(faults.len() == 1 && faults[0].contains(words), "{set:?}: {faults:?}");
        assert!(!faults[0].contains("hid"), "{faults:?}");
    }
}

#[test]
fn each_provider_is_told_by_its_variables() {
    let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/a");
    let pod = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let pod_6 = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[fd00:ec2::23]/v1/credentials");
    let web =
        [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")];
    for (set, shown) in [
        (&[relative][..], "url: http://169.254.170.2/v2/credentials/a"),
        (&[pod], "url: http://169.254.170.23/v1/credentials"),
        (&[pod_6], "url: http://[fd00:ec2::23]/v1/credentials"),
        (&web, "token_file: \"/token\", role_arn: \"arn:aws:iam::1:role/r\""),
        (&[], "sts: https://sts.eu-central-1.amazonaws.com/"),
        (&[("AWS_EC2_METADATA_DISABLED", "true")], "instance: None"),
        (
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")],
            "instance: Some(http://[fd00:ec2::254]/)",
        ),
        (&[("HOME", "/home/cms")], "path: \"/home/cms/.aws/credentials\""),
        (&[("AWS_PROFILE", "north")], "name: \"north\", is_named: true"),
    ] {
        let (source, faults) = read(SOUND, set);
        assert!(source.contains(shown) && faults.is_empty(), "{set:?}: {faults:?} {source}");
    }
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_SESSION_TOKEN", "hidden"),
    ];
    let (source, _) = read(SOUND, &keys);
    assert!(source.contains("AKID") && !source.contains("hidden"), "{source}");
}

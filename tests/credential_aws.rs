//! The credential in AWS Secrets Manager: read by whose right it may be read, rotated, and told
//! where it can't be had.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use support::agent::Agent;
use support::cms::ACCOUNT;
use support::moto::{Keys, Moto, REGION, free_port};
use support::trail::{events, folder};
use support::{BINARY, Reply, SAMPLE, World, exchange, records_in, wait_for};

const READ: &str = "secretsmanager:GetSecretValue";

/// A world whose credential is the secret `prod/cms`, with these further keys of `aws` and these
/// variables, and no others of AWS.
fn world(keys: &str, variables: &[(&str, &str)]) -> World {
    World::with_command(
        |config| *config = with_source(config, keys),
        |config| {
            let mut command = gateway(config.parent().unwrap(), variables);
            command.args(["serve", "--config"]).arg(config);
            command
        },
    )
}

fn with_source(config: &str, keys: &str) -> String {
    let file = "source = \"file\"\nusername = \"username\"\npassword = \"password\"\n";
    let aws = format!(
        "source = \"aws-secrets-manager\"\nrefresh = \"50ms\"\n\
         aws = {{ secret_id = \"prod/cms\", region = \"{REGION}\", {keys} }}\n"
    );
    assert!(config.contains(file));
    config.replace(file, &aws)
}

fn gateway(home: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("CMS_GATEWAY_LOG", "trace").envs(variables.iter().copied());
    command
}

fn at(url: &str) -> String {
    format!("endpoint = \"{url}\"")
}

fn secret(password: &str) -> String {
    let (username, _) = ACCOUNT;
    json!({"engine": "cms", "username": username, "password": password, "port": 443}).to_string()
}

fn environment(keys: &Keys) -> Vec<(&str, &str)> {
    let token = keys.token.as_ref().map(|token| ("AWS_SESSION_TOKEN", token.as_str()));
    let pair = [("AWS_ACCESS_KEY_ID", &*keys.id), ("AWS_SECRET_ACCESS_KEY", &*keys.secret)];
    pair.into_iter().chain(token).collect()
}

/// A store that checks signatures, the version of the secret in it, and keys of a role that may read
/// it.
fn assumed() -> (Moto, String, Keys) {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let keys = moto.assume(&moto.role("cms", &[READ]));
    moto.check_after(0);
    (moto, version, keys)
}

/// Keys as an agent or an instance gives them, which end after so long.
fn document(keys: &Keys, end: Duration) -> String {
    let end = humantime::format_rfc3339_seconds(SystemTime::now() + end).to_string();
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": keys.id,
        "SecretAccessKey": keys.secret, "Token": keys.token, "Expiration": end,
    })
    .to_string()
}

fn made_up(id: &str) -> Keys {
    let (secret, token) = ("hidden-key".to_owned(), Some("hidden-token".to_owned()));
    Keys { id: id.to_owned(), secret, token }
}

const HOUR: Duration = Duration::from_secs(3600);

fn put(world: &World) -> Reply {
    world.put(&world.supervisor(), SAMPLE)
}

fn assert_serves(world: &World, version: &str) {
    world.gateway.wait_until_ready();
    let reply = put(world);
    assert_eq!(reply.status, 200, "{reply:?} {}", world.gateway.log());
    let credential = &world.records().pop().unwrap()["credential"];
    assert_eq!(*credential, json!({"source": "aws-secrets-manager", "version": version}));
}

fn wait_for_log(world: &World, words: &str) {
    wait_for(words, || world.gateway.log().contains(words));
}

fn assert_nowhere(world: &World, secrets: &[&str]) {
    let trail = records_in(&folder(world)).iter().map(ToString::to_string).collect::<String>();
    let said = world.gateway.log() + &trail + &world.gateway.admin("/metrics").body;
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is said");
    }
}

#[test]
fn a_rotated_secret_is_used_and_its_version_is_on_record() {
    let moto = Moto::start();
    moto.create("prod/cms", &secret("not-yet"));
    let keys = moto.user("cms", &[READ]);
    moto.check_after(0);
    let world = world(&at(&moto.url()), &environment(&keys));
    world.gateway.wait_until_ready();
    moto.check_none();
    let version = moto.rotate("prod/cms", &secret(ACCOUNT.1));
    moto.check_after(0);
    wait_for("the rotation", || {
        !events(&records_in(&folder(&world)), "credential_rotated").is_empty()
    });
    assert_serves(&world, &version);
    assert_nowhere(&world, &[ACCOUNT.1, "not-yet", &keys.secret]);
}

#[test]
fn wrong_keys_and_keys_without_the_right_get_nothing() {
    let moto = Moto::start();
    moto.create("prod/cms", &secret(ACCOUNT.1));
    let good = moto.user("cms", &[READ]);
    let no_right = moto.user("other", &[]);
    moto.check_after(0);
    let forged = Keys { secret: "hidden-key".to_owned(), ..good.clone() };
    let unknown = Keys { id: "AKIAUNKNOWN".to_owned(), ..good.clone() };
    for keys in [forged, unknown, no_right] {
        let world = world(&at(&moto.url()), &environment(&keys));
        wait_for_log(&world, "status 403");
        assert_eq!(world.gateway.admin("/readyz").status, 503);
        assert_eq!((put(&world).status, put(&world).code()), (503, "GW-4002".to_owned()));
        assert_nowhere(&world, &["hidden-key", &good.secret]);
    }
    let world = world(&at(&moto.url()), &environment(&good));
    world.gateway.wait_until_ready();
}

#[test]
fn a_store_that_is_down_at_the_start_is_told_and_its_credential_comes_with_it() {
    let port = free_port();
    let keys = made_up("AKID");
    let world = world(&at(&format!("http://127.0.0.1:{port}")), &environment(&keys));
    wait_for_log(&world, "Connection refused");
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains("credential: "), "{ready:?}");
    assert_eq!((put(&world).status, put(&world).code()), (503, "GW-4002".to_owned()));
    assert_eq!(world.cms.calls(), 0);
    let moto = Moto::start_at(port);
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    assert_serves(&world, &version);
}

#[test]
fn a_secret_of_no_use_is_told_and_what_was_read_before_goes_on() {
    let moto = Moto::start();
    let world = world(&at(&moto.url()), &environment(&made_up("AKID")));
    wait_for_log(&world, "has no secret \\\"prod/cms\\\"");
    moto.secrets("CreateSecret", &json!({"Name": "prod/cms", "SecretBinary": "aGlkZGVu"}));
    wait_for_log(&world, "SecretBinary");
    moto.rotate("prod/cms", "hidden");
    wait_for_log(&world, "no JSON object");
    moto.rotate("prod/cms", "{\"username\": \"hidden\"}");
    wait_for_log(&world, "no member \\\"password\\\"");
    assert_eq!(world.gateway.admin("/readyz").status, 503);
    let version = moto.rotate("prod/cms", &secret(ACCOUNT.1));
    assert_serves(&world, &version);
    moto.secrets("DeleteSecret", &json!({"SecretId": "prod/cms"}));
    wait_for_log(&world, "InvalidRequestException");
    assert_serves(&world, &version);
    assert_nowhere(&world, &["hidden", ACCOUNT.1]);
}

#[test]
fn other_members_and_another_version_may_be_named() {
    let moto = Moto::start();
    let value = json!({"user": ACCOUNT.0, "pass": ACCOUNT.1}).to_string();
    let version = moto.create("prod/cms", &value);
    moto.rotate("prod/cms", &secret("other"));
    let names = "username_key = \"user\", password_key = \"pass\"";
    let keys = format!("{}, version_stage = \"AWSPREVIOUS\", {names}", at(&moto.url()));
    assert_serves(&world(&keys, &environment(&made_up("AKID"))), &version);
}

#[test]
fn keys_may_stand_in_a_profile_and_be_changed_there() {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let keys = moto.user("cms", &[READ]);
    moto.check_after(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let write = |secret: &str| {
        let text =
            format!("[cms]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", keys.id);
        fs::write(&file, text).unwrap();
    };
    write("hidden-key");
    let path = file.to_str().unwrap();
    let world =
        world(&at(&moto.url()), &[("AWS_SHARED_CREDENTIALS_FILE", path), ("AWS_PROFILE", "cms")]);
    wait_for_log(&world, "status 403");
    write(&keys.secret);
    assert_serves(&world, &version);
}

/// A profile `cms` with these settings, and what else stands beside it; the variables that name both.
fn profile(folder: &Path, text: &str) -> [(&'static str, String); 2] {
    let file = folder.join("aws-config");
    fs::write(&file, format!("[profile cms]\n{text}\n")).unwrap();
    [("AWS_CONFIG_FILE", file.to_str().unwrap().to_owned()), ("AWS_PROFILE", "cms".to_owned())]
}

fn world_of_profile(moto: &Moto, folder: &Path, text: &str) -> World {
    world_of_profile_beside(moto, folder, text, None)
}

/// And with the variable that names a container's agent, after the profile in the chain.
fn world_of_profile_beside(moto: &Moto, folder: &Path, text: &str, agent: Option<&Agent>) -> World {
    let url = moto.url();
    let agent = agent.map(|agent| format!("{}/keys", agent.url()));
    let agent = agent.as_deref().map(|url| ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url));
    let set = profile(folder, text);
    let set = set.iter().map(|(name, value)| (*name, value.as_str()));
    let variables: Vec<_> = set.chain([("AWS_ENDPOINT_URL", url.as_str())]).chain(agent).collect();
    world("", &variables)
}

#[test]
fn a_profiles_program_prints_keys_that_are_kept_until_shortly_before_their_end() {
    for (minutes, are_kept) in [(60, true), (4, false)] {
        let (moto, version, keys) = assumed();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let end = SystemTime::now() + Duration::from_secs(60 * minutes);
        let printed = json!({
            "Version": 1, "AccessKeyId": keys.id, "SecretAccessKey": keys.secret,
            "SessionToken": keys.token,
            "Expiration": humantime::format_rfc3339_seconds(end).to_string(),
        });
        fs::write(at("the keys"), printed.to_string()).unwrap();
        let run = format!("echo $0 >> {:?}; echo hidden-words >&2; cat \"$1\"", at("runs"));
        let command = format!("/bin/sh -c '{run}' hidden-word {:?}", at("the keys"));
        let world =
            world_of_profile(&moto, folder.path(), &format!("credential_process = {command}"));
        assert_serves(&world, &version);
        let success = "cms_gateway_credential_refresh_total{result=\"success\"}";
        wait_for("some readings", || world.gateway.metric(success).unwrap_or_default() > 4.0);
        let runs = fs::read_to_string(at("runs")).unwrap();
        assert_eq!(runs == "hidden-word\n", are_kept, "{minutes} minutes: {runs}");
        assert_nowhere(&world, &["hidden-word", &keys.secret, keys.token.as_deref().unwrap()]);
    }
}

const ASSUME: &str = "sts:AssumeRole";

#[test]
fn roles_are_taken_one_after_the_other_from_a_source_profiles_keys() {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let first = moto.role("first", &[ASSUME]);
    let condition = json!({"StringEquals": {"sts:ExternalId": "hidden-id"}});
    let second = moto.role_on("second", &[READ], &condition);
    let keys = moto.user("cms", &[ASSUME]);
    moto.check_after(0);
    let folder = tempfile::tempdir().unwrap();
    let with = |secret: &str, id: &str| {
        format!(
            "role_arn = {second}\nsource_profile = first\nexternal_id = {id}\n\
             [profile first]\nrole_arn = {first}\nsource_profile = user\n\
             [profile user]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n",
            keys.id
        )
    };
    let world = world_of_profile(&moto, folder.path(), &with("hidden-key", "x"));
    wait_for_log(&world, "SignatureDoesNotMatch");
    profile(folder.path(), &with(&keys.secret, "hidden-other-id"));
    wait_for_log(&world, "no keys of arn:aws:iam::123456789012:role/second: AccessDenied");
    profile(folder.path(), &with(&keys.secret, "hidden-id"));
    assert_serves(&world, &version);
    assert_nowhere(&world, &["hidden-id", "hidden-other-id", "hidden-key", &keys.secret]);
}

#[test]
fn a_role_may_be_taken_by_a_profiles_own_keys_and_by_a_container() {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let role = moto.role("cms", &[READ]);
    let keys = moto.user("cms", &[ASSUME]);
    moto.check_after(0);
    let answer = document(&keys, HOUR);
    let agent = Agent::start(move |_| (200, answer.clone()));
    let own = format!(
        "source_profile = cms\naws_access_key_id = {}\naws_secret_access_key = {}",
        keys.id, keys.secret
    );
    for source in [own.as_str(), "credential_source = EcsContainer"] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("role_arn = {role}\n{source}");
        let world = world_of_profile_beside(&moto, folder.path(), &text, Some(&agent));
        assert_serves(&world, &version);
    }
}

#[test]
fn a_role_of_a_profile_may_be_had_for_a_web_identity() {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let role = moto.role("cms", &[READ]);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "hidden.web.token\n").unwrap();
    moto.check_after(1);
    let text = format!("role_arn = {role}\nweb_identity_token_file = {}", token.display());
    let world = world_of_profile(&moto, folder.path(), &text);
    assert_serves(&world, &version);
    assert_nowhere(&world, &["hidden.web.token", ACCOUNT.1]);
}

#[test]
fn a_profile_whose_way_is_not_gone_is_told_and_nothing_after_it_is_tried() {
    let (moto, version, keys) = assumed();
    let no_right = without_right(&moto);
    let folder = tempfile::tempdir().unwrap();
    let answer = document(&keys, HOUR);
    let agent = Agent::start(move |_| (200, answer.clone()));
    let circle = "role_arn = arn:a\nsource_profile = other\n\
                  [profile other]\nrole_arn = arn:b\nsource_profile = cms";
    let world = world_of_profile_beside(&moto, folder.path(), circle, Some(&agent));
    wait_for_log(&world, "in a circle: cms, other, cms");
    for (text, words) in [
        (format!("role_arn = arn:a\nsource_profile = cms\n{no_right}"), "no right to sts:Assume"),
        (
            format!("role_arn = arn:a\nsource_profile = cms\nmfa_serial = b\n{no_right}"),
            "mfa_serial",
        ),
        ("sso_session = corp".to_owned(), "aws configure export-credentials --format process"),
        ("credential_process = sleep 3600".to_owned(), "sleep was killed: it did not end within"),
        ("credential_process = /bin/sh -c 'exit 3'".to_owned(), "/bin/sh ended with exit status 3"),
    ] {
        profile(folder.path(), &text);
        wait_for_log(&world, words);
    }
    assert_eq!(world.gateway.admin("/readyz").status, 503);
    assert_eq!(agent.asked("").len(), 0);
    let printed = json!({"Version": 1, "AccessKeyId": keys.id, "SecretAccessKey": keys.secret,
        "SessionToken": keys.token});
    profile(folder.path(), &format!("credential_process = echo '{printed}'"));
    assert_serves(&world, &version);
}

/// Keys, as they stand in a profile, with which no role may be taken.
fn without_right(moto: &Moto) -> String {
    moto.check_none();
    let keys = moto.user("other", &[READ]);
    moto.check_after(0);
    format!("aws_access_key_id = {}\naws_secret_access_key = {}", keys.id, keys.secret)
}

#[test]
fn sts_gives_keys_for_a_web_identity() {
    let moto = Moto::start();
    let version = moto.create("prod/cms", &secret(ACCOUNT.1));
    let role = moto.role("cms", &[READ]);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "hidden.web.token\n").unwrap();
    // The first one is that to STS, which has no signature; all others have.
    moto.check_after(1);
    let url = moto.url();
    let world = world(
        "",
        &[
            ("AWS_ENDPOINT_URL", &url),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
            ("AWS_ROLE_ARN", &role),
        ],
    );
    assert_serves(&world, &version);
    assert_nowhere(&world, &["hidden.web.token", ACCOUNT.1]);
}

#[test]
fn a_containers_agent_gives_keys() {
    let (moto, version, keys) = assumed();
    let answer = document(&keys, HOUR);
    let agent = Agent::start(move |_| (200, answer.clone()));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "hidden-token\n").unwrap();
    let url = format!("{}/v1/credentials", agent.url());
    let world = world(
        &at(&moto.url()),
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        ],
    );
    assert_serves(&world, &version);
    let asked = agent.asked("GET /v1/credentials");
    assert_eq!(asked[0].header("authorization"), "hidden-token");
    assert_nowhere(&world, &["hidden-token", &keys.secret, keys.token.as_deref().unwrap()]);
}

#[test]
fn an_instances_metadata_give_keys() {
    let (moto, version, keys) = assumed();
    let answer = document(&keys, HOUR);
    let agent = Agent::start(move |asked| {
        let is_shown = asked.header("x-aws-ec2-metadata-token") == "hidden-token";
        let time = asked.header("x-aws-ec2-metadata-token-ttl-seconds");
        match asked.line.as_str() {
            "PUT /latest/api/token" if !time.is_empty() => (200, "hidden-token".to_owned()),
            _ if !is_shown => (401, String::new()),
            "GET /latest/meta-data/iam/security-credentials/" => (200, "cms-role".to_owned()),
            "GET /latest/meta-data/iam/security-credentials/cms-role" => (200, answer.clone()),
            _ => (404, String::new()),
        }
    });
    let world = world(
        &at(&moto.url()),
        &[
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &agent.url()),
        ],
    );
    assert_serves(&world, &version);
    assert_nowhere(&world, &["hidden-token", &keys.secret, keys.token.as_deref().unwrap()]);
}

/// An agent that gives these keys, each list's next one at each question and its last one for ever,
/// and a store that takes the last one alone.
fn agent_and_store(keys: &[&str], end: Duration) -> Agent {
    let last = (*keys.last().unwrap()).to_owned();
    let keys: Vec<String> = keys.iter().map(|id| document(&made_up(id), end)).collect();
    let asked_before = std::sync::atomic::AtomicUsize::new(0);
    Agent::start(move |asked| {
        if asked.line == "GET /keys" {
            let index = asked_before.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return (200, keys[index.min(keys.len() - 1)].clone());
        }
        if !asked.header("authorization").contains(&format!("Credential={last}/")) {
            return (400, json!({"__type": "ExpiredTokenException"}).to_string());
        }
        (200, json!({"SecretString": secret(ACCOUNT.1), "VersionId": "v-1"}).to_string())
    })
}

fn world_of(agent: &Agent) -> World {
    let url = format!("{}/keys", agent.url());
    world(&at(&agent.url()), &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)])
}

#[test]
fn keys_are_kept_until_shortly_before_their_end() {
    for (minutes, are_kept) in [(60, true), (4, false)] {
        let agent = agent_and_store(&["AKID"], Duration::from_secs(60 * minutes));
        let world = world_of(&agent);
        wait_for("some readings", || agent.asked("POST /").len() > 4);
        let asked = agent.asked("GET /keys").len();
        assert_eq!(asked == 1, are_kept, "{minutes} minutes: {asked}");
        assert_serves(&world, "v-1");
    }
}

#[test]
fn keys_that_aws_no_longer_takes_are_replaced_at_once() {
    let agent = agent_and_store(&["AKIDOLD", "AKIDNEW"], HOUR);
    let world = world_of(&agent);
    assert_serves(&world, "v-1");
    assert_eq!(agent.asked("GET /keys").len(), 2);
    assert!(!world.gateway.log().contains("can't be read"), "{}", world.gateway.log());
}

#[test]
fn the_same_keys_are_not_tried_again() {
    let agent = Agent::start(|_| (400, json!({"__type": "ExpiredTokenException"}).to_string()));
    let world =
        world(&format!("{}, timeout = \"2s\"", at(&agent.url())), &environment(&made_up("AKID")));
    wait_for_log(&world, "does not take the keys");
    let failures = || {
        let metric = "cms_gateway_credential_refresh_total{result=\"failure\"}";
        world.gateway.metric(metric).unwrap_or_default() as usize
    };
    wait_for("some readings", || failures() > 4);
    let asked = agent.asked("POST /").len();
    assert!(asked <= failures() + 1, "{} readings, {asked} questions", failures());
}

#[test]
fn an_answer_without_an_end_is_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let keys = format!("{}, timeout = \"200ms\"", at(&url));
    wait_for_log(&world(&keys, &environment(&made_up("AKID"))), "no whole answer within");
    let large = Agent::start(|_| (200, "x".repeat(128 * 1024 + 1)));
    let world = world(&at(&large.url()), &environment(&made_up("AKID")));
    wait_for_log(&world, "larger than");
}

#[test]
fn check_tells_what_is_wrong_and_asks_nobody() {
    let agent = Agent::start(|_| (200, String::new()));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let check = |keys: &str, variables: &[(&str, &str)]| {
        let text = support::configuration("https://idp.example.com/", "http://127.0.0.1:1");
        fs::write(folder.path().join("jwks.json"), "{\"keys\": []}").unwrap();
        fs::write(&config, with_source(&text, keys)).unwrap();
        let mut command = gateway(folder.path(), variables);
        let output = command.args(["check", "--config"]).arg(&config).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let url = format!("{}/keys", agent.url());
    let good = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())];
    assert!(!check(&at(&agent.url()), &good).contains("credential"));
    let wrong = "endpoint = \"http://aws.example.com\", timeout = \"0s\", regoin = \"a\"";
    let told = check(wrong, &[("AWS_ACCESS_KEY_ID", "AKID")]);
    for words in [
        "credential.aws.endpoint: aws.example.com is not loopback",
        "credential.aws.timeout: \"0s\" is not a time",
        "credential.aws.regoin: is not a known key; did you mean region?",
        "credential.aws: the environment has one of AWS_ACCESS_KEY_ID",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(agent.asked("").len(), 0);
    let status = exchange(agent.address, b"GET / HTTP/1.1\r\n\r\n").status;
    assert_eq!((status, agent.asked("").len()), (200, 1), "it would have been noted");
}

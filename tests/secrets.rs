//! No secret is in anything that a gateway says or writes, whatever source has it, at the level
//! `trace`, and also when all goes wrong that can.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use memchr::memmem;
use serde_json::json;

use support::agent::Agent;
use support::authority::Authority;
use support::cms::{ACCOUNT, Misbehaviour};
use support::faulty::{FaultyCms, ServerAuthority};
use support::trail::folder;
use support::vault::{Asked, Said, Scripted, approle, error, in_store, lease, versioned};
use support::{BINARY, SAMPLE, World, records_in, wait_for, write_secret};

/// What a source says once it is broken; each part of it could be a secret.
const BROKEN: &str = "hidden-in-what-is-broken";

/// A gateway with this source, and all that it must not say.
struct Told<'a> {
    source: &'a str,
    /// Turns the configuration with files into one with this source.
    change: &'a dyn Fn(&mut String),
    /// Beside the configuration.
    files: &'a [(&'a str, &'a str)],
    variables: &'a [(&'a str, &'a str)],
    secrets: &'a [&'a str],
}

impl Told<'_> {
    /// All that can be had of a gateway that has served, has refused, was refused, and whose source
    /// is then broken like this.
    fn says(&self, spoil: Option<&dyn Fn(&World)>) -> String {
        let world = World::with_command(
            |config| (self.change)(config),
            |config| {
                for (name, text) in self.files {
                    write_secret(&config.with_file_name(name), text);
                }
                let mut command = Command::new(BINARY);
                command.args(["serve", "--config"]).arg(config).env("CMS_GATEWAY_LOG", "trace");
                command.envs(self.variables.iter().copied());
                command.current_dir(config.parent().unwrap());
                command
            },
        );
        world.gateway.wait_until_ready();
        let token = world.supervisor();
        let (_, signature) = token.rsplit_once('.').unwrap();
        let mut said = String::new();
        let mut put = |token: &str, status: u16| {
            let reply = world.put(token, SAMPLE);
            assert_eq!(reply.status, status, "{reply:?}");
            said += &format!("{reply:?}\n");
        };
        put(&token, 200);
        put(&format!("{token}x"), 401);
        put(&world.token(&["remover"]), 403);
        world.cms.misbehave(Misbehaviour::Unauthorized);
        put(&token, 502);
        world.cms.misbehave(Misbehaviour::None);
        if let Some(spoil) = spoil {
            spoil(&world);
            wait_for("a reading", || world.gateway.log().contains("the credential can't be read"));
        }
        for path in ["/metrics", "/readyz", "/livez", "/version", "/issuers", "/audit/checkpoint"] {
            said += &format!("{:?}\n", world.gateway.admin(path));
        }
        let audit = folder(&world);
        for file in fs::read_dir(&audit).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            said += &String::from_utf8_lossy(&bytes);
        }
        for arguments in [&["check", "--config", "gateway.toml"][..], &["audit", "query", "audit"]]
        {
            let mut command = Command::new(BINARY);
            command.args(arguments).current_dir(world.folder.path());
            command.envs(self.variables.iter().copied());
            let output = command.output().unwrap();
            said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
        }
        let variables =
            self.variables.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
        let variables: BTreeMap<String, String> = variables.collect();
        let loaded = cms_gateway::config::load_with(&world.config(), &variables);
        said += &format!("{loaded:?}\n");
        let log = world.gateway.log();
        assert!(log.contains("\"level\":\"DEBUG\""), "the log was gathered");
        assert!(records_in(&audit).iter().any(|it| it["event"]["name"] == "credential_refused"));
        for secret in [&token, signature] {
            assert!(!said.contains(secret) && !log.contains(secret), "a token is said");
        }
        said + &log
    }

    fn holds(&self, spoil: Option<&dyn Fn(&World)>) {
        let said = self.says(spoil);
        assert!(said.contains(&format!("\"source\":\"{}\"", self.source)), "records were gathered");
        let pair = format!("{}:{}", ACCOUNT.0, ACCOUNT.1);
        let own = [ACCOUNT.1.to_owned(), BROKEN.to_owned(), STANDARD.encode(pair)];
        for secret in self.secrets.iter().map(|it| (*it).to_owned()).chain(own) {
            for form in [STANDARD.encode(&secret), URL_SAFE.encode(&secret), secret] {
                let place = said.find(&form).map(|at| {
                    let from = said.floor_char_boundary(at.saturating_sub(300));
                    &said[from..said.ceil_char_boundary((at + 100).min(said.len()))]
                });
                assert_eq!(place, None, "{form} is said");
            }
        }
    }
}

const FILES: &str = "source = \"file\"\nusername = \"username\"\npassword = \"password\"\n";

/// The configuration with files, but for this in their place.
fn with_source(config: &mut String, source: &str) {
    assert!(config.contains(FILES));
    *config = config.replace(FILES, &format!("{source}refresh = \"50ms\"\n"));
}

#[test]
fn of_files() {
    let change = |config: &mut String| with_source(config, FILES);
    let told = Told { source: "file", change: &change, files: &[], variables: &[], secrets: &[] };
    for broken in [format!("{BROKEN}\n{BROKEN}"), BROKEN.repeat(1000)] {
        told.holds(Some(&|world| write_secret(&world.folder.path().join("password"), &broken)));
    }
    told.holds(Some(&|world| {
        write_secret(&world.folder.path().join("username"), &format!("{BROKEN}:{BROKEN}"));
    }));
}

#[test]
fn of_variables() {
    let source = "source = \"env\"\nusername = \"CMS_USER\"\npassword = \"CMS_WORD\"\n";
    let variables = [("CMS_USER", ACCOUNT.0), ("CMS_WORD", ACCOUNT.1)];
    let change = |config: &mut String| with_source(config, source);
    Told { source: "env", change: &change, files: &[], variables: &variables, secrets: &[] }
        .holds(None);
}

#[test]
fn of_a_program() {
    let prints = |text: &str| format!("#!/bin/sh\necho {BROKEN} >&2\necho '{text}'\n");
    let good = prints(&json!({"username": ACCOUNT.0, "password": ACCOUNT.1}).to_string());
    let program = tempfile::tempdir().unwrap();
    let path = program.path().join("program");
    let write = |text: &str| {
        let new = program.path().join("program.new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(new, &path).unwrap();
    };
    let change = |config: &mut String| {
        with_source(config, &format!("source = \"exec\"\ncommand = [{path:?}]\n"));
    };
    let told = Told { source: "exec", change: &change, files: &[], variables: &[], secrets: &[] };
    for broken in [
        prints(BROKEN),
        prints(&json!({"username": ACCOUNT.0, "password": [BROKEN]}).to_string()),
        prints(&json!({"username": ACCOUNT.0, "password": ACCOUNT.1, BROKEN: 1}).to_string()),
        format!("{good}exit 3\n"),
    ] {
        write(&good);
        told.holds(Some(&|_| write(&broken)));
    }
}

const OWN: &str = "hidden-own-token";
const LENT: &str = "hidden-lent-token";

/// A store that lets everybody in, and gives this where a secret is asked for.
fn answers(asked: &Asked, secret: Said) -> Said {
    match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => {
            Said::Json(200, json!({"data": {"ttl": 0, "renewable": false, "id": OWN}}))
        }
        path if path.ends_with("/login") => lease(LENT, 3600, true),
        _ => secret,
    }
}

#[test]
fn of_a_vault() {
    let token = "auth = { token = \"own\" }".to_owned();
    let kubernetes = "auth = { kubernetes = { role = \"r\", token = \"own\" } }".to_owned();
    for auth in [token, approle("role").replace("\"secret-id\"", "\"own\""), kubernetes] {
        let store = Scripted::start(|_| Said::Nothing);
        let well = || store.answer(move |asked| answers(asked, versioned(ACCOUNT.0, ACCOUNT.1, 1)));
        let change = |config: &mut String| in_store(config, &store.url(), &auth);
        let (files, secrets) = ([("own", OWN)], [OWN, LENT]);
        let told = Told {
            source: "vault",
            change: &change,
            files: &files,
            variables: &[],
            secrets: &secrets,
        };
        let words = format!("{BROKEN} of {OWN} and {LENT}");
        for broken in [
            |words: &str| error(403, words),
            |words: &str| error(500, words),
            |words: &str| Said::Json(200, json!({"data": {"data": {"password": [words]}}})),
            |words: &str| Said::Raw(format!("HTTP/1.1 307 X\r\nLocation: {words}\r\n\r\n")),
            |words: &str| Said::Raw(format!("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{words}")),
            |words: &str| Said::Raw(words.to_owned()),
        ] {
            well();
            let words = words.clone();
            told.holds(Some(&|_| {
                let words = words.clone();
                store.answer(move |asked| answers(asked, broken(&words)));
            }));
        }
    }
}

#[test]
fn of_aws() {
    let keys = json!({"AccessKeyId": "AKID", "SecretAccessKey": "hidden-key",
        "Token": "hidden-session", "Expiration": "2099-01-01T00:00:00Z"});
    let broken = format!("{BROKEN} of hidden-key and hidden-session");
    for answer in [
        (400, json!({"__type": broken, "message": broken}).to_string()),
        (403, broken.clone()),
        (200, json!({"SecretString": broken, "VersionId": "1"}).to_string()),
        (200, json!({"SecretString": json!({"password": [broken]}).to_string()}).to_string()),
    ] {
        let is_broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (seen, keys) = (std::sync::Arc::clone(&is_broken), keys.to_string());
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let secret = json!({"username": ACCOUNT.0, "password": ACCOUNT.1}).to_string();
        let secret = json!({"SecretString": secret, "VersionId": "1"}).to_string();
        let agent = Agent::start(move |asked| match asked.line.as_str() {
            "GET /keys" => (200, keys.clone()),
            _ if seen.load(relaxed) => answer.clone(),
            _ => (200, secret.clone()),
        });
        let source = format!(
            "source = \"aws-secrets-manager\"\naws = {{ secret_id = \"prod/cms\", \
             region = \"eu-central-1\", endpoint = \"{}\" }}\n",
            agent.url()
        );
        let url = format!("{}/keys", agent.url());
        let environment = [
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hidden-key"),
            ("AWS_SESSION_TOKEN", "hidden-session"),
        ];
        let container = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hidden-agent-token"),
        ];
        for variables in [&environment[..], &container] {
            is_broken.store(false, relaxed);
            Told {
                source: "aws-secrets-manager",
                change: &|config| with_source(config, &source),
                files: &[],
                variables,
                secrets: &["hidden-key", "hidden-session", "hidden-agent-token"],
            }
            .holds(Some(&|_| is_broken.store(true, relaxed)));
        }
    }
}

/// A profile whose role is taken with keys that a program prints.
#[test]
fn of_a_profile_of_aws() {
    let xml = |status: u16, text: &str| {
        let keys = format!(
            "<Credentials><AccessKeyId>AKID</AccessKeyId><SecretAccessKey>{text}</SecretAccessKey>\
             <SessionToken>hidden-session</SessionToken>\
             <Expiration>2020-01-01T00:00:00Z</Expiration></Credentials>"
        );
        (status, format!("<Response>{keys}<Error><Message>{text}</Message></Error></Response>"))
    };
    let printed = json!({"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "hidden-printed",
        "SessionToken": "hidden-printed-token"});
    let mut no_text = printed.clone();
    no_text["SecretAccessKey"] = json!([BROKEN]);
    let spoiled = [Some(BROKEN.to_owned()), Some(no_text.to_string()), None];
    let refused = [xml(403, BROKEN), xml(500, BROKEN), xml(200, &format!("{BROKEN}<b/>"))];
    let broken = spoiled.map(|text| (Some(text), None)).into_iter();
    for (text, answer) in broken.chain(refused.map(|answer| (None, Some(answer)))) {
        let folder = tempfile::tempdir().unwrap();
        let (config, keys) = (folder.path().join("config"), folder.path().join("keys"));
        let profile = format!(
            "[profile cms]\nrole_arn = arn:aws:iam::1:role/cms\nsource_profile = base\n\
             external_id = hidden-external-id\n[profile base]\ncredential_process = \
             /bin/sh -c 'echo {BROKEN} >&2; exec cat \"$1\"' hidden-word {keys:?}\n"
        );
        fs::write(&config, profile).unwrap();
        fs::write(&keys, printed.to_string()).unwrap();
        let is_broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (seen, relaxed) =
            (std::sync::Arc::clone(&is_broken), std::sync::atomic::Ordering::Relaxed);
        let secret = json!({"username": ACCOUNT.0, "password": ACCOUNT.1}).to_string();
        let secret = json!({"SecretString": secret, "VersionId": "1"}).to_string();
        let good = xml(200, "hidden-key");
        let agent = Agent::start(move |asked| match &answer {
            _ if !asked.header("authorization").contains("/sts/aws4_request") => {
                (200, secret.clone())
            }
            Some(answer) if seen.load(relaxed) => answer.clone(),
            _ => good.clone(),
        });
        let source = "source = \"aws-secrets-manager\"\n\
                      aws = { secret_id = \"prod/cms\", region = \"eu-central-1\" }\n";
        Told {
            source: "aws-secrets-manager",
            change: &|config| with_source(config, source),
            files: &[],
            variables: &[
                ("AWS_CONFIG_FILE", config.to_str().unwrap()),
                ("AWS_PROFILE", "cms"),
                ("AWS_ENDPOINT_URL", &agent.url()),
            ],
            secrets: &[
                "hidden-key",
                "hidden-session",
                "hidden-printed",
                "hidden-external-id",
                "hidden-word",
            ],
        }
        .holds(Some(&|_| {
            is_broken.store(true, relaxed);
            match &text {
                Some(Some(text)) => fs::write(&keys, text).unwrap(),
                Some(None) => fs::remove_file(&keys).unwrap(),
                None => {}
            }
        }));
    }
}

/// What was replaced is zeroed, in all of the gateway's memory that can be written. There are
/// several of them, and of unusual lengths, since memory that is free may be used again by chance.
#[test]
fn of_before_are_gone_from_memory() {
    let world = World::with(|config| with_source(config, FILES));
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let password = |number: usize| format!("{number:03}-{}", "word".repeat(60 * number));
    let texts = |number| {
        let pair = format!("{}:{}", ACCOUNT.0, password(number));
        [password(number), STANDARD.encode(pair)].map(|text| text[..80].to_owned())
    };
    for number in 1..=8 {
        write_secret(&world.folder.path().join("password"), &password(number));
        world.cms.change_password(&password(number));
        // All on one connection to the CMS, whose buffer is used again.
        wait_for("the rotation", || world.put(&token, SAMPLE).status == 200);
    }
    let memory = memory(&world);
    let is_found = |text: &String| memmem::find(&memory, text.as_bytes()).is_some();
    assert!(texts(8).iter().all(is_found), "what is in use is found");
    for number in 1..8 {
        assert!(!texts(number).iter().any(is_found), "the password {number} is in memory");
    }
}

/// All of the gateway's memory that can be written.
fn memory(world: &World) -> Vec<u8> {
    let process = format!("/proc/{}", world.gateway.child.id());
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let mut whole = fs::File::open(format!("{process}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let at = |text| u64::from_str_radix(text, 16).unwrap();
        whole.seek(SeekFrom::Start(at(from))).unwrap();
        // Parts of it are nobody's.
        let _ = (&mut whole).take(at(to) - at(from)).read_to_end(&mut found);
    }
    found
}

/// The key that the gateway shows to the CMS.
#[test]
fn of_the_gateways_own_certificate() {
    let authority = ServerAuthority::generate();
    let cms = FaultyCms::start_with(&authority.identity("127.0.0.1"));
    let own = Authority::new().sign("cms-gateway", |_| {});
    let key = own.key.serialize_pem();
    let secret = key.lines().nth(1).unwrap();
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name);
    let ca = authority.write(files.path());
    fs::write(at("tls.crt"), &own.certificate).unwrap();
    write_secret(&at("tls.key"), &key);
    let lines = format!(
        "ca = {ca:?}\nclient_certificate = {:?}\nclient_key = {:?}\n",
        at("tls.crt"),
        at("tls.key")
    );
    let world = cms.world(&lines);
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let broken = key.replace(&secret[..8], &BROKEN[..8]);
    for text in [broken.as_str(), BROKEN, &key.replace("PRIVATE", "PUBLIC")] {
        let warning = || world.gateway.admin("/readyz").body;
        write_secret(&at("tls.key"), text);
        wait_for("the fault", || warning().contains("upstream: client_key"));
        let checked =
            Command::new(BINARY).args(["check", "--config"]).arg(world.config()).output().unwrap();
        assert_eq!(checked.status.code(), Some(2));
        let said = world.gateway.log()
            + &String::from_utf8(checked.stderr).unwrap()
            + &warning()
            + &json!(records_in(&folder(&world))).to_string();
        assert!(said.contains("client_key"), "{said}");
        for part in [&secret[16..40], &BROKEN[..8]] {
            assert!(!said.contains(part), "{part} is said: {said}");
        }
        write_secret(&at("tls.key"), &key);
        wait_for("its end", || !warning().contains("upstream: "));
    }
}

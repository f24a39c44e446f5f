//! The CMS's password is had from HashiCorp Vault's API: from a real store of its kind, and, for what
//! that one can't do, from one that gives the documented answers.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use support::vault::{
    Asked, RustyVault, Said, Scripted, approle, beside, error, free_address, in_store, lease,
    versioned, with_cms,
};
use support::{BINARY, RawCms, SAMPLE, World, cms, run, wait_for};

const TOKEN: &str = "hvs.the-token";
const TOKEN_AUTH: &str = "auth = { token = \"token\" }";

/// A world whose gateway has the credential from this store, with files beside the configuration.
fn world(url: &str, more: &str, files: &[(&str, &str)]) -> World {
    World::with_command(|config| in_store(config, url, more), serving(files))
}

fn serving(files: &[(&str, &str)]) -> impl FnOnce(&Path) -> Command {
    move |config| {
        for (name, text) in files {
            beside(config, name, text);
        }
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(config);
        command
    }
}

fn by_token(url: &str) -> World {
    world(url, TOKEN_AUTH, &[("token", TOKEN)])
}

fn reads(world: &World, result: &str) -> f64 {
    let metric = format!("cms_gateway_credential_refresh_total{{result=\"{result}\"}}");
    world.gateway.metric(&metric).unwrap_or_default()
}

/// Waits for a reading that has begun by now to be over, and for one more.
fn wait_for_reads(world: &World, result: &str) {
    let before = reads(world, result);
    wait_for("more readings", || reads(world, result) >= before + 2.0);
}

fn assert_no_credential(world: &World) {
    let reply = world.put(&world.supervisor(), SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (503, "GW-4002"), "{reply:?}");
    let ready = world.gateway.admin("/readyz");
    assert!(ready.status == 503 && ready.body.contains("credential"), "{ready:?}");
    assert_eq!(world.cms.calls(), 0);
}

/// What the records say of the credential of the last change.
fn credential(world: &World) -> Value {
    let records = world.records();
    records.iter().rfind(|record| record["kind"] == "outcome").unwrap()["credential"].clone()
}

#[test]
fn an_approle_gives_the_credential_as_soon_as_the_store_is_up() {
    let mut vault = RustyVault::start();
    vault.store("cms", cms::ACCOUNT.0, cms::ACCOUNT.1, 3);
    let (role_id, secret_id) = vault.role("gateway", "1h");
    vault.stop();
    let world = world(&vault.url(), &approle(&role_id), &[("secret-id", &secret_id)]);
    wait_for_reads(&world, "failure");
    assert_no_credential(&world);
    let log = world.gateway.log();
    assert!(
        log.contains("the login at auth/approle in http://") && log.contains("refused"),
        "{log}"
    );
    vault.start_again();
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert_eq!(credential(&world), json!({"source": "vault", "version": "3"}));
    assert!(!world.gateway.log().contains(&secret_id));
}

#[test]
fn a_sealed_store_is_told_and_the_last_credential_goes_on() {
    let vault = RustyVault::start();
    vault.store("cms", cms::ACCOUNT.0, cms::ACCOUNT.1, 1);
    let (role_id, secret_id) = vault.role("gateway", "1h");
    let world = world(&vault.url(), &approle(&role_id), &[("secret-id", &secret_id)]);
    world.gateway.wait_until_ready();
    vault.seal();
    wait_for("the fault", || world.gateway.log().contains("the store is sealed (503)"));
    wait_for_reads(&world, "failure");
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    vault.unseal();
    wait_for_reads(&world, "success");
}

#[test]
fn a_token_that_ends_is_followed_by_a_login() {
    let vault = RustyVault::start();
    vault.store("cms", cms::ACCOUNT.0, cms::ACCOUNT.1, 1);
    let (role_id, secret_id) = vault.role("gateway", "2s");
    let world = world(&vault.url(), &approle(&role_id), &[("secret-id", &secret_id)]);
    world.gateway.wait_until_ready();
    // It knows no renew-self, so that each token is tried to be renewed, and ends.
    let ended =
        || world.gateway.log().matches("the token for the secret store is not renewed").count();
    wait_for("three tokens to end", || ended() >= 3);
    wait_for_reads(&world, "success");
    assert_eq!(reads(&world, "failure"), 0.0, "{}", world.gateway.log());
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
}

#[test]
fn another_version_in_the_store_is_used_for_the_next_requests() {
    let vault = RustyVault::start();
    vault.store("cms", "cms-service", "first", 1);
    let (role_id, secret_id) = vault.role("gateway", "1h");
    let target = RawCms::agreeing();
    let world = World::with_command(
        |config| {
            with_cms(config, target.address);
            in_store(config, &vault.url(), &approle(&role_id));
        },
        serving(&[("secret-id", &secret_id)]),
    );
    world.gateway.wait_until_ready();
    let last = || {
        let reply = world.put(&world.supervisor(), SAMPLE);
        assert_eq!(reply.status, 200, "{reply:?}");
        let received = target.received.lock().unwrap();
        String::from_utf8_lossy(received.last().unwrap()).into_owned()
    };
    // cms-service:first and cms-service:second
    assert!(last().contains("Basic Y21zLXNlcnZpY2U6Zmlyc3Q="));
    vault.store("cms", "cms-service", "second", 2);
    wait_for("the rotation", || last().contains("Basic Y21zLXNlcnZpY2U6c2Vjb25k"));
    assert_eq!(credential(&world), json!({"source": "vault", "version": "2"}));
}

#[test]
fn what_is_not_in_the_store_and_who_is_not_let_in_is_told() {
    let vault = RustyVault::start();
    vault.store("cms", cms::ACCOUNT.0, cms::ACCOUNT.1, 1);
    let (role_id, secret_id) = vault.role("gateway", "1h");
    let files =
        [("secret-id", secret_id.as_str()), ("wrong", "4c13b2a2-b0cb-9c03-f16d-f28f4679c934")];
    let other = approle(&role_id).replace("\"secret-id\"", "\"wrong\"");
    for (more, words) in [
        (format!("{}\nmount = \"nowhere\"", approle(&role_id)), "nowhere/data/cms in http://"),
        (format!("{}\nkv_version = 1", approle(&role_id)), "secret/cms in http://"),
        (other, "the login at auth/approle in http://"),
    ] {
        let world = world(&vault.url(), &more, &files);
        wait_for(words, || world.gateway.log().contains(words));
        let log = world.gateway.log();
        let status = if words.starts_with("the login") { "(400)" } else { "(404)" };
        assert!(log.contains(status), "{log}");
        assert_no_credential(&world);
        for secret in [&secret_id, files[1].1] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

#[test]
fn a_store_is_believed_by_its_authority_alone() {
    let vault = RustyVault::start_with_tls();
    vault.store("cms", cms::ACCOUNT.0, cms::ACCOUNT.1, 1);
    let (role_id, secret_id) = vault.role("gateway", "1h");
    let own = std::fs::read_to_string(vault.ca()).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let more = format!("{}\nca = \"ca.pem\"", approle(&role_id));
    for (ca, is_believed) in [(own, true), (other.cert.pem(), false)] {
        let files = [("secret-id", secret_id.as_str())];
        let world = World::with_command(
            |config| in_store(config, &vault.url(), &more),
            |config| {
                beside(config, "ca.pem", &ca);
                serving(&files)(config)
            },
        );
        if is_believed {
            world.gateway.wait_until_ready();
        } else {
            wait_for("the fault", || world.gateway.log().contains("invalid peer certificate"));
            assert_no_credential(&world);
        }
    }
}

/// Answers a look at a token of somebody else, and else so.
fn with_token(
    mut secret: impl FnMut(&Asked) -> Said + Send + 'static,
) -> impl FnMut(&Asked) -> Said + Send {
    move |asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => {
            Said::Json(200, json!({"data": {"ttl": 0, "renewable": false}}))
        }
        _ => secret(asked),
    }
}

#[test]
fn a_secret_is_asked_for_as_documented() {
    let store = Scripted::start(with_token(|_| {
        Said::Json(200, json!({"data": {"login": cms::ACCOUNT.0, "secret word": cms::ACCOUNT.1}}))
    }));
    let more = format!(
        "{TOKEN_AUTH}\nnamespace = \"team a/cms\"\nmount = \"kv/team b\"\nkv_version = 1\n\
         username_key = \"login\"\npassword_key = \"secret word\""
    );
    let world = world(&store.url(), &more, &[("token", TOKEN)]);
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert_eq!(credential(&world), json!({"source": "vault", "version": null}));
    let asked = store.asked();
    let paths: Vec<&str> = asked.iter().take(2).map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths, ["/v1/auth/token/lookup-self", "/v1/kv/team%20b/cms"]);
    for asked in &asked {
        assert_eq!((asked.method.as_str(), asked.token()), ("GET", TOKEN));
        assert_eq!(asked.header("x-vault-namespace"), Some("team a/cms"));
        assert_eq!(asked.header("x-vault-request"), Some("true"));
    }
}

/// As an engine with `delete_version_after` says it of each version from its first day on.
#[test]
fn a_version_that_is_to_be_deleted_later_is_used_until_then() {
    let metadata = json!({"created_time": "2026-01-01T00:00:00Z", "custom_metadata": null,
        "deletion_time": "2999-01-01T00:00:00Z", "destroyed": false, "version": 4});
    let data = json!({"username": cms::ACCOUNT.0, "password": cms::ACCOUNT.1});
    let answer = json!({"data": {"data": data, "metadata": metadata}});
    let store = Scripted::start(with_token(move |_| Said::Json(200, answer.clone())));
    let world = by_token(&store.url());
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    assert_eq!(credential(&world), json!({"source": "vault", "version": "4"}));
}

#[test]
fn another_token_in_the_file_is_used_from_then_on() {
    let store = Scripted::start(with_token(|asked| match asked.token() {
        "second" => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 1),
        _ => error(403, "permission denied"),
    }));
    let world = by_token(&store.url());
    wait_for("the fault", || world.gateway.log().contains("permission denied (403)"));
    assert_no_credential(&world);
    support::write_secret(&world.folder.path().join("token"), "second\n");
    world.gateway.wait_until_ready();
}

#[test]
fn a_service_account_logs_in_with_its_token_of_now() {
    let store = Scripted::start(|asked| match asked.path.as_str() {
        "/v1/auth/clusters/north/login" => lease("from-kubernetes", 0, false),
        _ if asked.token() == "from-kubernetes" => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 7),
        _ => error(403, "permission denied"),
    });
    let more = "auth = { kubernetes = { role = \"cms-gateway\", token = \"jwt\", \
                mount = \"clusters/north\" } }";
    let world = world(&store.url(), more, &[("jwt", "eyJh.first.s")]);
    world.gateway.wait_until_ready();
    let login = store.asked().into_iter().next().unwrap();
    assert_eq!((login.method.as_str(), login.token()), ("POST", ""));
    assert_eq!(login.header("content-type"), Some("application/json"));
    assert_eq!(login.json(), json!({"role": "cms-gateway", "jwt": "eyJh.first.s"}));
    wait_for_reads(&world, "success");
    assert_eq!(store.count("/login"), 1, "one login for many fetches");
    // The kubelet writes another one before the first ends; and the store forgets its own.
    support::write_secret(&world.folder.path().join("jwt"), "eyJh.second.s");
    store.answer(|asked| match asked.path.as_str() {
        "/v1/auth/clusters/north/login" if asked.body.contains("second") => lease("new", 0, false),
        _ if asked.token() == "new" => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 8),
        _ => error(403, "permission denied"),
    });
    wait_for("another login", || store.count("/login") == 2);
    wait_for_reads(&world, "success");
    assert_eq!((store.count("/login"), reads(&world, "failure")), (2, 0.0));
}

#[test]
fn a_lease_is_renewed_and_not_beyond_what_the_store_gives() {
    let mut logins = 0;
    let mut renewals = 0;
    let store = Scripted::start(move |asked| match asked.path.as_str() {
        "/v1/auth/approle/login" => {
            logins += 1;
            lease(&format!("token-{logins}"), 6, true)
        }
        "/v1/auth/token/renew-self" => {
            renewals += 1;
            // Once in full, and then what is left of the longest time.
            lease(asked.token(), if renewals % 2 == 0 { 2 } else { 6 }, true)
        }
        _ => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 1),
    });
    let world = world(&store.url(), &approle("role"), &[("secret-id", "the-secret-id")]);
    wait_for("another login", || store.count("/login") == 2);
    let asked = store.asked();
    let path = |end: &'static str| asked.iter().filter(move |asked| asked.path.ends_with(end));
    assert_eq!(path("/renew-self").count(), 2);
    assert!(path("/renew-self").all(|asked| asked.method == "POST" && asked.token() == "token-1"));
    let login = path("/login").next().unwrap().json();
    assert_eq!(login, json!({"role_id": "role", "secret_id": "the-secret-id"}));
    wait_for_reads(&world, "success");
    assert_eq!(reads(&world, "failure"), 0.0, "{}", world.gateway.log());
}

#[test]
fn a_token_of_somebody_else_is_renewed_while_it_can_be() {
    let store = Scripted::start(|asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => {
            Said::Json(200, json!({"data": {"ttl": 6, "renewable": true, "id": TOKEN}}))
        }
        "/v1/auth/token/renew-self" => lease(asked.token(), 3600, true),
        _ => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 1),
    });
    let world = by_token(&store.url());
    wait_for("the renewal", || store.count("/renew-self") == 1);
    wait_for_reads(&world, "success");
    assert!(store.asked().iter().all(|asked| asked.token() == TOKEN));
    assert_eq!((store.count("/lookup-self"), store.count("/renew-self")), (1, 1));
    assert_eq!(reads(&world, "failure"), 0.0);
}

#[test]
fn who_is_denied_logs_in_once_for_each_fetch() {
    let mut tokens = 0;
    let store = Scripted::start(move |asked| match asked.path.as_str() {
        "/v1/auth/approle/login" => {
            tokens += 1;
            lease(&format!("no-policy-{tokens}"), 3600, true)
        }
        "/v1/auth/token/revoke-self" => Said::Raw("HTTP/1.1 204 X\r\n\r\n".to_owned()),
        _ => error(403, "1 error occurred:\n\t* permission denied\n\n"),
    });
    let world = world(&store.url(), &approle("role"), &[("secret-id", "the-secret-id")]);
    wait_for("some fetches", || reads(&world, "failure") >= 5.0);
    let log = world.gateway.log();
    assert!(log.contains("the secret at secret/data/cms in http://"), "{log}");
    assert!(log.contains("permission denied (403)"), "{log}");
    let (logins, fetches) = (store.count("/login"), reads(&world, "failure"));
    assert!(logins as f64 <= fetches + 1.0, "{logins} logins in {fetches} fetches");
    // None but the last one stays in the store.
    let asked = store.asked();
    let revoked: Vec<_> = asked.iter().filter(|it| it.path.ends_with("/revoke-self")).collect();
    assert!(revoked.len() + 2 >= logins, "{} of {logins} tokens are ended", revoked.len());
    for (index, asked) in revoked.iter().enumerate() {
        assert_eq!(
            (asked.method.as_str(), asked.token()),
            ("POST", &*format!("no-policy-{}", index + 1))
        );
    }
}

/// Five refusals in a row, and the store would lock the role for all who have it.
#[test]
fn a_secret_id_that_was_refused_is_not_tried_again_at_once() {
    let store = Scripted::start(|asked| match asked.path.as_str() {
        "/v1/auth/approle/login" if asked.body.contains("second-id") => lease("t", 3600, true),
        "/v1/auth/approle/login" => error(400, "invalid role or secret ID"),
        _ => versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 1),
    });
    let world = world(&store.url(), &approle("role"), &[("secret-id", "first-id")]);
    wait_for("some fetches", || reads(&world, "failure") >= 5.0);
    assert_eq!(store.count("/login"), 1);
    let log = world.gateway.log();
    assert!(log.contains("refused as wrong (400)") && log.contains("is tried again in"), "{log}");
    support::write_secret(&world.folder.path().join("secret-id"), "second-id");
    world.gateway.wait_until_ready();
    let log = world.gateway.log();
    assert!(!log.contains("first-id") && !log.contains("second-id"), "{log}");
}

#[test]
fn a_token_outlasts_a_denial_where_no_login_is_possible() {
    let says = |can_log_in: bool, secret: fn() -> Said| {
        move |asked: &Asked| match asked.path.as_str() {
            "/v1/auth/approle/login" if can_log_in => lease("the-first", 3600, true),
            "/v1/auth/approle/login" => error(400, "invalid secret id"),
            _ if asked.token() == "the-first" => secret(),
            _ => error(403, "permission denied"),
        }
    };
    let good = || versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 1);
    let store = Scripted::start(says(true, good));
    let world = world(&store.url(), &approle("role"), &[("secret-id", "the-secret-id")]);
    world.gateway.wait_until_ready();
    // The secret id has ended, and a policy is wrong for a while.
    store.answer(says(false, || error(403, "permission denied")));
    wait_for_reads(&world, "failure");
    store.answer(says(false, good));
    wait_for_reads(&world, "success");
}

#[test]
fn a_standby_leads_to_the_active_node_and_nowhere_else() {
    let active = Scripted::start(with_token(|_| versioned(cms::ACCOUNT.0, cms::ACCOUNT.1, 5)));
    let standby = Scripted::start(|_| Said::Nothing);
    let redirect = |to: String| {
        move |asked: &Asked| {
            let location = format!("{to}{}", asked.path);
            Said::Raw(format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            ))
        }
    };
    standby.answer(redirect(active.url()));
    let world = by_token(&standby.url());
    world.gateway.wait_until_ready();
    assert_eq!(active.asked()[0].token(), TOKEN);
    // Another standby, itself, elsewhere in plain text.
    for (to, words) in [
        (standby.url(), "is a standby too (307)"),
        ("http://192.0.2.1:8200".to_owned(), "plain text to elsewhere"),
        (format!("https://{}", active.address), "another scheme"),
        (String::new(), "does not say where the active node is"),
    ] {
        standby.answer(redirect(to));
        let before = world.gateway.log().matches(words).count();
        wait_for(words, || world.gateway.log().matches(words).count() > before);
    }
    standby.answer(redirect(active.url()));
    wait_for_reads(&world, "success");
}

#[test]
fn each_answer_is_told_as_what_it_means() {
    const OTHER: &str = "correct horse battery staple";
    let store = Scripted::start(with_token(|_| versioned("u", OTHER, 1)));
    let short = format!("{TOKEN_AUTH}\ntimeout = \"300ms\"");
    let world = world(&store.url(), &short, &[("token", TOKEN)]);
    world.gateway.wait_until_ready();
    let raw = |status: u16, body: &str| {
        let length = body.len();
        Said::Raw(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    };
    let deleted = |time: &str, is_destroyed: bool| {
        json!({"data": {"data": null, "metadata": {"created_time": "2026-01-01T00:00:00Z",
            "deletion_time": time, "destroyed": is_destroyed, "version": 4}}})
    };
    let field = |value: Value| json!({"data": {"data": {"username": "u", "password": value}, "metadata": {"version": 9}}});
    type Row = (Box<dyn FnMut() -> Said + Send>, &'static str);
    let rows: Vec<Row> = vec![
        (Box::new(|| error(400, "missing client token")), "refused as wrong (400)"),
        (Box::new(|| error(403, OTHER)), "permission denied (403)"),
        (Box::new(|| Said::Json(404, json!({"errors": []}))), "nothing is there (404)"),
        (Box::new(move || Said::Json(404, deleted("2026-02-01T00:00:00Z", false))), "was deleted"),
        (Box::new(move || Said::Json(404, deleted("", true))), "was destroyed"),
        (Box::new(|| error(412, "required index state not present")), "lags behind"),
        (Box::new(|| error(429, "too many")), "(429)"),
        (Box::new(|| error(472, OTHER)), "(472)"),
        (Box::new(|| error(473, OTHER)), "(473)"),
        (Box::new(|| error(500, OTHER)), "has failed (5xx)"),
        (Box::new(|| error(503, "Vault is sealed")), "the store is sealed (503)"),
        (Box::new(move || raw(200, &format!("<html>{OTHER}</html>"))), "is no JSON"),
        (Box::new(move || raw(200, &format!("{{\"data\":\"{OTHER}\",\"data\":1}}"))), "doubled"),
        (Box::new(move || raw(200, &"x".repeat((64 << 10) + 1))), "larger than 64 KiB"),
        (Box::new(|| Said::Json(200, json!({"data": {"password": OTHER}}))), "kv_version = 1"),
        (
            Box::new(|| Said::Json(200, json!({"data": {"data": {"username": "u"}}}))),
            "has no field \\\"password\\\"",
        ),
        (Box::new(move || Said::Json(200, field(json!([OTHER])))), "is no text"),
        (
            Box::new(move || Said::Json(200, field(json!(format!("{OTHER}\n"))))),
            "control character",
        ),
        (Box::new(|| Said::Raw("what?".to_owned())), "the answer is broken"),
        (Box::new(|| Said::Nothing), "no whole answer within the 300ms"),
    ];
    for (mut said, words) in rows {
        let before = world.gateway.log().matches(words).count();
        store.answer(with_token(move |_| said()));
        wait_for(words, || world.gateway.log().matches(words).count() > before);
    }
    store.answer(with_token(|_| versioned("u", OTHER, 1)));
    wait_for_reads(&world, "success");
    let trail = json!(support::records_in(&world.folder.path().join("audit"))).to_string();
    for text in [world.gateway.log(), world.gateway.admin("/metrics").body, trail] {
        assert!(!text.contains(OTHER) && !text.contains(TOKEN), "{text}");
    }
}

#[test]
fn every_fault_of_the_keys_is_told_without_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    for (name, text) in [("token", TOKEN), ("empty", "\n"), ("lines", "a\nb"), ("open", TOKEN)] {
        beside(&file, name, text);
    }
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path().join("open"), everyone).unwrap();
    let nobody = format!("http://{}", free_address());
    let told = |url: &str, more: &str| {
        let mut config = support::configuration("https://idp.example.com/", "http://127.0.0.1:1");
        config = config.replace("{ file = \"jwks.json\" }", "{ discover = true }");
        in_store(&mut config, url, more);
        std::fs::write(&file, config).unwrap();
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for good in [
        TOKEN_AUTH,
        "auth = { approle = { role_id = \"r\", secret_id = \"token\" } }",
        "auth = { kubernetes = { role = \"r\", token = \"open\", mount = \"k8s\" } }",
    ] {
        let (status, errors) = told(&nobody, good);
        assert_eq!((status, errors.as_str()), (0, ""), "{good}");
    }
    for (url, more, words) in [
        (nobody.as_str(), "", "vault.auth: must have exactly one of token, approle"),
        (&nobody, "auth = { token = \"token\", kubernetes = { role = \"r\" } }", "exactly one"),
        (&nobody, "auth = { token = \"gone\" }", "auth.token: "),
        (&nobody, "auth = { token = \"open\" }", "mode 0644"),
        (&nobody, "auth = { token = \"empty\" }", "is empty"),
        (&nobody, "auth = { token = \"lines\" }", "a line break"),
        (&nobody, "auth = { token = \"$CREDENTIALS_DIRECTORY/t\" }", "LoadCredential="),
        (&nobody, "auth = { approle = { secret_id = \"token\" } }", "approle.role_id: is missing"),
        (&nobody, "auth = { approle = { role_id = \"r\" } }", "approle.secret_id: is missing"),
        (&nobody, "auth = { kubernetes = { token = \"open\" } }", "kubernetes.role: is missing"),
        (&nobody, "auth = { kubernetes = { role = \"r\" } }", "name another file in token"),
        ("http://vault.example.com", TOKEN_AUTH, "plain text"),
        ("https://vault.example.com/v1", TOKEN_AUTH, "names a path"),
        ("https://u:p@vault.example.com", TOKEN_AUTH, "user name"),
        (&nobody, &format!("{TOKEN_AUTH}\nmount = \"../sys\""), "vault.mount: has a part that is"),
        (&nobody, &format!("{TOKEN_AUTH}\nmount = \"a//b\""), "empty part"),
        (&nobody, &format!("{TOKEN_AUTH}\nmount = \"a?b\""), "holds ? or #"),
        (&nobody, &format!("{TOKEN_AUTH}\nkv_version = 3"), "a number from 1 to 2"),
        (&nobody, &format!("{TOKEN_AUTH}\nusername_key = \"password\""), "the same field"),
        (&nobody, &format!("{TOKEN_AUTH}\nnamespace = \"a\\nb\""), "no header can"),
        (&nobody, &format!("{TOKEN_AUTH}\ntimeout = \"2m\""), "vault.timeout: "),
        (&nobody, &format!("{TOKEN_AUTH}\nca = \"token\""), "no certificate in PEM"),
        (&nobody, &format!("{TOKEN_AUTH}\nusernamekey = \"a\""), "did you mean username_key?"),
    ] {
        let (status, errors) = told(url, more);
        assert_eq!(status, 2, "{more}: {errors}");
        assert!(errors.contains(words) && errors.lines().count() == 1, "{words}: {errors}");
        assert!(!errors.contains(TOKEN), "{errors}");
    }
}

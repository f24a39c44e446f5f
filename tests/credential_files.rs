//! The CMS's password in files, as Kubernetes, systemd and people put them there; and in variables.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use support::vault::with_cms;
use support::{BINARY, Gateway, RawCms, SAMPLE, World, cms, run, wait_for, write_secret};

fn often(config: &mut String) {
    *config = config.replacen("[credential]\n", "[credential]\nrefresh = \"50ms\"\n", 1);
}

/// Another version of a secret, as the kubelet brings it.
fn mount(folder: &Path, version: usize) {
    let own = folder.join(format!("..{version}"));
    fs::create_dir(&own).unwrap();
    write_secret(&own.join("username"), &format!("user-{version}"));
    write_secret(&own.join("password"), &format!("password-{version}"));
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn a_swap_of_a_mounted_secret_is_used_as_a_whole_and_no_client_sees_it() {
    let target = RawCms::agreeing();
    let world = World::with_command(
        |config| {
            with_cms(config, target.address);
            often(config);
            for name in ["username", "password"] {
                *config = config.replace(&format!("\"{name}\""), &format!("\"mounted/{name}\""));
            }
        },
        |config| {
            let folder = config.with_file_name("mounted");
            fs::create_dir(&folder).unwrap();
            mount(&folder, 0);
            for name in ["username", "password"] {
                symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            }
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command
        },
    );
    world.gateway.wait_until_ready();
    let token = world.supervisor();
    let used = || {
        assert_eq!(world.put(&token, SAMPLE).status, 200);
        let received = target.received.lock().unwrap();
        let text = String::from_utf8_lossy(received.last().unwrap()).into_owned();
        let pair = text.split("Basic ").nth(1).unwrap().lines().next().unwrap();
        String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap()
    };
    let mut seen = BTreeSet::new();
    for version in 1..=10 {
        mount(&world.folder.path().join("mounted"), version);
        wait_for("the rotation", || {
            let pair = used();
            let is_new = pair == format!("user-{version}:password-{version}");
            seen.insert(pair);
            is_new
        });
    }
    for pair in seen {
        let version = pair.rsplit('-').next().unwrap();
        assert_eq!(pair, format!("user-{version}:password-{version}"));
    }
}

#[test]
fn a_credential_of_systemd_is_found_where_it_says() {
    let change = |config: &mut String| {
        for name in ["username", "password"] {
            let path = format!("\"$CREDENTIALS_DIRECTORY/cms-{name}\"");
            *config = config.replace(&format!("\"{name}\""), &path);
        }
    };
    let world = World::with_command(change, |config| {
        let folder = config.with_file_name("credentials");
        fs::create_dir(&folder).unwrap();
        for (name, text) in [("username", cms::ACCOUNT.0), ("password", cms::ACCOUNT.1)] {
            let path = folder.join(format!("cms-{name}"));
            fs::write(&path, text).unwrap();
            // As its access control list for the service's user shows.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(config).env("CREDENTIALS_DIRECTORY", folder);
        command
    });
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let config = world.config();
    let check = |folder: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.args(["check", "--config"]).arg(&config).env_remove("CREDENTIALS_DIRECTORY");
        let output = command.envs(folder.map(|it| ("CREDENTIALS_DIRECTORY", it))).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, errors) = check(None);
    assert_eq!(status, Some(2), "{errors}");
    assert_eq!(errors.matches("LoadCredential=").count(), 2, "{errors}");
    let (status, errors) = check(Some("credentials"));
    assert!(status == Some(2) && errors.contains("absolute path"), "{errors}");
}

#[test]
fn a_file_that_others_may_read_is_refused_and_what_to_set_is_told() {
    let world = World::with(often);
    world.gateway.wait_until_ready();
    let path = world.folder.path().join("password");
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o644, 0o640, 0o604] {
        set(mode);
        let words = format!("mode {mode:04o}, which lets others at it; set 0600 (defaultMode 0400");
        wait_for("the fault", || world.gateway.log().contains(&words));
        let checked = run(&["check", "--config", world.config().to_str().unwrap()]);
        let errors = String::from_utf8(checked.stderr).unwrap();
        assert!(checked.status.code() == Some(2) && errors.contains(&words), "{errors}");
        // What was read before goes on.
        assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    }
    set(0o600);
    let successes = || {
        let metric = "cms_gateway_credential_refresh_total{result=\"success\"}";
        world.gateway.metric(metric).unwrap_or_default()
    };
    let before = successes();
    wait_for("a good reading", || successes() > before);
}

#[test]
fn variables_serve_and_are_warned_about() {
    let world = World::with_command(
        |config| {
            *config = config.replace(
                "source = \"file\"\nusername = \"username\"\npassword = \"password\"",
                "source = \"env\"\nusername = \"CMS_USER\"\npassword = \"CMS_WORD\"\nrefresh = \"50ms\"",
            );
        },
        |config| {
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command.env("CMS_USER", cms::ACCOUNT.0).env("CMS_WORD", cms::ACCOUNT.1);
            command
        },
    );
    world.gateway.wait_until_ready();
    assert_eq!(world.put(&world.supervisor(), SAMPLE).status, 200);
    let metric = "cms_gateway_credential_refresh_total{result=\"success\"}";
    let reads = |gateway: &Gateway| gateway.metric(metric).unwrap_or_default();
    wait_for("some readings", || reads(&world.gateway) >= 3.0);
    let log = world.gateway.log();
    assert_eq!(log.matches("which is for development").count(), 1, "{log}");
    assert!(!log.contains(cms::ACCOUNT.1), "{log}");
}

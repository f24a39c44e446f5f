//! The CMS's name: it may go and come back at another address, and requests go on.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use support::cms::ReferenceCms;
use support::{BINARY, SAMPLE, World, wait_for};
use tokio::runtime::Runtime;

const NAME: &str = "cms.example.com";

/// A gateway that knows the CMS by a name, in a mount namespace with a hosts file of its own.
struct Named {
    world: World,
    hosts: PathBuf,
    token: String,
    /// Another CMS at the same port of another address.
    other: ReferenceCms,
    _runtime: Runtime,
}

impl Named {
    fn start(hosts: &str) -> Self {
        let mut port = 0;
        let world = World::with_command(
            |config| {
                let (before, url) = config.split_once("url = \"http://127.0.0.1:").unwrap();
                let rest = url.split_once('"').unwrap();
                port = rest.0.parse().unwrap();
                *config = format!(
                    "{before}url = \"http://{NAME}:{port}\"{}allow_plaintext = true\n\
                     dns_refresh = \"1s\"\n",
                    rest.1
                );
            },
            |config| {
                let at = |name| config.with_file_name(name);
                fs::write(at("hosts"), hosts).unwrap();
                let nobody = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
                fs::write(at("resolv.conf"), nobody).unwrap();
                fs::write(at("nsswitch.conf"), "hosts: files dns\n").unwrap();
                let mut command = Command::new("unshare");
                let script = "for file in hosts resolv.conf nsswitch.conf; do \
                              [ ! -e /etc/$file ] || mount --bind \"$1/$file\" /etc/$file; done \
                              && exec \"$0\" serve --config \"$2\"";
                command.args(["--map-root-user", "--mount", "sh", "-c", script, BINARY]);
                command.arg(config.parent().unwrap()).arg(config);
                command
            },
        );
        world.gateway.wait_until_ready();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.2", port)));
        let inside = runtime.enter();
        let other = ReferenceCms::start(listener.unwrap()).unwrap();
        drop(inside);
        let (hosts, token) = (world.folder.path().join("hosts"), world.supervisor());
        Self { world, hosts, token, other, _runtime: runtime }
    }

    fn status(&self) -> u16 {
        self.world.put(&self.token, SAMPLE).status
    }

    /// What the last outcome says of the CMS, which must be so.
    fn assert_outcome(&self, status: impl Into<Value>, code: &Value, attempts: u32) -> Value {
        let records = self.world.records();
        let outcome = records.iter().rfind(|record| record["kind"] == "outcome").unwrap();
        let upstream = &outcome["upstream"];
        let got = (&upstream["status"], &upstream["code"], &upstream["attempts"]);
        assert_eq!(got, (&status.into(), code, &json!(attempts)), "{outcome}");
        upstream.clone()
    }

    fn answered(&self, status: u16) -> f64 {
        let labels = format!("{{decision=\"allow\",operation=\"lead-users\",status=\"{status}\"}}");
        self.world.gateway.metric(&format!("cms_gateway_requests_total{labels}")).unwrap()
    }

    /// The file stays the same one, which is what is mounted.
    fn resolve_to(&self, address: &str) {
        fs::write(&self.hosts, format!("{address} {NAME}\n")).unwrap();
    }
}

#[test]
fn a_name_that_goes_and_comes_back_elsewhere_costs_no_request() {
    let named = Named::start(&format!("127.0.0.1 {NAME}\n"));
    assert_eq!(named.status(), 200);
    assert_eq!((named.world.cms.calls(), named.other.calls()), (1, 0));

    fs::write(&named.hosts, "").unwrap();
    let log = || named.world.gateway.log();
    wait_for("the loss", || log().contains("the CMS's name can't be looked up"));
    assert_eq!(named.status(), 200, "its last address serves");
    assert_eq!((named.world.cms.calls(), named.other.calls()), (2, 0));
    named.assert_outcome(200, &Value::Null, 1);
    assert_eq!(named.answered(200), 2.0);

    named.resolve_to("127.0.0.2");
    wait_for("the name", || log().contains("the CMS's name can be looked up again"));
    wait_for("a request at the new address", || {
        assert_eq!(named.status(), 200);
        named.other.calls() > 0
    });
    let before = named.world.cms.calls();
    assert_eq!(named.status(), 200);
    assert_eq!(named.world.cms.calls(), before, "the idle connection to the old one is not used");
    assert_eq!(log().matches("can't be looked up").count(), 1, "told once, and not at each look");
}

#[test]
fn a_name_that_nobody_knows_is_told_and_looked_up_again() {
    let named = Named::start("");
    let reply = named.world.put(&named.token, SAMPLE);
    assert_eq!((reply.status, reply.code().as_str()), (502, "GW-5002"));
    let upstream = named.assert_outcome(Value::Null, &json!("GW-5002"), 0);
    let told = upstream["tries"][0]["error"].as_str().unwrap();
    assert!(told.contains("look"), "{told}");
    assert_eq!(named.answered(502), 1.0);
    named.resolve_to("127.0.0.1");
    wait_for("the name", || named.status() == 200);
    assert_eq!(named.other.calls(), 0);
}

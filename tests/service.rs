//! The units that ship, run by systemd itself, which a test boots in namespaces of its own.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{BINARY, write_secret};

const CONFIG: &str = r#"
[listen]
api = "127.0.0.1:8080"
admin = "127.0.0.1:9464"
[[issuers]]
issuer = "https://idp.example.com/"
audiences = ["cms-gateway"]
jwks = { file = "jwks.json" }
algorithms = ["ES256"]
roles_claim = "roles"
[roles.campaign-supervisor]
permissions = ["lead-users:assign"]
campaigns = "any"
[upstream]
url = "https://cms.example.com:8443"
[credential]
source = "file"
username = "$CREDENTIALS_DIRECTORY/cms-username"
password = "$CREDENTIALS_DIRECTORY/cms-password"
[audit]
directory = "/var/lib/cms-gateway/audit"
"#;

/// The service and its sockets without what they are ordered after, and with words that go to a
/// file, there being no journal.
const FOR_THE_TEST: &str = "[Unit]\nDefaultDependencies=no\nWants=\nAfter=\n";
const OF_THE_SERVICE: &str =
    "[Service]\nRestartSec=100ms\nStandardOutput=append:/log\nStandardError=append:/log\n";

const DRIVER: &str = r#"
unit=cms-gateway.service
get() { systemctl show --property "$1" --value $unit; }
state() { echo "$1: $(get ActiveState) $(get SubState) '$(get StatusText)' $(get NRestarts) $(get ExecMainStatus)"; }
ask() { exec 3<>/dev/tcp/127.0.0.1/$1 && printf 'GET %s HTTP/1.0\r\n\r\n' $2 >&3 && cat <&3; }
until_it_is() { for _ in $(seq 200); do "$@" && return; sleep 0.1; done; echo "in vain: $*"; }
is_ready() { ask 9464 /readyz | grep -q '^HTTP/1.0 200 '; }
is_running() { [ "$(get SubState)" = running ]; }
restarted() { [ "$(get NRestarts)" = 1 ] && [ "$(get ActiveState)" = active ]; }

systemctl start $unit || exit
state started
until_it_is is_ready
main=$(get MainPID)
grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/$main/status
stat --format '%A %U %n' /var/lib/private/cms-gateway/audit
ask 9464 /metrics | grep '^process_start_time_seconds ' | grep -c -v ' 0$'

sed -i 's/"any"/[1, 2]/' /etc/cms-gateway/gateway.toml
systemctl reload $unit || exit
until_it_is grep -q 'the configuration is in force' /log
until_it_is is_running
state reloaded

[ "$main" -gt 1 ] && kill -STOP $main
until_it_is restarted
state hung

systemctl stop $unit
state stopped

sed -i s/roles_claim/roles_klaim/ /etc/cms-gateway/gateway.toml
systemctl start $unit 2>/dev/null
state misconfigured
sed -i s/roles_klaim/roles_claim/ /etc/cms-gateway/gateway.toml
systemctl reset-failed $unit

systemctl start cms-gateway.socket cms-gateway-admin.socket
state waiting
ask 8080 / | head -n 1 | tr -d '\r'
state asked
before=$(get MainPID)
systemctl restart $unit &
ask 9464 /livez | head -n 1 | tr -d '\r'
wait
[ "$before" != "$(get MainPID)" ] && state replaced
systemctl stop $unit cms-gateway.socket cms-gateway-admin.socket
cms-gateway audit verify /var/lib/private/cms-gateway/audit >/dev/null
echo "trail: $?"
"#;

/// What the driver says, and what the services say, in a folder as boot_systemd.sh wants it.
fn booted(folder: &Path) -> (String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (units, etc) = (folder.join("units"), folder.join("etc"));
    for name in ["cms-gateway.service", "cms-gateway.socket", "cms-gateway-admin.socket"] {
        let more = units.join(format!("{name}.d"));
        fs::create_dir_all(&more).unwrap();
        let text = fs::read_to_string(root.join("deploy").join(name)).unwrap();
        fs::write(units.join(name), text.replace("WatchdogSec=30s", "WatchdogSec=2s")).unwrap();
        let service = if name.ends_with(".service") { OF_THE_SERVICE } else { "" };
        fs::write(more.join("test.conf"), [FOR_THE_TEST, service].concat()).unwrap();
    }
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("gateway.toml"), CONFIG).unwrap();
    fs::copy(root.join("fuzz/known/jwks.json"), etc.join("jwks.json")).unwrap();
    write_secret(&etc.join("cms-username"), "gateway");
    write_secret(&etc.join("cms-password"), "hidden");
    fs::copy(BINARY, folder.join("cms-gateway")).unwrap();
    fs::write(folder.join("driver"), DRIVER).unwrap();
    let mut command = Command::new("sh");
    command.arg(root.join("tests/support/boot_systemd.sh")).arg(folder);
    let output = command.output().unwrap();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (out, log) = (read("out"), read("log"));
    assert!(!out.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (out, log)
}

/// Told of its start, kept alive by the watchdog, given its credentials and its sockets, confined; not
/// started again and again with a configuration at fault; and a caller waits through a restart.
#[test]
fn systemd_runs_the_service_as_its_units_say() {
    let folder = tempfile::tempdir().unwrap();
    let (out, log) = booted(folder.path());
    let wanted = "\
started: active running 'Serving' 0 0
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
drwx------ cms-gateway /var/lib/private/cms-gateway/audit
1
reloaded: active running 'Serving' 0 0
hung: active running 'Serving' 1 0
stopped: inactive dead '' 0 0
misconfigured: failed failed '' 0 2
waiting: inactive dead '' 0 0
HTTP/1.0 404 Not Found
asked: active running 'Serving' 0 0
HTTP/1.0 200 OK
replaced: active running 'Serving' 0 0
trail: 0
";
    assert_eq!(out, wanted);
    assert!(log.contains("roles_klaim: is not a known key"), "{log}");
}

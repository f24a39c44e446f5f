//! The chart and the manifests that ship are what Kubernetes and the Prometheus Operator take, and
//! what the gateway in them takes too. The chart is rendered by helm itself.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MANIFESTS: &str = "deploy/kubernetes/cms-gateway.yaml";
const RENDER: &str = "template cms-gateway deploy/helm/cms-gateway";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a tool in the project's folder.
fn tool(name: &str, arguments: &[&str]) -> Output {
    let tool = root().join("target/test-tools").join(name);
    assert!(tool.exists(), "{name} is missing; tests/run installs it");
    Command::new(tool).args(arguments).current_dir(root()).output().unwrap()
}

fn words(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// What helm makes of the chart with these values.
fn rendered(values: &[&str]) -> Output {
    let values = values.iter().flat_map(|value| ["--set", value]);
    tool("helm", &RENDER.split(' ').chain(values).collect::<Vec<_>>())
}

/// What is said of each of these manifests.
fn judged(all: &[String]) -> Vec<String> {
    judged_with(&[], all).lines().map(str::to_owned).collect()
}

fn judged_with(options: &[&str], all: &[String]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let files = all.iter().enumerate().map(|(number, manifests)| {
        let file = folder.path().join(format!("{number}.yaml"));
        fs::write(&file, manifests).unwrap();
        file.to_str().unwrap().to_owned()
    });
    let files: Vec<String> = files.collect();
    let mut arguments = vec!["tests/support/check_manifests.py", "deploy/prometheus/rules.yml"];
    arguments.extend(files.iter().map(String::as_str));
    arguments.extend(options);
    let output = tool("bin/python", &arguments);
    assert!(output.status.success(), "{}", words(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn committed() -> String {
    fs::read_to_string(root().join(MANIFESTS)).unwrap()
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let lint = tool("helm", &["lint", "--strict", "deploy/helm/cms-gateway"]);
    assert!(lint.status.success(), "{}", words(&lint));
    let output = rendered(&[]);
    assert!(output.status.success(), "{}", words(&output));
    let is_same = String::from_utf8_lossy(&output.stdout) == committed();
    assert!(is_same, "{MANIFESTS} is behind; target/test-tools/helm {RENDER} > {MANIFESTS}");
}

const KINDS: &str = "ConfigMap:1 HorizontalPodAutoscaler:1 NetworkPolicy:1 PodDisruptionBudget:1 PrometheusRule:1 \
     Service:2 ServiceAccount:1 ServiceMonitor:1 StatefulSet:1";

#[test]
fn the_manifests_are_what_kubernetes_and_the_operator_take() {
    assert_eq!(judged(&[committed()]), [KINDS]);
}

#[test]
fn so_they_are_with_other_values() {
    let digest = format!("image.digest=sha256:{}", "0".repeat(64));
    let cases = [
        vec!["monitoring.labels.release=prometheus", "trail.storageClassName=fast", &digest],
        vec!["image.pullSecrets={one,two}", "secrets=null", "networkPolicy.upstreams=null"],
        vec!["drain.delay=30", "drain.timeout=600", "resources.limits.cpu=4", "image.tag=1.2.3"],
        vec![
            "autoscaling.enabled=false",
            "networkPolicy.enabled=false",
            "monitoring.enabled=false",
        ],
    ];
    let manifests = cases.map(|values| {
        let output = rendered(&values);
        assert!(output.status.success(), "{values:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    });
    let least = "ConfigMap:1 PodDisruptionBudget:1 Service:2 ServiceAccount:1 StatefulSet:1";
    assert_eq!(judged(&manifests), [KINDS, KINDS, KINDS, least]);
}

/// Else the tests above would show nothing.
#[test]
fn what_is_wrong_in_a_manifest_is_found() {
    let good = committed();
    let faults = [
        ("minReadySeconds:", "minReadySecond:", "minReadySecond"),
        ("maxUnavailable: 1", "maxUnavailable: [1]", "maxUnavailable"),
        ("averageUtilization: 70", "averageUtilization: seventy", "averageUtilization"),
        ("policyTypes:", "policyType:", "policyType"),
        ("interval: 15s", "intervall: 15s", "intervall"),
        ("interval: 15s", "interval: often", "often"),
        ("expr: cms_gateway_credential_refused ==", "exprs: cms_gateway_up ==", "exprs"),
        ("severity: page", "severity: ticket", "the alerts are not those of"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "securityContext"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
        ("targetPort: api", "targetPort: apis", "the port of service cms-gateway"),
        ("serviceName: cms-gateway-pods", "serviceName: cms-gateway-pod", "serviceName"),
        ("    cms-gateway-pods: cms-gateway", "    cms-gateway-pods: x", "ServiceMonitor"),
    ];
    let bad = faults.map(|(right, wrong, _)| {
        assert!(good.contains(right), "{right}");
        good.replacen(right, wrong, 1)
    });
    for ((_, wrong, word), said) in faults.iter().zip(judged(&bad)) {
        assert!(said.starts_with("wrong: ") && said.contains(word), "{wrong}: {said}");
    }
}

#[test]
fn values_that_are_not_understood_are_refused() {
    for (value, word) in [
        ("replica=3", "replica"),
        ("drain.timeout=soon", "timeout"),
        ("image.digest=latest", "digest"),
        ("networkPolicy.clients=null", "clients"),
        ("networkPolicy.prometheus[0]=null", "prometheus"),
        ("logLevel=loud", "logLevel"),
    ] {
        let output = rendered(&[value]);
        assert!(!output.status.success(), "{value}: {}", words(&output));
        assert!(words(&output).contains(word), "{value}: {}", words(&output));
    }
}

/// What the pods' files are replaced by: the configuration, with each folder that is mounted moved
/// into one of the test's.
fn moved(mounts: &str, config: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = config.to_owned();
    for mount in mounts.split(' ') {
        let place = folder.path().join(&mount[1..]);
        fs::create_dir_all(&place).unwrap();
        text = text.replace(&format!("\"{mount}/"), &format!("\"{}/", place.display()));
    }
    let file = folder.path().join("etc/cms-gateway/gateway.toml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

#[test]
fn the_gateway_takes_the_configuration_of_the_manifests() {
    let printed = judged_with(&["--config"], &[committed()]);
    let mut lines = printed.splitn(3, '\n');
    let [mounts, grace, config] = [(); 3].map(|()| lines.next().unwrap());
    let (folder, file) = moved(mounts, config);
    let text = fs::read_to_string(&file).unwrap();
    let left: Vec<&str> = text.split('"').filter(|part| part.starts_with('/')).collect();
    let outside: Vec<_> =
        left.iter().filter(|it| !Path::new(it).starts_with(folder.path())).collect();
    assert!(left.len() == 5 && outside.is_empty(), "no volume has {outside:?} of {left:?}");

    let secrets = folder.path().join("run/secrets");
    support::write_secret(&secrets.join("cms/username"), "gateway");
    support::write_secret(&secrets.join("cms/password"), "hidden");
    let names = vec!["gateway.example.com".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(secrets.join("tls/tls.crt"), certified.cert.pem()).unwrap();
    support::write_secret(&secrets.join("tls/tls.key"), &certified.signing_key.serialize_pem());
    let check = || support::run(&["check", "--config", file.to_str().unwrap()]);
    assert!(check().status.success(), "{}", words(&check()));

    // There is time for the drain, and for the trail after it.
    let seconds = |key: &str| -> u64 {
        let (_, value) = config.split_once("[drain]").unwrap().1.split_once(key).unwrap();
        value.split('"').nth(1).unwrap().trim_end_matches('s').parse().unwrap()
    };
    let drain = seconds("delay") + seconds("timeout");
    assert!(grace.parse::<u64>().unwrap() >= drain + 10, "{grace} s for {drain} s");

    fs::write(&file, text.replace("algorithms ", "algorithm ")).unwrap();
    assert_eq!(check().status.code(), Some(2), "it would not notice a misspelt key");
}

/// Cargo looks for each file that Cargo.toml names before it builds anything.
#[test]
fn the_image_is_built_of_all_that_cargo_asks_for() {
    let text = fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
    let (build, _) = text.split_once("FROM scratch").unwrap();
    let copies: Vec<&str> = build.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    let gathered = |left_out: &str| {
        let folder = tempfile::tempdir().unwrap();
        for copy in copies.iter().filter(|copy| !copy.starts_with(left_out)) {
            let (sources, place) = copy.rsplit_once(' ').unwrap();
            let place = folder.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let script = format!("cp -r {sources} {}", place.display());
            if copy.ends_with('/') {
                fs::create_dir_all(&place).unwrap();
            }
            let mut command = Command::new("sh");
            assert!(command.args(["-c", &script]).current_dir(root()).status().unwrap().success());
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["fetch", "--locked", "--offline", "--target", "host-tuple"]);
        let output = cargo.current_dir(folder.path()).output().unwrap();
        (output.status.success(), words(&output), folder.path().join("deploy/build").exists())
    };
    assert_eq!(gathered("nothing"), (true, String::new(), true));
    assert!(gathered("benches").1.contains("can't find"), "it would not notice a missing file");
}

"""Judges Kubernetes manifests, each file for itself, and says of each on a line what it has or what
is wrong with it.

Kinds of Kubernetes go through kubernetes-validate, by the schemas that Kubernetes publishes. Those
of the Prometheus Operator go through JSON schemas that are made from its own resource definitions
(of which cloudcoil's models are generated), and are made strict: what a definition doesn't name is
refused. Then the promises which no schema knows are checked: what runs is confined, what is
referred to is there.

A PrometheusRule must have the alerts of the first file. With --config, the gateway.toml of the
ConfigMap is printed, after a line with what is mounted into the pod and one with the seconds that a
pod has to end.
"""

import argparse

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator


def strict(schema):
    """The schema, refusing members that it does not name."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            strict(part)
    return schema


def check_schema(manifest):
    kind = manifest["kind"]
    if manifest["apiVersion"] == "monitoring.coreos.com/v1":
        schema = strict(getattr(operator, kind).model_json_schema(by_alias=True))
        errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
        if error := jsonschema.exceptions.best_match(errors):
            raise error
    else:
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def expect(value, wanted, what):
    if value != wanted:
        raise ValueError(f"{what} is {value!r}, not {wanted!r}")


def pod_of(manifests):
    return manifests["StatefulSet"][0]["spec"]["template"]["spec"]


def check_confinement(manifests):
    pod = pod_of(manifests)
    expect(pod["automountServiceAccountToken"], False, "automountServiceAccountToken")
    for account in manifests["ServiceAccount"]:
        expect(account["automountServiceAccountToken"], False, "the account's token")
    context = pod["securityContext"]
    expect(context["runAsNonRoot"], True, "runAsNonRoot")
    expect(context["seccompProfile"], {"type": "RuntimeDefault"}, "seccompProfile")
    expect(context["fsGroupChangePolicy"], "OnRootMismatch", "fsGroupChangePolicy")
    if min(context["runAsUser"], context["runAsGroup"], context["fsGroup"]) < 10000:
        raise ValueError("an id below 10000")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        expect(pod.get(name, False), False, name)
    for container in pod["containers"] + pod.get("initContainers", []):
        own = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        expect(container["securityContext"], own, "securityContext")
    for volume in pod["volumes"]:
        if "secret" in volume:
            expect(volume["secret"]["defaultMode"], 0o400, "defaultMode")


def check_references(manifests):
    """Labels, names and ports that one manifest says and another one has to have."""
    (workload,) = manifests["StatefulSet"]
    labels, pod = workload["spec"]["template"]["metadata"]["labels"], pod_of(manifests)
    (container,) = pod["containers"]
    ports = {port["name"] for port in container["ports"]}

    def selects(selector, what):
        if not selector or not selector.items() <= labels.items():
            raise ValueError(f"{what} selects {selector}, and the pods have {labels}")

    selects(workload["spec"]["selector"]["matchLabels"], "the StatefulSet")
    services = {service["metadata"]["name"]: service for service in manifests["Service"]}
    for name, service in services.items():
        selects(service["spec"]["selector"], f"service {name}")
        for port in service["spec"]["ports"]:
            expect(port["targetPort"] in ports, True, f"the port of service {name}")
    expect(workload["spec"]["serviceName"] in services, True, "serviceName")
    selects(manifests["PodDisruptionBudget"][0]["spec"]["selector"]["matchLabels"], "the budget")
    for policy in manifests.get("NetworkPolicy", []):
        selects(policy["spec"]["podSelector"]["matchLabels"], "the NetworkPolicy")
        expect(policy["spec"]["policyTypes"], ["Ingress", "Egress"], "policyTypes")
        for rule in policy["spec"]["ingress"]:
            # A rule without either lets everybody in.
            expect(bool(rule["from"]) and bool(rule["ports"]), True, "from and ports")
            for port in rule["ports"]:
                expect(port["port"] in ports, True, "the port of the NetworkPolicy")
    for scaler in manifests.get("HorizontalPodAutoscaler", []):
        target = scaler["spec"]["scaleTargetRef"]
        expect(target["name"], workload["metadata"]["name"], "scaleTargetRef")
        expect(target["kind"], workload["kind"], "scaleTargetRef")
        expect("replicas" in workload["spec"], False, "replicas beside an autoscaler")
    for monitor in manifests.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        for endpoint in monitor["spec"]["endpoints"]:
            found = [
                service
                for service in services.values()
                if wanted <= service["metadata"]["labels"].items()
                and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            ]
            expect(len(found), 1, "the number of services that the ServiceMonitor finds")
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    expect(mounts, volumes, "what is mounted")
    maps = {it["metadata"]["name"] for it in manifests["ConfigMap"]}
    for volume in pod["volumes"]:
        if "configMap" in volume:
            expect(volume["configMap"]["name"] in maps, True, "the ConfigMap")
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        expect(container[name]["httpGet"]["port"] in ports, True, name)


def judge(text, rules):
    """The kinds of the manifests, by how many there are of each."""
    manifests = {}
    for manifest in yaml.safe_load_all(text):
        check_schema(manifest)
        manifests.setdefault(manifest["kind"], []).append(manifest)
    check_confinement(manifests)
    check_references(manifests)
    alerts = [rule["spec"] for rule in manifests.get("PrometheusRule", [])]
    if any(its != rules for its in alerts):
        raise ValueError("the alerts are not those of the rules")
    return manifests


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", action="store_true")
    parser.add_argument("rules")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    with open(arguments.rules, encoding="utf-8") as text:
        rules = yaml.safe_load(text)
    for file in arguments.files:
        with open(file, encoding="utf-8") as text:
            try:
                manifests = judge(text, rules)
            except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
                print(f"wrong: {list(error.path)}: {error.message}".replace("\n", " "))
                continue
            except (KeyError, ValueError) as error:
                print(f"wrong: {error!r}")
                continue
        if arguments.config:
            show_config(manifests)
        else:
            print(" ".join(f"{kind}:{len(found)}" for kind, found in sorted(manifests.items())))


def show_config(manifests):
    (container,) = pod_of(manifests)["containers"]
    grace = pod_of(manifests)["terminationGracePeriodSeconds"]
    print(" ".join(mount["mountPath"] for mount in container["volumeMounts"]))
    print(grace)
    print(manifests["ConfigMap"][0]["data"]["gateway.toml"])


main()

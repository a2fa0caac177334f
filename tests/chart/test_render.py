"""What must hold of everything that the application chart renders, whatever the values."""

import concurrent.futures
import copy
import functools
import json
import os
import pathlib
import re

import jsonschema
import kubernetes_validate
import pytest
import yaml

import chart
from combinations import COMBINATIONS

# The oldest and the newest that the chart is held to.
VERSIONS = ["1.31", "1.36"]
# Not in Kubernetes itself: the schema of its own definition.
CUSTOM = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules", "ScaledObject": "scaledobjects"}
# Not in the older version.
NEWER = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}

# It reads megabytes of definitions for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

combinations = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


@functools.cache
def complaint(document, version):
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)


@functools.cache
def custom_schema(name):
    """The schema of a custom resource, in which unknown keys are faults."""
    definition = yaml.safe_load((pathlib.Path(__file__).parent / "crds" / f"{name}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def close(node):
        if isinstance(node, dict):
            if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
                node.setdefault("additionalProperties", False)
            for key, value in node.items():
                close(value)
        elif isinstance(node, list):
            for value in node:
                close(value)

    close(schema["properties"]["spec"])
    return jsonschema.Draft7Validator(schema)


def test_there_are_fifty_combinations():
    assert len(COMBINATIONS) >= 50
    texts = {json.dumps(values, sort_keys=True) for values in COMBINATIONS.values()}
    assert len(texts) == len(COMBINATIONS)


def test_lint_is_content():
    def said(item):
        name, values = item
        done = chart.run("helm", "lint", "--strict", chart.chart(), "--values", "-", check=False, input=yaml.safe_dump(values))
        if done.returncode != 0:
            return f"{name}: {done.stdout}{done.stderr}"
        # For the tests below, while there are threads for it.
        chart.render(values)

    chart.chart()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        assert not [fault for fault in threads.map(said, COMBINATIONS.items()) if fault]


@combinations
@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_what_kubernetes_takes(values, version):
    for document in chart.render(values):
        if document["kind"] in CUSTOM or version == VERSIONS[0] and document["kind"] in NEWER:
            continue
        assert complaint(json.dumps(document), version) is None, document["metadata"]["name"]


@combinations
def test_custom_objects_follow_their_definitions(values):
    for document in chart.render(values):
        if document["kind"] in CUSTOM:
            custom_schema(CUSTOM[document["kind"]]).validate(document)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_key_would_be_seen(version):
    pod = copy.deepcopy(chart.the(chart.render({}), "Deployment", "web-fcgimux"))
    chart.container(pod["spec"]["template"], "fcgimux")["startupProb"] = {}
    assert complaint(json.dumps(pod), version)
    monitor = copy.deepcopy(chart.the(chart.render(COMBINATIONS["monitoring"]), "PodMonitor"))
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "5s"
    with pytest.raises(jsonschema.ValidationError):
        custom_schema("podmonitors").validate(monitor)
    scaled = copy.deepcopy(chart.the(chart.render(COMBINATIONS["scaling"]), "ScaledObject"))
    scaled["spec"]["triggers"][0]["metricTyp"] = "Value"
    with pytest.raises(jsonschema.ValidationError):
        custom_schema("scaledobjects").validate(scaled)


def assert_restricted(pod):
    """The Pod Security Standard `restricted`, written out."""
    spec = pod["spec"]
    for key in ["hostNetwork", "hostPID", "hostIPC"]:
        assert not spec.get(key), key
    own = spec.get("securityContext", {})
    assert "windowsOptions" not in own and "sysctls" not in own
    for volume in spec.get("volumes", []):
        kind, = set(volume) - {"name"}
        assert kind in {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for container in chart.containers(pod):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged") and "procMount" not in context
        assert context.get("runAsNonRoot", own.get("runAsNonRoot")) is True
        assert context.get("runAsUser", own.get("runAsUser", 1)) != 0
        assert context.get("seccompProfile", own.get("seccompProfile"))["type"] in {"RuntimeDefault", "Localhost"}
        assert all("hostPort" not in port for port in container.get("ports", []))
        # Not asked for by the standard, but by us.
        assert context["readOnlyRootFilesystem"] is True


@combinations
def test_pods_are_restricted_and_read_only(values):
    for pod in chart.pods(chart.render(values)):
        assert_restricted(pod)


def assert_whole(pod, documents):
    """Everything that a pod refers to is there."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    assert len(volumes) == len(pod["spec"].get("volumes", []))
    mounted = set()
    for container in chart.containers(pod):
        mounts = container.get("volumeMounts", [])
        mounted |= {mount["name"] for mount in mounts}
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
            if probe in container:
                check = container[probe].get("httpGet") or container[probe]["tcpSocket"]
                assert check["port"] in ports, f"{container['name']} {probe}"
    assert mounted == set(volumes)
    names = [container["name"] for container in chart.containers(pod)]
    assert len(set(names)) == len(names)
    there = {document["metadata"]["name"] for document in chart.of_kind(documents, "ConfigMap")}
    wanted = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
    assert wanted <= there
    default = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container")
    assert default is None or default in [container["name"] for container in pod["spec"]["containers"]]


@combinations
def test_everything_referred_to_is_there(values):
    documents = chart.render(values)
    accounts = {document["metadata"]["name"] for document in chart.of_kind(documents, "ServiceAccount")}
    given = values.get("fcgimux", {}).get("serviceAccount", {}).get("name", "default")
    for pod in chart.pods(documents):
        assert_whole(pod, documents)
        assert pod["spec"].get("serviceAccountName", "default") in accounts | {given, "default"}
        assert pod["spec"]["automountServiceAccountToken"] is False


def matches(selector, pod):
    return selector.items() <= pod["metadata"]["labels"].items()


@combinations
def test_names_are_unique_and_valid(values):
    documents = chart.render(values)
    known = set()
    for document in documents:
        metadata = document["metadata"]
        name = (document["kind"], metadata.get("namespace"), metadata["name"])
        assert name not in known
        known.add(name)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
        assert metadata["labels"]["app.kubernetes.io/name"] == "fcgimux"
        assert metadata["labels"]["app.kubernetes.io/instance"] == "web"
        cluster_wide = document["kind"] in NEWER
        assert cluster_wide or metadata["namespace"] in {"shop", "other"}
        for label, value in values.get("fcgimux", {}).get("commonLabels", {}).items():
            assert metadata["labels"][label] == value


@combinations
def test_each_selector_finds_its_pods_and_no_others(values):
    documents = chart.render(values)
    pods = list(chart.pods(documents))
    for deployment in chart.of_kind(documents, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [pod for pod in pods if matches(selector, pod)] == [deployment["spec"]["template"]]
    for service in chart.of_kind(documents, "Service"):
        pod, = [pod for pod in pods if matches(service["spec"]["selector"], pod)]
        ports = {port["name"] for one in chart.containers(pod) for port in one.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in chart.of_kind(documents, "PodDisruptionBudget"):
        assert len([pod for pod in pods if matches(budget["spec"]["selector"]["matchLabels"], pod)]) == 1
    for policy in chart.of_kind(documents, "NetworkPolicy"):
        pod, = [pod for pod in pods if matches(policy["spec"]["podSelector"]["matchLabels"], pod)]
        ports = {port["containerPort"] for one in chart.containers(pod) for port in one.get("ports", [])}
        opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert opened == ports
    for monitor in chart.of_kind(documents, "PodMonitor"):
        endpoint, = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["path"] == chart.admin_paths()["Metrics"]
        for pod in pods:
            has_port = any(endpoint["port"] == port["name"] for one in chart.containers(pod) for port in one.get("ports", []))
            found = matches(monitor["spec"]["selector"]["matchLabels"], pod)
            assert found == (has_port and "component" in str(pod["metadata"]["labels"]) and not is_test(pod))


def is_test(pod):
    return pod["metadata"]["labels"]["app.kubernetes.io/component"] == "test"


def with_sidecar(documents):
    return [pod for pod in chart.pods(documents) if any(one["name"] == "fcgimux" for one in chart.containers(pod))]


@combinations
def test_the_sidecar_starts_before_the_web_server_and_is_probed_where_the_binary_answers(values):
    longest = float(re.search(r"ping: Duration::from_secs\((\d+)\)", chart.source("admin/mod.rs"))[1])
    paths = chart.admin_paths()
    for pod in with_sidecar(chart.render(values)):
        native = values.get("fcgimux", {}).get("nativeSidecar", True)
        container = chart.container(pod, "fcgimux")
        assert (container in pod["spec"].get("initContainers", [])) == native
        assert container.get("restartPolicy") == ("Always" if native else None)
        assert container["startupProbe"]["httpGet"]["path"] == paths["Ready"]
        assert container["readinessProbe"]["httpGet"]["path"] == paths["Ready"]
        if "livenessProbe" in container:
            assert container["livenessProbe"]["httpGet"]["path"] == paths["Live"]
            assert container["livenessProbe"]["timeoutSeconds"] > longest


@combinations
def test_the_binary_takes_the_configuration(values, tmp_path):
    documents = chart.render(values)
    if not with_sidecar(documents):
        return
    if chart.binary() is None:
        pytest.skip("no fcgimux was built")
    file = tmp_path / "fcgimux.yaml"
    file.write_text(chart.configuration(documents))
    chart.run(chart.binary(), "check", file)


@combinations
def test_socket_ports_and_times_go_together(values):
    documents = chart.render(values)
    for pod in with_sidecar(documents):
        config = yaml.safe_load(chart.configuration(documents))
        container = chart.container(pod, "fcgimux")
        port, = container["ports"]
        assert config["admin"]["listen"].rsplit(":", 1)[1] == str(port["containerPort"])
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        sockets = [listener["socket"] for listener in config["listeners"]]
        assert all(str(pathlib.Path(socket).parent) == mounts["fcgimux-run"] for socket in sockets)
        assert f"{mounts['fcgimux-config']}/fcgimux.yaml" in container["args"]
        if is_test(pod):
            assert chart.container(pod, "call")["args"][-2] in sockets
            continue
        web, = [one for one in pod["spec"]["containers"] if one["name"] != "fcgimux"]
        assert {"name": "fcgimux-run", "mountPath": mounts["fcgimux-run"], "readOnly": True} in web["volumeMounts"]
        nginx = next(one["data"]["default.conf"] for one in chart.of_kind(documents, "ConfigMap") if "default.conf" in one["data"])
        assert re.search(r"fastcgi_pass unix:(\S+);", nginx)[1] in sockets
        pool = next(iter(config["pools"].values()))
        waits = seconds(pool.get("queue", {}).get("timeout", "10s")) + seconds(pool.get("timeouts", {}).get("first_byte", "60s"))
        assert seconds(re.search(r"fastcgi_read_timeout (\S+);", nginx)[1]) > waits
        assert pod["spec"]["terminationGracePeriodSeconds"] > seconds(config["drain"]["deadline"])


@combinations
def test_a_token_is_for_the_sidecar_alone_and_only_to_read_endpoint_slices(values):
    documents = chart.render(values)
    watches = values.get("fcgimux", {}).get("upstream", {}).get("discovery") == "endpointslice"
    for pod in chart.pods(documents):
        for container in chart.containers(pod):
            has_token = any("serviceaccount" in mount["mountPath"] for mount in container.get("volumeMounts", []))
            assert has_token == (watches and container["name"] == "fcgimux")
    assert not chart.of_kind(documents, "ClusterRole")
    roles = chart.of_kind(documents, "Role")
    assert len(roles) == (watches and values["fcgimux"].get("rbac", {}).get("create", True))
    for role in roles:
        assert role["rules"] == [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}]
        binding = chart.the(documents, "RoleBinding", role["metadata"]["name"])
        assert binding["roleRef"]["name"] == role["metadata"]["name"]
        endpoint = yaml.safe_load(chart.configuration(documents))["pools"]["default"]["endpoints"][0]
        assert endpoint["service"].split("/")[0] == role["metadata"]["namespace"] == binding["metadata"]["namespace"]
        subject, = binding["subjects"]
        account = chart.the(documents, "Deployment", "web-fcgimux")["spec"]["template"]["spec"]["serviceAccountName"]
        assert (subject["namespace"], subject["name"]) == ("shop", account)


@combinations
def test_php_fpm_and_the_sidecar_agree(values):
    documents = chart.render(values)
    for fpm in [one["data"]["fcgimux.conf"] for one in chart.of_kind(documents, "ConfigMap") if "fcgimux.conf" in one["data"]]:
        pool = yaml.safe_load(chart.configuration(documents))["pools"]
        pool = next(iter(pool.values()))
        port = re.search(r"(?m)^listen = (\d+)$", fpm)[1]
        assert any(str(endpoint.get("dns", "")).endswith(f":{port}") or endpoint.get("port") == int(port) for endpoint in pool["endpoints"])
        status = re.search(r"status_listen = 0\.0\.0\.0:(\d+)", fpm)
        assert pool.get("status", {}).get("port") == (int(status[1]) if status else None)
        service = chart.the(documents, "Service", chart.the(documents, "Deployment", next(
            one["metadata"]["name"] for one in chart.of_kind(documents, "Deployment") if one["metadata"]["name"].endswith("-php")
        ))["metadata"]["name"])
        assert service["spec"]["clusterIP"] == "None"
        endpoint = pool["endpoints"][0]
        assert service["metadata"]["name"] in endpoint.get("dns", endpoint.get("service"))

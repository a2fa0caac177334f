"""Values as nobody should write them: each gives a right manifest, or an error that names it."""

import json
import re

import pytest
import yaml

import chart
import readme
from test_render import CUSTOM, VERSIONS, assert_whole, complaint
from test_values import notes, schema_of, values_of

EVERYTHING = {
    "metrics": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}},
    "autoscaling": {"keda": {"enabled": True}},
    "networkPolicy": {"restrictWeb": True},
    "injector": {"enabled": True},
}


def laid_over(values, path, value):
    *steps, last = path
    for step in steps:
        values = values.setdefault(step, {})
    values[last] = value


def every_value():
    """The path of each value of the application chart, those of the library's among them, and its default. What is passed on as it
    is, such as a security context, is one value."""
    for name, prefix in [("fcgimux", []), ("fcgimux-lib", ["fcgimux"])]:
        values, known = yaml.safe_load(values_of(name)), set()
        for leaf in readme.leaves(values):
            if name == "fcgimux" and leaf.startswith("fcgimux."):
                continue
            node, default, path = schema_of(name), values, []
            for step in leaf.split("."):
                if "properties" not in node:
                    break
                node, default, path = node["properties"][step], default[step], [*path, step]
            if tuple(path) not in known:
                known.add(tuple(path))
                yield name, prefix, path, default


def is_required(name, path):
    node = schema_of(name)
    for step in path:
        if step not in node.get("required", []):
            return False
        node = node["properties"][step]
    return True


def test_a_value_of_the_wrong_type_is_named():
    values, paths = {}, []
    for _, prefix, path, default in every_value():
        wrong = "text" if not isinstance(default, str) else {"a": "map"}
        laid_over(values, prefix + path, wrong)
        paths.append(path)
    # Helm itself keeps a map in place of what is none, and says that.
    said = chart.refusal(values)
    assert len(paths) > 120
    for path in paths:
        assert re.search(rf"\b{re.escape('.'.join(path))}\b", said), path


def test_what_must_be_there_is_asked_for_by_its_name():
    """`null` is Helm's way to delete."""
    values, required = {}, []
    for name, prefix, path, _ in every_value():
        if is_required(name, path):
            laid_over(values, prefix + path, None)
            required.append(path)
    said = chart.refusal(values)
    assert len(required) > 60
    for *above, last in required:
        assert f"{'.'.join(above) or '(root)'}: {last} is required" in said, (above, last)


def test_everything_else_may_be_deleted():
    values = json.loads(json.dumps(EVERYTHING))
    for name, prefix, path, _ in every_value():
        if not is_required(name, path):
            laid_over(values, prefix + path, None)
    # Without it there is nowhere to send requests.
    laid_over(values, ["fcgimux", "upstream", "service"], "php")
    documents = chart.render(values)
    assert len(documents) > 15
    for document in documents:
        if "." not in document["apiVersion"] or document["apiVersion"].split("/")[0].endswith(".k8s.io"):
            assert complaint(json.dumps(document), VERSIONS[1]) is None, document["metadata"]["name"]
    for pod in chart.pods(documents):
        assert_whole(pod, documents)
    assert "Does it answer?" in notes(values)


@pytest.mark.parametrize(
    "release, namespace, values",
    [
        ("shop.v2.example", "shop", {}),
        ("a" * 53, "n" * 63, {}),
        ("a" * 44 + "-" + "b" * 8, "shop", {}),
        ("1e5", "123", {"fcgimux": {"fullnameOverride": "web", "upstream": {"discovery": "endpointslice"}}}),
        ("true", "null", {"fcgimux": {"upstream": {"discovery": "endpointslice"}}}),
        ("fcgimux", "shop", {"fcgimux": {"fullnameOverride": "a" * 53}}),
    ],
    ids=["dots", "long", "cut at a dash", "numbers", "words of YAML", "a long name"],
)
def test_names_that_are_hard_to_take(release, namespace, values):
    documents = chart.render({**EVERYTHING, **values}, "--namespace", namespace, release=release)
    for document in documents:
        metadata = document["metadata"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == release
        # A Service's name, which is a part of a host's name, is the strictest of them.
        first, longest = ("[a-z]", 63) if document["kind"] == "Service" else ("[a-z0-9]", 253)
        assert re.fullmatch(rf"{first}([-a-z0-9]*[a-z0-9])?", metadata["name"]) and len(metadata["name"]) <= longest, metadata["name"]
        assert metadata.get("namespace", namespace) == namespace
        assert document["kind"] in CUSTOM or complaint(json.dumps(document), VERSIONS[1]) is None
    for deployment in chart.of_kind(documents, "Deployment"):
        assert deployment["spec"]["selector"]["matchLabels"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        assert_whole(deployment["spec"]["template"], documents)


def test_a_name_that_no_service_can_have_is_refused():
    assert "set fcgimux.fullnameOverride" in chart.refusal({}, release="1e5")
    assert "fullnameOverride" in chart.refusal({"fcgimux": {"fullnameOverride": "a" * 54}})


def test_labels_of_all_objects_never_replace_those_that_selectors_go_by():
    taken = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "fcgimux.dev/sidecar"]
    mine = {**dict.fromkeys(taken, "x"), "team": "shop"}
    labels = {"commonLabels": mine, "podLabels": mine}
    metrics = {"podMonitor": {"enabled": True, "labels": mine}, "prometheusRule": {"enabled": True, "labels": mine}}
    documents = chart.render({**EVERYTHING, "fcgimux": labels, "php": {"podLabels": mine}, "metrics": metrics})
    plain = chart.render({**EVERYTHING, "metrics": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}})
    for changed, own in zip(documents, plain, strict=True):
        pairs = [(changed, own)]
        if own["kind"] == "Deployment":
            pairs.append((changed["spec"]["template"], own["spec"]["template"]))
        for one, other in pairs:
            labels = one["metadata"]["labels"]
            assert other["metadata"]["labels"].items() <= labels.items() <= {**mine, **other["metadata"]["labels"]}.items()
            assert labels["team"] == "shop"


def test_a_group_of_nine_digits_stays_the_number_it_is():
    """OpenShift's are like that."""
    for group in [1000680000, "1000680000"]:
        listener, = yaml.safe_load(chart.configuration(chart.render({"fcgimux": {"socket": {"group": group}}})))["listeners"]
        assert listener["group"] == "1000680000"


def test_flags_that_the_program_refuses_beside_a_file_are_refused():
    refused = re.findall(r'"(\w+)"', re.search(r"SHORT: \[[^\]]*\] = \[(.*?)\]", chart.source("cli/serve.rs"), re.DOTALL)[1])
    named = re.search(r"has \$flag \(list (.*?)\)", (chart.CHARTS / "fcgimux-lib/templates/_container.tpl").read_text())[1]
    assert set(re.findall(r'"--([\w-]+)"', named)) == {name.replace("_", "-") for name in refused}
    for flag in ["--log-level", "--threads=2"]:
        said = chart.refusal({"fcgimux": {"extraArgs": [flag, "x"]}})
        assert f"extraArgs: {flag.split('=')[0]}" in said and "set it in config" in said


def test_templates_in_values_are_evaluated_where_that_is_said_and_nowhere_else():
    said = "{{ .Release.Name }}"
    values = {
        "php": {"enabled": False, "extraConfig": said},
        "nginx": {"serverSnippet": f"# {said}"},
        "fcgimux": {
            "upstream": {"service": f"{said}-backend", "addresses": [f"{said}-more:9000"]}, "webContainer": f"{said}-nginx",
            "serviceAccount": {"create": False, "name": f"{said}-account"}, "podAnnotations": {"a": said},
        },
    }
    documents = chart.render(values)
    endpoints = yaml.safe_load(chart.configuration(documents))["pools"]["default"]["endpoints"]
    assert endpoints == [{"dns": "web-backend.shop.svc.cluster.local.:9000"}, {"dns": "web-more:9000"}]
    pod = chart.the(documents, "Deployment", "web-fcgimux")["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == "web-account"
    assert pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "web-nginx"
    assert pod["metadata"]["annotations"]["a"] == said
    chart.container(pod, "web-nginx")
    assert f"# {said}" in chart.the(documents, "ConfigMap", "web-fcgimux-nginx")["data"]["default.conf"]


def test_keys_of_global_that_mean_something_else_are_passed_over():
    values = {"global": {"imageRegistry": {"host": "x"}, "imagePullSecrets": "regcred", "security": {"a": 1}}}
    assert chart.render(values) == chart.render({})


def test_services_of_own_pools_bring_the_right_and_the_token():
    pools = {
        "a": {"endpoints": [{"service": "one/php"}, {"service": "php"}]},
        "b": {"endpoints": [{"service": "one/other"}, {"dns": "x:1"}]},
    }
    documents = chart.render({"fcgimux": {"config": {"pools": pools}}})
    roles = {role["metadata"]["namespace"]: role["metadata"]["name"] for role in chart.of_kind(documents, "Role")}
    assert roles == {"one": "shop-web-fcgimux-endpoints", "shop": "web-fcgimux-endpoints"}
    pod = chart.the(documents, "Deployment", "web-fcgimux")["spec"]["template"]
    assert "fcgimux-token" in [mount["name"] for mount in chart.container(pod, "fcgimux")["volumeMounts"]]
    assert_whole(pod, documents)

"""Values, their schema and what is written about them; the chart as a package, below another chart, and after itself."""

import json
import re
import shutil
import tomllib

import pytest
import yaml

import chart
import readme

CHARTS = ["fcgimux", "fcgimux-lib"]


def values_of(name):
    return (chart.CHARTS / name / "values.yaml").read_text()


def schema_of(name):
    return json.loads((chart.CHARTS / name / "values.schema.json").read_text())


@pytest.mark.parametrize("name", CHARTS)
def test_the_readme_shows_the_values(name):
    stands, should = readme.readme(name)
    assert stands == should, "make it anew: python3 tests/chart/readme.py"


@pytest.mark.parametrize("name", CHARTS)
def test_every_value_has_a_comment(name):
    text = values_of(name)
    said = [path for path, _, _ in readme.documented(text)]
    assert len(set(said)) == len(said)
    for leaf in readme.leaves(yaml.safe_load(text)):
        assert any(leaf == path or leaf.startswith(path + ".") for path in said), leaf


@pytest.mark.parametrize("name", CHARTS)
def test_the_schema_knows_every_value_is_strict_inside_and_open_at_the_root(name):
    """The library's root is a key of the chart around it, where Helm puts `global` and people a switch for `condition:`, and nothing else."""
    schema = schema_of(name)
    strict = name == "fcgimux-lib"
    assert schema.get("additionalProperties", True) is not strict
    assert not strict or {"global", "enabled"} <= set(schema["properties"])
    assert set(schema["properties"]["global"]) == {"description"}
    for leaf in readme.leaves(yaml.safe_load(values_of(name))):
        node, path = schema, leaf.split(".")
        for step in path:
            if "properties" not in node:
                # A mapping that is passed through, or checked by the library's schema.
                break
            assert node is schema or node["additionalProperties"] is False, leaf
            node = node["properties"][step]


def test_the_application_takes_every_value_of_the_library():
    assert set(schema_of("fcgimux")["properties"]["fcgimux"]["properties"]) == set(schema_of("fcgimux-lib")["properties"])


@pytest.mark.parametrize(
    "path, prefix",
    [(["config"], ""), (["pool", "settings"], "pools.*."), (["queue"], "pools.*.queue."), (["timeouts"], "pools.*.timeouts.")],
)
def test_the_schema_takes_the_keys_that_the_binary_takes(path, prefix):
    node = schema_of("fcgimux-lib")
    for step in path:
        node = node["properties"][step]
    assert set(node["properties"]) == chart.keys_under(prefix)


def test_versions_are_those_of_the_binary():
    version = tomllib.loads((chart.REPOSITORY / "Cargo.toml").read_text())["package"]["version"]
    app, library = (yaml.safe_load((chart.CHARTS / name / "Chart.yaml").read_text()) for name in CHARTS)
    assert app["appVersion"] == version
    assert yaml.safe_load(values_of("fcgimux-lib"))["image"]["tag"] == version
    assert app["dependencies"][0]["version"] == library["version"] == app["version"]


@pytest.mark.parametrize(
    "values, says",
    [
        ({"fcgimux": {"listen": {"pth": "/x/y"}}}, "pth"),
        ({"fcgimux": {"lsten": {}}}, "lsten"),
        ({"nginx": {"imag": {}}}, "imag"),
        ({"fcgimux": {"config": {"pool": {}}}}, "pool"),
        ({"fcgimux": {"socket": {"mode": 0o660}}}, "socket.mode"),
        ({"fcgimux": {"image": {"tag": 1.10}}}, "image.tag"),
        ({"fcgimux": {"image": {"tag": 20261121}}}, "image.tag"),
        ({"fcgimux": {"metrics": {"address": "::"}}}, "metrics.address"),
        ({"fcgimux": {"metrics": {"address": "127.0.0.1"}}}, "metrics.address: 127.0.0.1"),
        ({"fcgimux": {"listen": {"path": "/run/fcgimux.sock"}}}, "would hide their own /run"),
        ({"fcgimux": {"listen": {"path": "/run/" + "a" * 120}}}, "listen.path"),
        ({"fcgimux": {"upstream": {"service": "php:9000"}}}, 'upstream.service: "php:9000"'),
        ({"fcgimux": {"upstream": {"service": "a/b/c"}}}, "NAMESPACE/NAME"),
        ({"fcgimux": {"upstream": {"addresses": ["php"]}}}, 'upstream.addresses: "php"'),
        ({"php": {"enabled": False}, "fcgimux": {"upstream": {"discovery": "endpointslice", "addresses": ["a:1"]}}}, "set upstream.service"),
        ({"fcgimux": {"probes": {"startup": {"httpGet": {}}}}}, "httpGet"),
        ({"fcgimux": {"podLabels": {"version": 7}}}, "podLabels.version"),
        ({"fcgimux": {"podLabels": {"a": "not a label"}}}, "podLabels.a"),
        ({"fcgimux": {"config": {"listeners": [{"socket": "/run/fcgimux/fcgimux.sock"}, {"socket": "/srv/x.sock"}]}}}, "/srv/x.sock"),
        ({"php": {"files": {"a/b.php": ""}}}, "a/b.php"),
        ({"replicaCount": 99999999999}, "replicaCount"),
        ({"fcgimux": {"upstream": {"service": "{{ .Values.nope.x }}"}}}, "nil pointer evaluating interface {}.x"),
        ({"nginx": {"port": 9253}}, "nginx.port and fcgimux.metrics.port"),
        ({"fcgimux": {"upstream": {"port": 9001}}}, "fcgimux.upstream.statusPort"),
        ({"autoscaling": {"keda": {"enabled": True, "min": 5, "max": 2}}}, "autoscaling.keda.min"),
        ({"php": {"enabled": False}, "fcgimux": {"config": {"pools": {"a": {"endpoints": []}}}}, "autoscaling": {"keda": {"enabled": True, "target": "x"}}}, "no pool default"),
        ({"fcgimux": {"listen": {"path": "fcgimux.sock"}}}, "listen.path"),
        ({"fcgimux": {"nativeSidecar": "yes"}}, "nativeSidecar"),
        ({"fcgimux": {"upstream": {"discovery": "consul"}}}, "discovery"),
        ({"fcgimux": {"metrics": {"port": 80}}}, "port"),
        ({"php": {"enabled": False}}, "nowhere to send requests"),
        ({"fcgimux": {"config": {"admin": {"listen": "127.0.0.1:1"}}}}, "set metrics.address"),
        ({"fcgimux": {"config": {"drain": {"deadline": "1s"}}}}, "set drain.seconds"),
        ({"fcgimux": {"config": {"listeners": [{"socket": "/run/x.sock"}]}}}, "listen.path"),
        ({"fcgimux": {"queue": {"depth": 5}, "config": {"pools": {"a": {"endpoints": []}}}}}, "config.pools holds all pools"),
        ({"php": {"enabled": False}, "fcgimux": {"upstream": {"service": "php"}}, "autoscaling": {"keda": {"enabled": True}}}, "keda.target"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(values, says):
    assert says in chart.refusal(values)


def test_a_cluster_without_native_sidecars_is_told_apart():
    """There its pods would wait for the sidecar to end before they start."""
    assert "nativeSidecar" in chart.refusal({}, "--kube-version", "1.28.3")
    assert chart.render({"fcgimux": {"nativeSidecar": False}}, "--kube-version", "1.28.3")
    assert chart.render({}, "--kube-version", "1.29.0-gke.1") == chart.render({})


def test_a_number_stays_the_number_it_is():
    documents = chart.render({"fcgimux": {"queue": {"depth": 1000000}, "config": {"threads": 2}}})
    assert "depth: 1000000\n" in chart.configuration(documents)


def test_off_is_taken_as_off():
    documents = chart.render({"fcgimux": {"serviceAccount": {"create": False}}, "pdb": {"enabled": False}, "php": {"demo": False}})
    kinds = {document["kind"] for document in documents}
    assert not kinds & {"ServiceAccount", "PodDisruptionBudget"}
    assert not [one for one in chart.of_kind(documents, "ConfigMap") if one["metadata"]["name"].endswith("-files")]


@pytest.mark.parametrize(
    "value, kind, api",
    [
        ("injector", "MutatingAdmissionPolicy", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"),
        ("metrics.podMonitor", "PodMonitor", "monitoring.coreos.com/v1/PodMonitor"),
        ("metrics.prometheusRule", "PrometheusRule", "monitoring.coreos.com/v1/PrometheusRule"),
        ("autoscaling.keda", "ScaledObject", "keda.sh/v1alpha1/ScaledObject"),
    ],
)
def test_auto_follows_what_the_cluster_knows(value, kind, api):
    auto = f"{value}.enabled=auto"
    assert not chart.of_kind(chart.render({}, "--set", auto), kind)
    assert chart.of_kind(chart.render({}, "--set", auto, "--api-versions", api), kind)
    assert not chart.of_kind(chart.render({}, "--api-versions", api), kind)


def test_a_restart_follows_a_change_only_where_it_is_wanted():
    def annotations(**values):
        return chart.the(chart.render({"fcgimux": values}), "Deployment", "web-fcgimux")["spec"]["template"]["metadata"]["annotations"]

    changed = {"queue": {"depth": 5}}
    assert annotations() == annotations(**changed)
    assert annotations(reload="restart") != annotations(reload="restart", **changed)


def test_the_chart_works_below_another_with_global_values(tmp_path):
    parent = tmp_path / "parent"
    parent.mkdir()
    dependency = f"dependencies: [{{name: fcgimux, version: '*', repository: 'file://{chart.chart()}'}}]\n"
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n" + dependency)
    chart.run("helm", "dependency", "update", parent)
    values = {"global": {"imageRegistry": "mirror.example", "other": {"x": 1}}, "fcgimux": {"replicaCount": 3, "note": "own"}}
    documents = chart.render(values, path=str(parent))
    deployment = chart.the(documents, "Deployment", "web-fcgimux")
    assert deployment["spec"]["replicas"] == 3
    images = [one["image"] for pod in chart.pods(documents) for one in chart.containers(pod)]
    assert images and all(image.startswith("mirror.example/") for image in images)
    alone = chart.render({"global": values["global"], "replicaCount": 3})
    assert documents == alone


def test_a_package_renders_as_the_folder_does(tmp_path):
    chart.run("helm", "package", chart.chart(), "--destination", tmp_path)
    package, = tmp_path.glob("fcgimux-*.tgz")
    values = {"metrics": {"dashboards": {"enabled": True}, "prometheusRule": {"enabled": True}}, "injector": {"enabled": True}}
    assert chart.render(values, path=str(package)) == chart.render(values)


def notes(values):
    """NOTES.txt, which `helm template` does not show: evaluated as a part of an object."""
    shown = chart.workplace() / "notes"
    if not shown.exists():
        shutil.copytree(chart.chart(), shown)
        shutil.move(shown / "templates" / "NOTES.txt", shown / "files" / "NOTES.txt")
        text = "kind: Notes\nmetadata: {name: notes}\ntext: |\n  {{- tpl (.Files.Get \"files/NOTES.txt\") . | nindent 2 }}\n"
        (shown / "templates" / "notes.yaml").write_text(text)
    return chart.the(chart.render(values, "--show-only", "templates/notes.yaml", path=str(shown)), "Notes")["text"]


def of_notes(values):
    shown = notes(values)
    return [line for line in shown.splitlines() if "WARNING" in line], shown


def test_the_notes_name_three_next_commands_about_objects_that_are_there():
    warnings, shown = of_notes({})
    assert not warnings
    steps = re.findall(r"(?m)^(\d)\. (.*)$", shown)
    assert [number for number, _ in steps] == ["1", "2", "3"]
    documents = chart.render({})
    for kind, name in re.findall(r"(deployment|service)/([\w-]+)", shown):
        chart.the(documents, kind.capitalize(), name)
    assert "helm -n shop test web" in shown


@pytest.mark.parametrize(
    "values, warning",
    [
        ({"replicaCount": 3}, "php.maxChildren"),
        ({"podSecurityContext": {"runAsUser": None}}, "0666"),
        ({"fcgimux": {"upstream": {"discovery": "endpointslice"}, "rbac": {"create": False}}}, "rbac.create"),
        ({"networkPolicy": {"enabled": False}}, "whoever reaches"),
        ({"fcgimux": {"nativeSidecar": False}}, "native sidecars"),
        ({"replicacount": 1}, "no value replicacount"),
    ],
)
def test_the_notes_warn_of_traps(values, warning):
    warnings, shown = of_notes(values)
    assert len(warnings) == 1 and warning in shown[shown.index("WARNING"):]
    assert warning not in of_notes({})[1]
    if "podSecurityContext" in values:
        assert not of_notes({**values, "fcgimux": {"socket": {"mode": "0666"}}})[0]


def test_the_test_pod_calls_the_binary_as_it_wants_to_be_called(tmp_path):
    call = chart.container(chart.the(chart.render({}), "Pod"), "call")
    assert call["args"][-1] == "/var/www/html/index.php"
    binary = chart.binary()
    if binary is None or chart.run(binary, "call", "--help", check=False).returncode != 0:
        pytest.skip("no fcgimux with `call` was built")
    nowhere = [str(tmp_path / "nobody.sock") if word.endswith(".sock") else word for word in call["args"]]
    # 7: cannot connect. 64 would be a command line that it does not understand.
    assert chart.run(binary, *nowhere, check=False).returncode == 7

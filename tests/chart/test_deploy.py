"""What stands in deploy/ for those without Helm: that its parts go together, and are what the real programs take."""

import configparser
import json
import os
import re
import shutil

import pytest
import yaml

import chart
import manifests
from test_render import VERSIONS, assert_restricted, assert_whole, complaint, seconds

DEPLOY = chart.REPOSITORY / "deploy"
PATH = os.environ["PATH"] + ":/usr/sbin"


def program(name):
    found = shutil.which(name, path=PATH)
    if not found:
        pytest.skip(f"{name} is missing")
    return found


def read(path):
    return yaml.safe_load((DEPLOY / path).read_text())


def base():
    return list(yaml.safe_load_all((DEPLOY / "kubernetes/base/pods.yaml").read_text()))


def test_the_base_is_what_the_chart_makes():
    assert (DEPLOY / "kubernetes/base/pods.yaml").read_text() == manifests.text(), "make it anew: tests/chart/manifests.py"
    assert read("kubernetes/base/kustomization.yaml")["resources"] == ["pods.yaml"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_base_is_what_kubernetes_takes_in_any_namespace(version):
    for document in base():
        assert complaint(json.dumps(document), version) is None
        assert "namespace" not in document["metadata"]
    for pod in chart.pods(base()):
        assert_whole(pod, base())
        assert_restricted(pod)
    assert "helm" not in (DEPLOY / "kubernetes/base/pods.yaml").read_text().lower()


def test_the_right_to_read_endpoint_slices_is_that_of_the_chart():
    role = next(one for one in yaml.safe_load_all((DEPLOY / "kubernetes/rbac.yaml").read_text()) if one["kind"] == "Role")
    own = chart.the(chart.render({"fcgimux": {"upstream": {"discovery": "endpointslice"}}}), "Role")
    assert role["rules"] == own["rules"]


@pytest.mark.parametrize("path", ["examples/fcgimux.yaml", "examples/generic.yaml", "systemd/fcgimux.yaml", "compose/fcgimux.yaml"])
def test_the_binary_takes_the_configuration(path):
    if chart.binary() is None:
        pytest.skip("no fcgimux was built")
    chart.run(chart.binary(), "check", DEPLOY / path)


KUSTOMIZATION = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: shop
bases: [../base]
images:
  - {name: fcgimux/fcgimux, newName: registry.example/fcgimux, newTag: 9.9.9}
patchesStrategicMerge: [replicas.yaml]
"""
REPLICAS = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n"


def kustomize(folder):
    text = chart.run(program("kubectl"), "kustomize", folder).stdout
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


def test_kustomize_takes_the_base():
    assert kustomize(DEPLOY / "kubernetes/base") == {(one["kind"], one["metadata"]["name"]): one for one in base()}


def test_an_overlay_reaches_what_it_names(tmp_path):
    shutil.copytree(DEPLOY / "kubernetes/base", tmp_path / "base")
    (tmp_path / "overlay").mkdir()
    # As old as kubectl in Debian 12 understands, and newer ones still do.
    (tmp_path / "overlay/kustomization.yaml").write_text(KUSTOMIZATION)
    (tmp_path / "overlay/replicas.yaml").write_text(REPLICAS)
    built = kustomize(tmp_path / "overlay")
    assert set(built) == {(one["kind"], one["metadata"]["name"]) for one in base()}
    for document in built.values():
        assert document["metadata"]["namespace"] == "shop"
        assert complaint(json.dumps(document), VERSIONS[1]) is None
    web = built["Deployment", "web"]["spec"]
    assert web["replicas"] == 5
    assert chart.container(web["template"], "fcgimux")["image"] == "registry.example/fcgimux:9.9.9"
    assert_whole(web["template"], list(built.values()))


def unit():
    # The same key may stand several times, which is a list.
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd/fcgimux.service")
    return parser


def test_the_unit_makes_the_folder_of_the_socket_and_waits_for_the_drain():
    service = unit()["Service"]
    socket = read("systemd/fcgimux.yaml")["listeners"][0]["socket"]
    assert socket.startswith(f"/run/{service['RuntimeDirectory']}/")
    drain = re.search(r'key\("drain.deadline", "(\w+)"', chart.source("config/defaults.rs"))[1]
    assert int(service["TimeoutStopSec"]) > seconds(drain)
    assert service["ExecStart"].split()[1:] == ["--config", "/etc/fcgimux/fcgimux.yaml"]


def test_systemd_understands_the_unit(tmp_path):
    analyze = program("systemd-analyze")
    text = (DEPLOY / "systemd/fcgimux.service").read_text().replace("/usr/local/bin/fcgimux", "/bin/true")
    (tmp_path / "fcgimux.service").write_text(text)
    said = chart.run(analyze, "verify", "--man=no", tmp_path / "fcgimux.service", check=False)
    assert "fcgimux.service" not in said.stderr, said.stderr
    # Of 10, which is a service that may do everything. What is left is what it lives by: sockets and the network.
    chart.run(analyze, "security", "--offline=true", "--no-pager", "--threshold=13", tmp_path / "fcgimux.service")


def test_the_image_holds_a_folder_for_the_socket_that_its_user_owns():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    user = next(line.split()[1] for line in lines if line.startswith("USER "))
    assert "FROM scratch" in lines
    assert f"COPY --chown={user} folders/ /" in lines
    assert 'mkdir -p "$folder/folders/run/fcgimux"' in (DEPLOY / "build-image").read_text()
    assert int(user.split(":")[0]) >= 1000
    socket = chart.render({})
    assert yaml.safe_load(chart.configuration(socket))["listeners"][0]["socket"].startswith("/run/fcgimux/")


def test_docker_compose_takes_the_file(tmp_path):
    """Strictly: a key that it does not know is an error."""
    compose = program("docker-compose")
    text = chart.run(compose, "--file", DEPLOY / "compose/compose.yaml", "config").stdout
    assert set(yaml.safe_load(text)["services"]) == set(read("compose/compose.yaml")["services"])
    (tmp_path / "compose.yaml").write_text((DEPLOY / "compose/compose.yaml").read_text().replace("read_only:", "readonly:"))
    assert "readonly" in chart.run(compose, "--file", tmp_path / "compose.yaml", "config", check=False).stderr


def test_the_services_of_compose_share_the_socket():
    services = read("compose/compose.yaml")["services"]
    socket = read("compose/fcgimux.yaml")["listeners"][0]["socket"]
    folder = socket.rsplit("/", 1)[0]
    assert f"run:{folder}" in services["fcgimux"]["volumes"]
    assert f"run:{folder}:ro" in services["nginx"]["volumes"]
    assert f"fastcgi_pass unix:{socket};" in (DEPLOY / "compose/nginx.conf").read_text()
    user = next(line.split()[1] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("USER "))
    assert services["nginx"]["user"] == user
    for service in services.values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source == "run" or (DEPLOY / "compose" / source).exists()


@pytest.mark.parametrize("kind", ["compose", "examples"])
def test_php_fpm_and_fcgimux_agree(kind):
    fpm = (DEPLOY / kind / "php-fpm.conf").read_text()
    pool, = read(f"{kind}/fcgimux.yaml")["pools"].values()
    port = re.search(r"(?m)^listen = (\d+)$", fpm)[1]
    assert pool["endpoints"][0]["dns"].endswith(f":{port}")
    if "status" in pool:
        assert f"pm.status_listen = 0.0.0.0:{pool['status']['port']}" in fpm
    each = pool.get("connections", {}).get("per_endpoint", 8)
    assert int(re.search(r"pm.max_children = (\d+)", fpm)[1]) > each


@pytest.mark.parametrize("kind", ["compose", "examples"])
def test_nginx_takes_its_configuration(kind, tmp_path):
    nginx = program("nginx")
    if os.getuid() != 0:
        pytest.skip("nginx -t writes its folders as root")
    shutil.copy("/etc/nginx/fastcgi_params", tmp_path)
    site = (DEPLOY / kind / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off;\n{site}\n}}\n")
    chart.run(nginx, "-t", "-c", tmp_path / "nginx.conf", "-g", "error_log stderr;")


@pytest.mark.parametrize("kind", ["compose", "examples", "chart"])
def test_php_fpm_takes_its_configuration(kind, tmp_path):
    fpm = program("php-fpm8.2")
    if kind == "chart":
        found = [one["data"] for one in chart.of_kind(chart.render({}), "ConfigMap") if "fcgimux.conf" in one["data"]]
        text = found[0]["fcgimux.conf"]
    else:
        text = (DEPLOY / kind / "php-fpm.conf").read_text()
    if not re.search(r"(?m)^user = ", text):
        text = text.replace("[www]", "[www]\nuser = www-data\ngroup = www-data")
    text = text.replace("/proc/self/fd/2", str(tmp_path / "log"))
    (tmp_path / "fpm.conf").write_text(text)
    chart.run(fpm, "--test", "--fpm-config", tmp_path / "fpm.conf")


def test_the_scripts_are_sound():
    for script in [DEPLOY / "build-image", chart.REPOSITORY / "tests/chart/run"]:
        chart.run("bash", "-n", script)
        assert os.access(script, os.X_OK)

"""The pods of the application chart, run by podman; started by tests/chart/pods.

What that leaves unproven, because podman has no such thing or the test plays it (see pod.py): fsGroup, probes, restarts and
the order of starting and ending as kubelet itself does them, Services and their names (podman's DNS has the name in their
place), NetworkPolicies, roles."""

import copy
import subprocess
import types

import pytest
import yaml

import chart
from pod import NETWORK, Pod, podman, until
from visitors import get

VISIT = """<?php
$token = $_REQUEST['token'] ?? '';
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    file_put_contents('/tmp/executed', "$token\\n", FILE_APPEND | LOCK_EX);
}
echo "$_SERVER[REQUEST_METHOD] $token ", $_SERVER['NOTE'] ?? '-', "\\n";
"""
SLOW = "<?php sleep(3); require 'visit.php';"
UPLOAD = "<?php echo strlen(file_get_contents('php://input')), ' ', md5_file('php://input');"
VALUES = {
    # The user of the image, whose folder for the socket the volume takes over, as there is no fsGroup.
    "podSecurityContext": {"runAsUser": 65532, "runAsGroup": 65532},
    "nginx": {"preStopSeconds": 1},
    "php": {"files": {"visit.php": VISIT, "slow.php": SLOW, "upload.php": UPLOAD}},
    "fcgimux": {"image": {"repository": "localhost/fcgimux", "tag": "test"}},
}


def clean():
    """podman refuses to remove a container that another podman, started by the end of its process, has in hand."""
    until("all containers are removed", nothing_left, timeout=60)
    podman("volume", "prune", "--force", check=False)
    podman("network", "rm", "--force", NETWORK, check=False)


def nothing_left():
    podman("pod", "rm", "--all", "--force", "--time", "0", check=False)
    podman("rm", "--all", "--force", "--time", "0", check=False)
    return not podman("pod", "ps", "--quiet") and not podman("ps", "--all", "--quiet")


@pytest.fixture(scope="session")
def network():
    clean() # of a run that was killed
    podman("network", "create", NETWORK)
    yield NETWORK
    clean()


def rendered(**sidecar):
    """The application chart, with these values of the sidecar besides."""
    values = copy.deepcopy(VALUES)
    values["fcgimux"] |= sidecar
    return chart.render(values)


def template(documents, name):
    return chart.the(documents, "Deployment", name)["spec"]["template"]


class Pods(types.SimpleNamespace):
    """`web` and `php`, and what is asked of them."""

    def new_php(self, name):
        return Pod(name, template(self.documents, "web-fcgimux-php"), self.documents, [self.service])

    def new_web(self, name):
        return Pod(name, template(self.documents, "web-fcgimux"), self.documents)

    @property
    def url(self):
        return f"http://{self.web.address}:8080"

    def metrics(self):
        return get(f"http://{self.web.address}:9253/metrics").text

    def executed(self):
        """The tokens of all POSTs that a script was run for, as often as it was."""
        files = [pod.volume(f"{pod.name}-tmp") / "executed" for pod in self.all_php]
        return [line for file in files if file.exists() for line in file.read_text().split()]


@pytest.fixture(scope="session")
def pods(network):
    documents = rendered()
    endpoint = yaml.safe_load(chart.configuration(documents))["pools"]["default"]["endpoints"][0]["dns"]
    # Absolute, with the namespace and the domain of the cluster.
    service = endpoint.removesuffix(".:9000")
    assert service == "web-fcgimux-php.shop.svc.cluster.local"
    pods = Pods(documents=documents, service=service)
    pods.php = pods.new_php("php-1")
    pods.all_php = [pods.php]
    pods.php.start_all()
    pods.web = pods.new_web("web-1")
    pods.web.start_all()
    until("a page comes", lambda: get(pods.url).status == 200)
    return pods


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What the containers said goes with a failure."""
    report = (yield).get_result()
    if report.failed:
        for name in podman("ps", "--all", "--format", "{{.Names}}", check=False).split():
            words = ["podman", "logs", "--tail", "15", name]
            log = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30).stdout
            if log.strip():
                report.sections.append((f"log of {name}", log))

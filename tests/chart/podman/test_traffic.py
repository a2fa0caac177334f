"""Requests through nginx, the shared socket, fcgimux and php-fpm in another pod."""

import hashlib
import http.client
import os
import re
import subprocess

import chart
from pod import Pod, podman
from visitors import Visitors, get


def test_requests_are_answered_each_with_its_own_answer(pods):
    assert "through fcgimux" in get(pods.url).text
    with Visitors(pods.url) as visitors:
        visitors.wait_for(400)
    assert visitors.failed() == []
    visitors.assert_own_answers()
    executed = pods.executed()
    assert sorted(set(executed)) == sorted(executed), "a POST was executed twice"
    assert {one.token for one in visitors.answers if one.method == "POST"} <= set(executed)


def test_connections_are_kept(pods):
    def opened():
        return sum(float(value) for value in re.findall(r"(?m)^fcgimux_upstream_connections_opened_total\S* (\S+)", pods.metrics()))

    before = opened()
    with Visitors(pods.url) as visitors:
        visitors.wait_for(400)
    assert visitors.failed() == []
    # The others have no connection of their own.
    assert opened() - before < len(visitors.answers) / 10


def test_an_upload_beyond_memory_finds_room_with_a_read_only_root(pods):
    body = os.urandom(3_000_000)
    connection = http.client.HTTPConnection(pods.web.address, 8080, timeout=30)
    connection.request("POST", "/upload.php", body, {"Content-Type": "application/octet-stream"})
    answer = connection.getresponse()
    assert (answer.status, answer.read().decode()) == (200, f"{len(body)} {hashlib.md5(body).hexdigest()}")
    connection.close()


def test_every_probe_of_the_manifest_passes(pods):
    for pod in [pods.web, pods.php]:
        asked = [
            (manifest["name"], kind)
            for manifest in chart.containers(pod.template)
            for kind in ["startupProbe", "livenessProbe", "readinessProbe"]
            if kind in manifest
        ]
        assert asked
        for name, kind in asked:
            assert pod.passes(name, kind), (name, kind)


def test_promtool_takes_the_metrics(pods):
    metrics = pods.metrics()
    subprocess.run(["promtool", "check", "metrics"], input=metrics, text=True, check=True, timeout=30)
    served = float(re.search(r'(?m)^fcgimux_requests_total\{pool="default",outcome="ok"\} (\d+)', metrics)[1])
    assert served > 0
    assert f'endpoint="{pods.php.address}:9000"' in metrics


def test_the_pod_of_helm_test_succeeds(pods):
    manifest = next(one for one in chart.of_kind(pods.documents, "Pod"))
    pod = Pod("helm-test", manifest, pods.documents)
    try:
        pod.start("fcgimux")
        pod.wait_for_startup("fcgimux")
        pod.start("call")
        code = podman("wait", pod.container("call"))
        assert code == "0", pod.log("call")
        assert "through fcgimux" in pod.log("call")
    finally:
        pod.remove()

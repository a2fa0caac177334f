"""The sidecar starts before nginx and ends after it, so that nginx never answers 502 for want of it.

What starts and ends them is this test in kubelet's place, by what the rendered manifest says: path, port and period of the startup
probe, preStop, grace period. So it proves that the probe passes only once nginx can connect, that nothing more than the
probe is needed, and that nobody loses a request when they end in this order. It does not prove that kubelet keeps to that
order: that is Kubernetes' word for restartable init containers (KEP-753), and podman 4.3 has none."""

import threading
import time

import pytest

from pod import podman, until
from visitors import Visitors, ask

# Of each kind of start.
ROUNDS = 4


@pytest.fixture(scope="module")
def pod(pods):
    pod = pods.new_web("web-order")
    yield pod
    pod.remove()


@pytest.fixture
def url(pod):
    yield f"http://{pod.address}:8080"
    # A test that failed leaves nothing to the next.
    podman("stop", "--time", "0", pod.container("nginx"), pod.container("fcgimux"))
    for path in sockets(pod):
        path.unlink()


def sockets(pod):
    return list(pod.volume("web-order-fcgimux-run").iterdir())


def cut_off(pod, signal):
    """Ends both without a word to nginx; `signal`: of the sidecar."""
    for name, one in [("nginx", "KILL"), ("fcgimux", signal)]:
        podman("kill", "--signal", one, pod.container(name))
        podman("wait", pod.container(name))


def assert_all_served(visitors):
    """From the first connection that nginx took."""
    first = min(visitors.answers, key=lambda one: (one.status is None, one.began))
    lost = [one for one in visitors.failed() if "ConnectionRefused" not in one.text or one.began > first.ended]
    assert lost == []
    visitors.assert_own_answers()


@pytest.mark.parametrize("kind", ["at once", "slow", "killed before"])
def test_nginx_that_starts_when_the_probe_passes_never_answers_502(pod, url, kind):
    for number in range(ROUNDS):
        if kind == "killed before":
            pod.start("fcgimux")
            pod.wait_for_startup("fcgimux")
            pod.kill("fcgimux")
        assert bool(sockets(pod)) == (kind == "killed before")
        pod.start("fcgimux", slowly=kind == "slow")
        failed = pod.wait_for_startup("fcgimux")
        assert failed or kind != "slow", "it was not slow: the round shows nothing"
        with Visitors(url) as visitors:
            pod.start("nginx")
            pod.hurry("fcgimux")
            visitors.wait_for(100)
        assert_all_served(visitors)
        print(f"round {number}: the probe failed {failed} times, then all of {len(visitors.answered())} were served")
        cut_off(pod, "TERM")


def test_nginx_that_does_not_wait_for_the_probe_answers_502(pod, url):
    """What the test before would have seen."""
    with Visitors(url) as visitors:
        pod.start("nginx")
        until("nginx answers", lambda: any(one.status for one in visitors.answers))
        pod.start("fcgimux", slowly=True)
        pod.wait_for_startup("fcgimux")
        up = time.monotonic()
        pod.hurry("fcgimux")
        visitors.wait_for(100)
    statuses = {one.status for one in visitors.failed()} - {None}
    assert statuses == {502}
    assert all(one.began < up for one in visitors.failed())
    with pytest.raises(AssertionError):
        assert_all_served(visitors)
    cut_off(pod, "TERM")


def test_what_runs_when_the_pod_ends_is_answered(pod, url):
    """nginx ends first, by preStop and its signal, while slow requests run; then the sidecar, by SIGTERM."""
    pod.start_all()
    slow = []
    askers = [
        threading.Thread(target=lambda token=f"slow-{number}": slow.append(ask(f"{url}/slow.php", "POST", token)))
        for number in range(6)
    ]
    with Visitors(url, how_many=2) as visitors:
        visitors.wait_for(50)
        for asker in askers:
            asker.start()
        ender = threading.Thread(target=lambda: codes.append(pod.end("nginx")))
        codes, began = [], time.monotonic()
        ender.start()
        # The rest of preStop goes by without new requests: the Service has taken the pod out.
        time.sleep(0.5)
    ender.join()
    ended = time.monotonic()
    assert visitors.failed() == []
    for asker in askers:
        asker.join()
    assert [one.status for one in slow] == [200] * len(askers)
    assert codes == [0]
    # It waited for them: they had begun before it was told, and it ended behind them.
    assert ended - began > 2.5
    assert pod.passes("fcgimux", "readinessProbe"), "the sidecar went before nginx"
    assert pod.end("fcgimux") == 0
    assert sockets(pod) == []


def test_a_sidecar_that_is_told_to_end_first_serves_on_until_nginx_is_quiet(pod, url):
    """As with `nativeSidecar: false`, where kubelet tells both at once."""
    pod.start_all()
    with Visitors(url) as visitors:
        visitors.wait_for(50)
        podman("kill", "--signal", "TERM", pod.container("fcgimux"))
        visitors.wait_for(400)
        assert not pod.passes("fcgimux", "readinessProbe")
    assert visitors.failed() == []
    assert podman("wait", pod.container("fcgimux")) == "0"
    assert pod.end("nginx") == 0

"""`helm upgrade` with another configuration: the ConfigMap changes in the running pod, and nothing restarts."""

import re
import time

import chart
from conftest import rendered
from pod import until
from visitors import Visitors, get

VOLUME = "web-1-web-fcgimux"


def put(pods, text):
    pods.web.put_config(VOLUME, {"fcgimux.yaml": text})


def note(pods):
    return get(f"{pods.url}/visit.php").text.split()[-1]


def loaded(pods):
    return re.search(r"(?m)^fcgimux_config_reload_success (\d)", pods.metrics())[1]


def test_a_changed_config_map_takes_effect_without_a_restart(pods):
    before, started = chart.configuration(pods.documents), pods.web.started_at("fcgimux")
    changed = chart.configuration(rendered(pool={"settings": {"params": {"set": {"NOTE": "changed"}}}}))
    assert note(pods) == "-"
    with Visitors(pods.url) as visitors:
        visitors.wait_for(50)
        put(pods, changed)
        swapped = time.monotonic()
        until("the new configuration is in force", lambda: note(pods) == "changed", timeout=15)
        print(f"in force {time.monotonic() - swapped:.1f} s behind the swap of the symlink")
        visitors.wait_for(100)
        put(pods, before)
        until("the old one is back", lambda: note(pods) == "-", timeout=15)
    assert visitors.failed() == []
    assert pods.web.started_at("fcgimux") == started


def test_a_config_map_that_is_wrong_changes_nothing_but_a_metric(pods):
    before, started = chart.configuration(pods.documents), pods.web.started_at("fcgimux")
    assert loaded(pods) == "1"
    with Visitors(pods.url) as visitors:
        put(pods, before.replace("pools:", "puddles:"))
        until("it is refused", lambda: loaded(pods) == "0", timeout=15)
        visitors.wait_for(50)
        put(pods, before)
        until("the right one is taken", lambda: loaded(pods) == "1", timeout=15)
    assert visitors.failed() == []
    assert "puddles" in pods.web.log("fcgimux")
    assert pods.web.started_at("fcgimux") == started

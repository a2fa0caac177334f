"""Upgrades from the chart that was released last (previous/, made anew at each release)."""

import functools
import json
import shutil

import pytest
import yaml

import chart
import previous
from combinations import COMBINATIONS
from test_render import CUSTOM, VERSIONS, complaint

CURE = "an upgrade would fail, or take down what runs: keep it, or say in CHANGELOG.md what to do, and run tests/chart/previous.py"


@functools.cache
def released():
    return yaml.safe_load(previous.FILE.read_text())


@pytest.mark.parametrize("name", previous.RENDERED)
def test_names_and_immutable_fields_stay(name):
    after = previous.fixed(chart.render(COMBINATIONS[name]))
    for thing, before in released()["rendered"][name].items():
        assert thing in after, f"{thing}: {CURE}"
        assert after[thing] == before, f"{thing}: {CURE}"


@functools.cache
def reused():
    """`helm upgrade --reuse-values`: all values that the release has, in place of those in the new chart's values.yaml."""
    folder = chart.workplace() / "reused"
    shutil.copytree(chart.chart(), folder)
    (folder / "values.yaml").write_text(yaml.safe_dump(released()["values"]))
    return str(folder)


@pytest.mark.parametrize("name", previous.RENDERED)
def test_the_values_of_the_last_release_render(name):
    documents = chart.render(COMBINATIONS[name], path=reused())
    for document in documents:
        assert document["kind"] in CUSTOM or complaint(json.dumps(document), VERSIONS[1]) is None, document["metadata"]["name"]
    assert previous.fixed(documents).items() >= released()["rendered"][name].items(), CURE


def test_another_selector_would_be_seen():
    before = chart.render({})
    after = json.loads(json.dumps(before).replace('"app.kubernetes.io/component": "web"', '"app.kubernetes.io/component": "nginx"'))
    assert previous.fixed(before) != previous.fixed(after)
    kept = released()
    assert kept["version"] and kept["values"]["fcgimux"]["image"] and kept["values"]["nginx"]["image"]
    assert "selector" in str(kept["rendered"]["the defaults"])

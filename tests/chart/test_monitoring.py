"""The monitoring objects are made of the files of deploy/monitoring."""

import json
import shutil

import pytest
import yaml

import chart

SOURCE = chart.REPOSITORY / "deploy" / "monitoring"
FILES = chart.CHARTS / "fcgimux" / "files"
COPIED = ["rules.yaml", "alerts.yaml", "dashboards/*.json"]


def enabled(**rule):
    return {"metrics": {"prometheusRule": {"enabled": True, **rule}, "dashboards": {"enabled": True}}}


def groups(values):
    return chart.the(chart.render(values), "PrometheusRule")["spec"]["groups"]


def alerts(values):
    return {rule["alert"]: rule for group in groups(values) for rule in group["rules"] if "alert" in rule}


def originals():
    return {rule["alert"]: rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]}


@pytest.mark.skipif(not SOURCE.exists(), reason="there is no deploy/monitoring")
def test_the_chart_carries_the_files_of_deploy():
    """A package holds no links to what is outside, so they are copies. Make them anew: see the assertion."""
    def texts(folder):
        return {str(path.relative_to(folder)): path.read_text() for pattern in COPIED for path in folder.glob(pattern)}

    assert texts(SOURCE), "nothing there"
    again = "cp deploy/monitoring/{rules,alerts}.yaml helm/fcgimux/files/; cp deploy/monitoring/dashboards/*.json helm/fcgimux/files/dashboards/"
    assert texts(FILES) == texts(SOURCE), again


def test_rules_and_alerts_come_unchanged():
    wanted = [yaml.safe_load((FILES / name).read_text())["groups"] for name in ["rules.yaml", "alerts.yaml"]]
    assert groups(enabled()) == wanted[0] + wanted[1]
    assert len(originals()) >= 12


def test_an_alert_is_left_out_by_its_name():
    assert set(originals()) - set(alerts(enabled(disabled=["QueueFull"]))) == {"QueueFull"}
    assert "there is no alert Typo" in chart.refusal(enabled(disabled=["Typo"]))


def test_the_limit_of_an_alert_can_be_another():
    changed = alerts(enabled(thresholds={"QueueWaitHigh": 2.5}))
    for name, rule in originals().items():
        expected = rule["expr"].replace("> 0.5", "> 2.5") if name == "QueueWaitHigh" else rule["expr"]
        assert changed[name]["expr"] == expected
    assert originals()["QueueWaitHigh"]["expr"] != changed["QueueWaitHigh"]["expr"]
    assert "there is no alert Typo" in chart.refusal(enabled(thresholds={"Typo": 1}))
    assert "compares with no limit" in chart.refusal(enabled(thresholds={"ConfigReloadFailed": 1}))


@pytest.mark.parametrize("values", [enabled(), enabled(thresholds={"QueueWaitHigh": 2, "EndpointFlapping": 5})], ids=["as they are", "other limits"])
def test_promtool_takes_the_rules(values, tmp_path):
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups(values)}))
    chart.run("promtool", "check", "rules", file)


def test_dashboards_come_unchanged_and_are_found_by_grafana():
    maps = {}
    for one in chart.of_kind(chart.render(enabled()), "ConfigMap"):
        if one["metadata"]["labels"].get("grafana_dashboard") == "1":
            assert one["metadata"]["annotations"]["grafana_folder"] == "fcgimux"
            maps |= one["data"]
    wanted = {f"fcgimux-{path.name}": json.loads(path.read_text()) for path in (FILES / "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in maps.items()} == wanted
    assert len(wanted) >= 4
    assert all("__inputs" not in dashboard for dashboard in wanted.values())


def test_scaling_asks_for_a_metric_that_there_is_and_leaves_the_number_of_pods_alone():
    documents = chart.render({"autoscaling": {"keda": {"enabled": True}}})
    scaled = chart.the(documents, "ScaledObject")["spec"]
    target = chart.the(documents, "Deployment", scaled["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]
    trigger, = scaled["triggers"]
    assert (trigger["type"], trigger["metricType"], trigger["metadata"]["threshold"]) == ("prometheus", "Value", "0.05")
    query = trigger["metadata"]["query"]
    assert 'namespace="shop",pool="default"' in query
    assert "queue_wait_seconds" in query and "queue_wait_seconds" in chart.source("metrics/definition.rs")
    assert scaled["minReplicaCount"] <= scaled["maxReplicaCount"]

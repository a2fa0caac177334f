"""The library in somebody else's chart: its README, followed to the letter from an empty folder."""

import functools
import pathlib
import re
import tempfile
import textwrap

import yaml

import chart
from test_render import VERSIONS, assert_whole, complaint
import json


def blocks():
    """The files that the README says to make, by name."""
    text = (chart.CHARTS / "fcgimux-lib" / "README.md").read_text()
    found = re.findall(r"(?ms)^   ```yaml\n(.*?)^   ```$", text)
    files = {}
    for block in map(textwrap.dedent, found):
        name, content = re.fullmatch(r"(?s)# (\S+)\n(.*)", block).groups()
        files[name] = content
    return files


@functools.cache
def shop():
    """A chart of nothing but what the README says."""
    files = blocks()
    assert set(files) == {"Chart.yaml", "values.yaml", "templates/fcgimux.yaml", "templates/deployment.yaml", "templates/site.yaml"}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fcgimux-shop-", dir=chart.workplace())) / "shop"
    (folder / "templates").mkdir(parents=True)
    files["Chart.yaml"] = "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: '9'\n" + files["Chart.yaml"].replace(
        "file://../fcgimux-lib", f"file://{chart.workplace() / 'fcgimux-lib'}"
    )
    for name, content in files.items():
        (folder / name).write_text(content)
    chart.run("helm", "dependency", "update", folder)
    chart.run("helm", "lint", "--strict", folder)
    return str(folder)


def test_five_steps_from_an_empty_chart_give_a_whole_one():
    documents = chart.render({}, path=shop())
    for document in documents:
        for version in VERSIONS:
            assert complaint(json.dumps(document), version) is None, document["metadata"]["name"]
    pod, = chart.pods(documents)
    assert_whole(pod, documents)
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["fcgimux"]
    assert pod["spec"]["serviceAccountName"] in {one["metadata"]["name"] for one in chart.of_kind(documents, "ServiceAccount")}
    listener, = yaml.safe_load(chart.configuration(documents))["listeners"]
    site = chart.the(documents, "ConfigMap", "web-site")["data"]["default.conf"]
    assert f"fastcgi_pass unix:{listener['socket']};" in site
    endpoint, = yaml.safe_load(chart.configuration(documents))["pools"]["default"]["endpoints"]
    assert endpoint == {"dns": "php.shop.svc.cluster.local.:9000"}


def test_the_sidecar_is_the_one_of_the_application_chart():
    """Also in its image's tag, which is not the version of the chart around it."""
    theirs = next(chart.pods(chart.render({}, path=shop())))
    image = yaml.safe_load(blocks()["values.yaml"])["fcgimux"]["image"]
    ours = chart.the(chart.render({"fcgimux": {"image": image}}), "Deployment", "web-fcgimux")["spec"]["template"]
    assert chart.container(theirs, "fcgimux") == chart.container(ours, "fcgimux")


def test_it_is_an_ordinary_container_where_native_sidecars_are_not_known():
    pod, = chart.pods(chart.render({"fcgimux": {"nativeSidecar": False}}, path=shop()))
    assert not pod["spec"]["initContainers"]
    assert [one["name"] for one in pod["spec"]["containers"]] == ["nginx", "fcgimux"]
    assert "restartPolicy" not in chart.container(pod, "fcgimux")


def test_endpoint_slices_bring_the_right_and_the_token():
    values = {"fcgimux": {"upstream": {"discovery": "endpointslice"}}}
    documents = chart.render(values, path=shop())
    assert_whole(next(chart.pods(documents)), documents)
    assert chart.the(documents, "Role")["metadata"]["namespace"] == "shop"


def test_it_works_without_the_alias(tmp_path):
    folder = tmp_path / "plain"
    (folder / "templates").mkdir(parents=True)
    dependency = f"dependencies: [{{name: fcgimux-lib, version: 0.1.0, repository: 'file://{chart.workplace() / 'fcgimux-lib'}'}}]\n"
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: plain\nversion: 1.0.0\n" + dependency)
    (folder / "values.yaml").write_text("fcgimux-lib: {upstream: {service: php}}\n")
    (folder / "templates" / "all.yaml").write_text('{{ include "fcgimux.objects" . }}\n')
    chart.run("helm", "dependency", "update", folder)
    assert "php.shop.svc" in chart.configuration(chart.render({}, path=str(folder)))

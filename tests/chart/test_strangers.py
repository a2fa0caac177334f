"""The library in charts of the shapes that people have: what `helm create` makes, one with all of its own, one below another, one
with two pods."""

import functools
import json
import pathlib
import tempfile

import pytest
import yaml

import chart
from test_library import blocks
from test_render import VERSIONS, assert_whole, complaint

DEPENDENCY = "{name: fcgimux-lib, alias: ALIAS, version: 0.1.0, repository: 'file://LIBRARY'}"


def dependency(alias="fcgimux"):
    return DEPENDENCY.replace("ALIAS", alias).replace("LIBRARY", str(chart.workplace() / "fcgimux-lib"))


def folder_of(name):
    return pathlib.Path(tempfile.mkdtemp(prefix="fcgimux-shop-", dir=chart.workplace())) / name


def laid(name, dependencies, files, folder=None):
    """A chart of these files."""
    folder = folder or folder_of(name)
    files = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.0.0\ndependencies: [{', '.join(dependencies)}]\n", **files}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    chart.run("helm", "dependency", "update", folder)
    return str(folder)


def written(name, dependencies, files, folder=None):
    path = laid(name, dependencies, files, folder)
    chart.run("helm", "lint", "--strict", path)
    return path


# What the README says of a chart that has lines like these already.
CHANGES = [
    (
        """
      {{- with .Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
""",
        """
      annotations:
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "fcgimux.podAnnotations" . | nindent 8 }}
""",
    ),
    (
        """
        {{- include "shop.labels" . | nindent 8 }}
""",
        """
        {{- include "shop.labels" . | nindent 8 }}
        {{- include "fcgimux.podLabels" . | nindent 8 }}
""",
    ),
    (
        """
      containers:
""",
        """
      terminationGracePeriodSeconds: {{ include "fcgimux.terminationGracePeriodSeconds" . }}
      initContainers:
        {{- include "fcgimux.initContainers" . | nindent 8 }}
      containers:
""",
    ),
    (
        """
          {{- with .Values.volumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .Values.volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
""",
        """
          volumeMounts:
            {{- with .Values.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- include "fcgimux.volumeMount" . | nindent 12 }}
        {{- include "fcgimux.containers" . | nindent 8 }}
      volumes:
        {{- with .Values.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "fcgimux.volumes" . | nindent 8 }}
""",
    ),
]
VALUES = """
fcgimux:
  webContainer: "{{ .Chart.Name }}"
  upstream: {service: php}
  socket: {mode: "0666"}
  serviceAccount: {create: false, name: '{{ include "shop.serviceAccountName" . }}'}
"""


def created():
    """What `helm create` makes, changed where the README says."""
    folder = folder_of("shop")
    chart.run("helm", "create", folder)
    deployment = (folder / "templates/deployment.yaml").read_text()
    for before, after in CHANGES:
        assert before in deployment, "helm create makes another chart than it did"
        deployment = deployment.replace(before, after)
    files = {
        "Chart.yaml": (folder / "Chart.yaml").read_text() + f"dependencies: [{dependency()}]\n",
        "values.yaml": (folder / "values.yaml").read_text() + VALUES,
        "templates/deployment.yaml": deployment,
        "templates/fcgimux.yaml": blocks()["templates/fcgimux.yaml"],
    }
    return written("shop", [], files, folder)


OWN = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-own"}
spec:
  selector: {matchLabels: {app: own}}
  template:
    metadata:
      labels:
        app: own
        {{- include "fcgimux.podLabels" . | nindent 8 }}
      annotations:
        own/annotation: "yes"
        {{- include "fcgimux.podAnnotations" . | nindent 8 }}
    spec:
      serviceAccountName: own
      imagePullSecrets: [{name: "{{ index .Values.global.secrets 0 }}"}]
      terminationGracePeriodSeconds: {{ include "fcgimux.terminationGracePeriodSeconds" . }}
      initContainers:
        {{- include "fcgimux.initContainers" . | nindent 8 }}
        - name: prepare
          image: busybox
          volumeMounts: [{name: data, mountPath: /data}]
      containers:
        {{- with .Values.web }}
        - name: {{ .name }}
          image: {{ .image }}
          volumeMounts:
            - {name: data, mountPath: /data}
            {{- include "fcgimux.volumeMount" $ | nindent 12 }}
        {{- end }}
        - {name: logs, image: busybox, volumeMounts: [{name: data, mountPath: /data}]}
        {{- include "fcgimux.containers" . | nindent 8 }}
      volumes:
        - {name: data, emptyDir: {}}
        {{- include "fcgimux.volumes" . | nindent 8 }}
"""
OWN_FILES = {
    "values.yaml": """
global: {secrets: [regcred], imageRegistry: {host: of another chart}, imagePullSecrets: of another chart}
web: {name: front, image: nginx}
fcgimux:
  webContainer: front
  upstream: {service: backend/php, discovery: endpointslice}
  serviceAccount: {create: false, name: own}
""",
    "templates/web.yaml": OWN,
    "templates/fcgimux.yaml": '{{ include "fcgimux.objects" . }}\n',
}


def own():
    """With init containers, volumes, a service account, and keys of `global` that mean something else."""
    return written("own", [dependency()], OWN_FILES)


def umbrella():
    """The chart above, below another."""
    child = "{name: own, version: 1.0.0, repository: 'file://" + own() + "'}"
    return written("umbrella", [child], {"values.yaml": "own: {fcgimux: {queue: {depth: 7}}}\n"})


ADMIN = """
admin:
  fullnameOverride: admin
  webContainer: front
  upstream: {addresses: ["{{ .Release.Name }}-php:9000"]}
  serviceAccount: {create: false}
"""


def two():
    """Two pods with sidecars, by two aliases."""
    head = '{{- $admin := set (omit . "Values") "Values" (set (omit .Values "fcgimux") "fcgimux" .Values.admin) }}\n'
    assert head.strip() in (chart.CHARTS / "fcgimux-lib/README.md").read_text()
    other = OWN.replace("own", "admin").replace('fcgimux" .', 'fcgimux" $admin')
    for name in ["podLabels", "podAnnotations", "initContainers", "containers", "volumes", "terminationGracePeriodSeconds"]:
        other = other.replace(f'"fcgimux.{name}" .', f'"fcgimux.{name}" $admin')
    files = {
        **OWN_FILES,
        "values.yaml": OWN_FILES["values.yaml"] + ADMIN,
        "templates/admin.yaml": head + other.replace('"fcgimux.volumeMount" $', '"fcgimux.volumeMount" $admin'),
        "templates/admin-fcgimux.yaml": head + '{{ include "fcgimux.objects" $admin }}\n',
    }
    return written("two", [dependency(), dependency("admin")], files)


SHAPES = {"created": created, "own": own, "umbrella": umbrella, "two": two}
shapes = pytest.mark.parametrize("shape", SHAPES)


@functools.cache
def rendered(shape):
    return chart.render({}, path=SHAPES[shape]())


@shapes
def test_the_pods_are_valid_and_whole(shape):
    documents = rendered(shape)
    for document in documents:
        for version in VERSIONS:
            assert complaint(json.dumps(document), version) is None, document["metadata"]["name"]
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)
    pods = [pod for pod in chart.pods(documents) if "fcgimux" in str(pod["spec"].get("initContainers"))]
    assert len(pods) == (2 if shape == "two" else 1)
    for pod in pods:
        assert_whole(pod, documents)
        assert pod["spec"]["initContainers"][0]["name"] == "fcgimux"
        web = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
        mounts = [mount["mountPath"] for mount in chart.container(pod, web)["volumeMounts"]]
        assert "/run/fcgimux" in mounts
        assert "imagePullSecrets" not in pod["spec"] or pod["spec"]["imagePullSecrets"] == [{"name": "regcred"}]
        assert chart.container(pod, "fcgimux")["image"] == chart.container(library_pod(), "fcgimux")["image"]


def library_pod():
    return chart.the(chart.render({}), "Deployment", "web-fcgimux")["spec"]["template"]


@shapes
def test_the_binary_takes_each_configuration(shape, tmp_path):
    if chart.binary() is None:
        pytest.skip("no fcgimux was built")
    texts = [one["data"]["fcgimux.yaml"] for one in chart.of_kind(rendered(shape), "ConfigMap")]
    assert len(texts) == (2 if shape == "two" else 1)
    for text in texts:
        (tmp_path / "fcgimux.yaml").write_text(text)
        chart.run(chart.binary(), "check", tmp_path / "fcgimux.yaml")


def test_each_of_two_sidecars_has_its_own():
    documents = rendered("two")
    maps = chart.of_kind(documents, "ConfigMap")
    pools = {one["metadata"]["name"]: yaml.safe_load(one["data"]["fcgimux.yaml"])["pools"]["default"] for one in maps}
    assert pools["admin"]["endpoints"] == [{"dns": "web-php:9000"}]
    assert pools["web-fcgimux"]["endpoints"] == [{"service": "backend/php", "port": 9000}]


def test_a_service_account_of_one_s_own_gets_the_right_where_php_is():
    binding = chart.the(rendered("own"), "RoleBinding")
    # In a namespace of others the name says whose it is.
    assert (binding["metadata"]["namespace"], binding["metadata"]["name"]) == ("backend", "shop-web-fcgimux-endpoints")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "own", "namespace": "shop"}]


def test_values_reach_the_library_through_the_chart_above():
    assert "depth: 7" in chart.configuration(rendered("umbrella"))


ALL = '{{ include "fcgimux.objects" . }}\n'


@pytest.mark.parametrize(
    "values, template, alias, says",
    [
        ("fcgimux: {upstream: {service: php}, sockett: {mode: '0666'}}", ALL, True, "sockett"),
        ("fcgimux: {}", ALL, True, "nowhere to send requests"),
        ("x: {Values: {}}", f"{{{{ with .Values.x }}}}{ALL}{{{{ end }}}}", True, "the chart's own context"),
        ("fcgimux: {upstream: {service: php}}", ALL, False, "alias: fcgimux"),
    ],
    ids=["a key misspelt", "no upstream", "within `with`", "no alias"],
)
def test_what_a_beginner_gets_wrong_is_said(values, template, alias, says):
    which = dependency() if alias else dependency().replace("alias: fcgimux, ", "")
    path = laid("mine", [which], {"values.yaml": values, "templates/all.yaml": template})
    assert says in chart.refusal({}, path=path)

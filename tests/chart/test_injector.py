"""The injector's expressions, evaluated and applied to pods.

The expressions are evaluated by cel-python, whose types are not checked beforehand as an API server does; the patches are
applied as RFC 6902 and as a merge by the keys of the lists concerned; an error of one mutation does not keep an API server from
the next, and so here. What only an API server can prove: that it takes the policy (its types, its limits of cost), that its own
defaults and checks of a pod take the result, which pods the binding finds, and the order among other policies and webhooks.
"""

import copy
import json
import re

import celpy
import celpy.adapter
import pytest

import chart
from test_render import VERSIONS, assert_restricted, assert_whole, complaint

UPSTREAM = "php.shop.svc.cluster.local:9000"


def policy(values=None):
    documents = chart.render({**(values or {}), "injector": {"enabled": True, **(values or {}).get("injector", {})}})
    binding = chart.the(documents, "MutatingAdmissionPolicyBinding")
    found = chart.the(documents, "MutatingAdmissionPolicy")
    assert binding["spec"]["policyName"] == found["metadata"]["name"]
    return found["spec"]


class Message(dict):
    """What `JSONPatch{...}` and `Object{...}` make."""

    def __init__(self, fields=None):
        super().__init__(fields or {})


def evaluate(expression, pod, variables):
    # The types below Object are one here.
    expression = re.sub(r"\bObject(\.\w+)+\{", "Object{", expression)
    environment = celpy.Environment(annotations={"JSONPatch": Message, "Object": Message})
    activation = {"object": celpy.json_to_cel(pod), "variables": celpy.json_to_cel(variables)}
    return plain(environment.program(environment.compile(expression)).evaluate(activation))


def plain(value):
    """What CEL gives, as JSON. cel-python keeps an error within a list or a map as a value of it."""
    if isinstance(value, celpy.CELEvalError):
        raise value
    if isinstance(value, dict):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list):
        return [plain(below) for below in value]
    if isinstance(value, celpy.celtypes.BoolType):
        return bool(value)
    return int(value) if isinstance(value, int) else str(value)


def patched(pod, patches):
    """RFC 6902, `add` alone, which is all that there is."""
    for patch in patches:
        assert patch["op"] == "add"
        *steps, last = [step.replace("~1", "/").replace("~0", "~") for step in patch["path"].split("/")[1:]]
        node = pod
        for step in steps:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if isinstance(node, dict):
            node[last] = patch["value"]
        else:
            node.insert(len(node) if last == "-" else int(last), patch["value"])
    return pod


def merged(pod, configuration):
    """What is applied: containers by their name, mounts by their path."""
    for container in configuration.get("spec", {}).get("containers", []):
        there = next(one for one in pod["spec"]["containers"] if one["name"] == container["name"])
        mounts = there.setdefault("volumeMounts", [])
        for mount in container["volumeMounts"]:
            same = next((one for one in mounts if one["mountPath"] == mount["mountPath"]), None)
            same.update(mount) if same else mounts.append(mount)
    return pod


def evaluated(variables, pod):
    """The policy's variables, and the errors of those that have none. An API server evaluates each where it is asked for."""
    values, errors = {}, []
    for variable in variables:
        try:
            values[variable["name"]] = evaluate(variable["expression"], pod, values)
        except celpy.CELEvalError as error:
            errors.append(str(error))
    return values, errors


def admit(pod, values=None):
    """The pod as it leaves the policy, or None if that does not concern it, and the errors of its mutations."""
    spec, pod, errors = policy(values), copy.deepcopy(pod), []
    if not all(evaluate(condition["expression"], pod, {}) for condition in spec["matchConditions"]):
        return None, errors
    for mutation in spec["mutations"]:
        variables, missing = evaluated(spec["variables"], pod)
        try:
            if mutation["patchType"] == "JSONPatch":
                pod = patched(pod, evaluate(mutation["jsonPatch"]["expression"], pod, variables))
            else:
                pod = merged(pod, evaluate(mutation["applyConfiguration"]["expression"], pod, variables))
        except celpy.CELEvalError as error:
            errors.append(" ".join([*missing, str(error)]))
    return pod, errors


def inject(pod, values=None):
    pod, errors = admit(pod, values)
    assert not errors
    return pod


def pod(annotations=None, **spec):
    asked = {"fcgimux.dev/inject": "enabled", "fcgimux.dev/upstream": UPSTREAM}
    metadata = {"name": "shop", "annotations": asked if annotations is None else annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "nginx", "image": "nginx"}], **spec}}


OWN = {"name": "prepare", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
DATA = {"name": "data", "emptyDir": {}}
MOUNTED = {"name": "nginx", "image": "nginx", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
TWO = [{"name": "logs", "image": "busybox"}, {"name": "web", "image": "nginx"}]
ASKED = {"fcgimux.dev/inject": "enabled"}
SOCKETS = {"name": "fcgimux-run", "emptyDir": {"sizeLimit": "5Mi"}}
MOUNT = {"name": "fcgimux-run", "mountPath": "/run/fcgimux", "readOnly": True}

SAMPLES = {
    "a bare pod": pod(),
    "a pod with labels": {**pod(), "metadata": {**pod()["metadata"], "labels": {"app": "shop"}}},
    "a pod with init containers": pod(initContainers=[OWN], volumes=[DATA]),
    "a pod with volumes": pod(containers=[MOUNTED], volumes=[DATA]),
    "a pod with several containers": pod({**ASKED, "fcgimux.dev/upstream": UPSTREAM, "fcgimux.dev/container": "web"}, containers=TWO),
    "a pod with a default container": pod(
        {**ASKED, "fcgimux.dev/upstream": UPSTREAM, "kubectl.kubernetes.io/default-container": "logs", "fcgimux.dev/container": "web"}, containers=TWO
    ),
    "a pod with a socket for its group": pod({**ASKED, "fcgimux.dev/upstream": UPSTREAM, "fcgimux.dev/socket-mode": "0660"}),
    "a pod with a whole configuration": pod({**ASKED, "fcgimux.dev/config": "my-config"}),
    "a pod on the host's network": pod(hostNetwork=True),
    "a pod with the socket's volume": pod(volumes=[SOCKETS]),
    "a pod that mounts the socket's volume": pod(containers=[{**MOUNTED, "volumeMounts": [MOUNT]}], volumes=[SOCKETS]),
}
samples = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())


def library(values=None):
    return chart.container(chart.the(chart.render(values or {}), "Deployment", "web-fcgimux")["spec"]["template"], "fcgimux")


@samples
def test_the_container_is_the_library_s_own(sample):
    injected = inject(sample)["spec"]["initContainers"][0]
    own = library()
    if "fcgimux.dev/config" in sample["metadata"]["annotations"]:
        assert injected == own
        return
    without = [{key: value for key, value in one.items() if key not in {"args", "volumeMounts"}} for one in (injected, own)]
    assert without[0] == without[1]
    assert injected["volumeMounts"] == [mount for mount in own["volumeMounts"] if mount["name"] != "fcgimux-config"]


def test_it_stays_the_library_s_own_whatever_the_values():
    values = {"fcgimux": {
        "resources": {"limits": {"memory": "1Gi"}}, "extraEnv": [{"name": "A", "value": "\"<&'"}],
        "metrics": {"port": 9999}, "listen": {"path": "/run/x/y.sock"}, "probes": {"liveness": None}, "tmpVolume": {"medium": "Memory"},
    }}
    changed = inject(SAMPLES["a pod with a whole configuration"], values)
    assert changed["spec"]["initContainers"][0] == library(values)
    volumes = chart.the(chart.render(values), "Deployment", "web-fcgimux")["spec"]["template"]["spec"]["volumes"]
    assert changed["spec"]["volumes"][:2] == volumes[:2]


def test_the_injector_can_have_an_image_of_its_own():
    image = {"injector": {"image": {"repository": "registry.example/fcgimux", "tag": "edge"}}}
    assert inject(pod(), image)["spec"]["initContainers"][0]["image"] == "registry.example/fcgimux:edge"
    by_digest = {"fcgimux": {"image": {"digest": "sha256:" + "0" * 64}}}
    assert inject(pod(), by_digest)["spec"]["initContainers"][0]["image"].endswith("@sha256:" + "0" * 64)


@samples
def test_the_pod_is_valid_and_nothing_of_its_own_is_lost(sample):
    injected = inject(sample)
    for version in VERSIONS:
        assert complaint(json.dumps(injected), version) is None
    names = [one["name"] for one in injected["spec"]["initContainers"]]
    assert names == ["fcgimux"] + [one["name"] for one in sample["spec"].get("initContainers", [])]
    assert injected["spec"]["initContainers"][1:] == sample["spec"].get("initContainers", [])
    for volume in sample["spec"].get("volumes", []):
        assert volume in injected["spec"]["volumes"]
    chosen = sample["metadata"]["annotations"].get("fcgimux.dev/container", sample["spec"]["containers"][0]["name"])
    for before, after in zip(sample["spec"]["containers"], injected["spec"]["containers"], strict=True):
        own = before.get("volumeMounts", [])
        assert after.get("volumeMounts", []) == own + [MOUNT] * (before["name"] == chosen and MOUNT not in own)
        assert {**after, "volumeMounts": None} == {**before, "volumeMounts": None}
    default = injected["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
    assert default == sample["metadata"]["annotations"].get("kubectl.kubernetes.io/default-container", chosen)
    labels = injected["metadata"]["labels"]
    assert labels["fcgimux.dev/injected"] == labels["fcgimux.dev/sidecar"] == "true"
    assert sample["metadata"].get("labels", {}).items() <= labels.items()
    maps = [{"kind": "ConfigMap", "metadata": {"name": "my-config"}}]
    assert_whole(injected, maps)


def test_the_container_keeps_a_restricted_pod_restricted():
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    assert_restricted(inject(pod(securityContext=context, containers=[{"name": "nginx", "image": "nginx", "securityContext": own}])))


def test_the_annotations_reach_the_command_line():
    def args(name):
        return inject(SAMPLES[name])["spec"]["initContainers"][0]["args"]

    bare = args("a bare pod")
    assert bare[bare.index("--upstream") + 1] == UPSTREAM
    assert bare[bare.index("--socket-mode") + 1] == "0666"
    assert bare[bare.index("--admin") + 1].endswith(f":{library()['ports'][0]['containerPort']}")
    group = args("a pod with a socket for its group")
    assert group[group.index("--socket-mode") + 1] == "0660"
    if chart.binary() is None:
        pytest.skip("no fcgimux was built")
    known = chart.run(chart.binary(), "--help").stdout
    assert all(f"{flag} <" in known for flag in bare[::2])


@pytest.mark.parametrize(
    "sample",
    [
        pod({}),
        pod({"fcgimux.dev/inject": "disabled", "fcgimux.dev/upstream": UPSTREAM}),
        {**pod(), "metadata": {"name": "shop"}},
        pod(initContainers=[{"name": "fcgimux", "image": "x"}]),
        pod(containers=[*TWO, {"name": "fcgimux", "image": "x"}]),
    ],
    ids=["not asked", "refused", "no annotations", "there already", "there already, without native sidecars"],
)
def test_other_pods_are_left_alone(sample):
    assert inject(sample) is None


def test_injecting_twice_is_injecting_once():
    assert inject(inject(pod())) is None


@pytest.mark.parametrize(
    "annotations, says",
    [
        (ASKED, "fcgimux.dev/upstream is missing"),
        ({**ASKED, "fcgimux.dev/upstream": UPSTREAM, "fcgimux.dev/container": "ngnix"}, "the pod has no container ngnix"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_so_and_changes_nothing(annotations, says):
    """With failurePolicy Ignore the pod starts as it came."""
    sample = pod(annotations)
    left, errors = admit(sample)
    assert len(errors) == 1 and says in errors[0]
    assert left == sample
    assert policy()["failurePolicy"] == "Fail"


def test_in_a_pod_of_root_the_sidecar_has_a_user_of_its_own():
    """Its container must not run as root, and would not be started."""
    of_root = pod(securityContext={"runAsUser": 0})
    own = library()["securityContext"]
    user = inject(of_root)["spec"]["initContainers"][0]["securityContext"]
    assert user == {**own, "runAsUser": 65532} and own["runAsNonRoot"]
    assert "USER 65532:" in (chart.REPOSITORY / "deploy" / "Dockerfile").read_text()
    assert "runAsUser" not in inject(pod(securityContext={"runAsUser": 33}))["spec"]["initContainers"][0]["securityContext"]
    chosen = {"fcgimux": {"securityContext": {"runAsUser": 7}}}
    assert inject(of_root, chosen)["spec"]["initContainers"][0]["securityContext"]["runAsUser"] == 7


def test_what_a_container_mounts_in_the_socket_s_folder_gives_way():
    other = pod(containers=[{**MOUNTED, "volumeMounts": [{"name": "data", "mountPath": "/run/fcgimux"}]}], volumes=[DATA])
    assert inject(other)["spec"]["containers"][0]["volumeMounts"] == [MOUNT]


def test_arguments_for_pods_without_a_file_of_their_own():
    """Beside a file the program takes no flags."""
    values = {"injector": {"extraArgs": ["--per-endpoint", "4"]}}
    assert inject(pod(), values)["spec"]["initContainers"][0]["args"][-2:] == ["--per-endpoint", "4"]
    assert inject(SAMPLES["a pod with a whole configuration"], values)["spec"]["initContainers"][0] == library()

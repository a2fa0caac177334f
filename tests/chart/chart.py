"""The charts as helm renders them, and the binary and its source, from which paths and ports are read."""

import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHARTS = REPOSITORY / "helm"


class Loader(yaml.CSafeLoader):
    """Takes no key twice, as Helm does not."""


def mapping(loader, node):
    keys = [key.value for key, _ in node.value]
    assert len(set(keys)) == len(keys), f"twice: {keys}{node.start_mark}"
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@functools.cache
def workplace():
    """A copy of both charts with the library in place, so that the folders of the repository stay as they are."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fcgimux-charts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ["fcgimux", "fcgimux-lib"]:
        shutil.copytree(CHARTS / name, folder / name, ignore=shutil.ignore_patterns("charts"))
    run("helm", "dependency", "build", folder / "fcgimux")
    return folder


def chart():
    return workplace() / "fcgimux"


def template(values, *options, path=None, release="web", check=True):
    """What `helm template` says."""
    command = ["helm", "template", release, path or chart(), "--namespace", "shop", "--values", "-", *options]
    return run(*command, input=yaml.safe_dump(values), check=check)


def render(values, *options, path=None, release="web"):
    return rendered(json.dumps(values), options, path, release)


@functools.cache
def rendered(values, options, path, release):
    text = template(json.loads(values), *options, path=path, release=release).stdout
    return [document for document in yaml.load_all(text, Loader) if document]


def refusal(values, *options, **where):
    """What helm says against these values."""
    done = template(values, *options, check=False, **where)
    assert done.returncode != 0, "helm took these values"
    return done.stderr


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def the(documents, kind, name=None):
    found = [document for document in of_kind(documents, kind) if name in (None, document["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def pods(documents):
    """Every pod that is described, as metadata and spec."""
    for document in documents:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]
        elif document["kind"] == "Pod":
            yield document


def containers(pod):
    return (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]


def container(pod, name):
    return next(one for one in containers(pod) if one["name"] == name)


def configuration(documents):
    """fcgimux.yaml of the sidecar, as text."""
    found = [document["data"]["fcgimux.yaml"] for document in of_kind(documents, "ConfigMap") if "fcgimux.yaml" in document["data"]]
    assert len(found) == 1
    return found[0]


@functools.cache
def binary():
    """The newest fcgimux that was built here, or None."""
    target = pathlib.Path(os.environ.get("FCGIMUX_TARGET", REPOSITORY / "target"))
    found = [target / kind / "fcgimux" for kind in ["debug", "release"]]
    found = [path for path in [pathlib.Path(os.environ.get("FCGIMUX", "/nowhere")), *found] if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


@functools.cache
def source(path):
    return (REPOSITORY / "src" / path).read_text()


@functools.cache
def admin_paths():
    """Of the admin server, each path by the name of its route."""
    return {route: path for path, route in re.findall(r'"(/\w+)" => Some\(Self::(\w+)\)', source("admin/route.rs"))}


@functools.cache
def keys():
    """Every key of fcgimux.yaml."""
    found = re.findall(r'key(?:_without_default)?\(\s*"([^"]+)"', source("config/defaults.rs"))
    assert "pools.*.queue.depth" in found
    return found


def keys_under(prefix):
    return {re.split(r"[.\[]", key[len(prefix):])[0] for key in keys() if key.startswith(prefix)}

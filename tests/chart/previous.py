"""What an upgrade must leave as it is: the values of the last released chart, and of what it rendered the names and the fields that
Kubernetes lets nobody change. Run as a program (with helm in the path) it writes the file anew: at each release, when its tests
have passed, and at no other time."""

import pathlib

import yaml

import chart
from combinations import COMBINATIONS

FILE = pathlib.Path(__file__).parent / "previous" / "fcgimux.yaml"
HEAD = "# Made by tests/chart/previous.py at a release: what the charts of that version were, for those who upgrade from it.\n"
RENDERED = ["the defaults", "another name", "endpoint slices of another namespace", "everything"]
# Of a Service its selector as well: another one loses the pods that run.
FIXED = {
    "Deployment": ["selector"],
    "StatefulSet": ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"],
    "DaemonSet": ["selector"],
    "Service": ["clusterIP", "selector"],
    "PersistentVolumeClaim": ["accessModes", "storageClassName"],
}


def laid_over(below, above):
    """Values as Helm merges them."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}


def values():
    """All values as a release keeps them: those of the library below the alias, and over them the application's."""
    library, application = (yaml.safe_load((chart.CHARTS / name / "values.yaml").read_text()) for name in ["fcgimux-lib", "fcgimux"])
    return laid_over({"fcgimux": library}, application)


def fixed(documents):
    found = {}
    for document in documents:
        metadata, spec = document["metadata"], document.get("spec", {})
        name = f"{document['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
        found[name] = {key: spec.get(key) for key in FIXED.get(document["kind"], [])}
        if "roleRef" in document:
            found[name]["roleRef"] = document["roleRef"]
    return found


def now():
    version = yaml.safe_load((chart.CHARTS / "fcgimux" / "Chart.yaml").read_text())["version"]
    rendered = {name: fixed(chart.render(COMBINATIONS[name])) for name in RENDERED}
    return {"version": version, "values": values(), "rendered": rendered}


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(HEAD + yaml.safe_dump(now(), sort_keys=False, width=120))

"""deploy/kubernetes/base/pods.yaml: what the application chart makes of its defaults, without what speaks of Helm and of a
namespace. Run as a program it writes the file (with helm in the path)."""

import yaml

import chart

FILE = chart.REPOSITORY / "deploy" / "kubernetes" / "base" / "pods.yaml"
HEAD = "# Made of the chart fcgimux by tests/chart/manifests.py: change the chart, or lay an overlay over this.\n"


class Dumper(yaml.SafeDumper):
    """Text of several lines stays readable."""


def represent(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, represent)


def without(metadata):
    metadata.pop("namespace", None)
    for label in ["helm.sh/chart", "app.kubernetes.io/managed-by"]:
        metadata.get("labels", {}).pop(label, None)


def text():
    # Found by its short name through the search domains of the pod, so that any namespace will do.
    values = {
        "tests": {"enabled": False},
        "fcgimux": {"fullnameOverride": "web", "upstream": {"service": "", "addresses": ["web-php:9000"]}},
    }
    documents = chart.render(values, release="web")
    for document in documents:
        without(document["metadata"])
    return HEAD + yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=120)


if __name__ == "__main__":
    FILE.write_text(text())

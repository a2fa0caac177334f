"""The tables of values in the READMEs of the charts, made of the comments in values.yaml. Run as a program it writes them."""

import json
import pathlib
import re

import yaml

CHARTS = pathlib.Path(__file__).resolve().parents[2] / "helm"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


def documented(text):
    """Path, comment and default of each value that has a comment `# --`."""
    values, path, comment, rows = yaml.safe_load(text), [], [], []
    block = None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if block is not None and (indent > block or not line.strip()):
            continue
        block = None
        if line.strip().startswith("#"):
            comment.append(line.strip().lstrip("# "))
            continue
        key = re.match(r" *([\w.-]+):(.*)", line)
        if not key:
            comment = []
            continue
        path = [*path[: indent // 2], key[1]]
        if key[2].strip() == "|":
            block = indent
        if comment and comment[0].startswith("-- "):
            value = values
            for step in path:
                value = value[step]
            rows.append((".".join(path), " ".join(comment)[3:], value))
        comment = []
    return rows


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    else:
        yield ".".join(path)


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return "see values.yaml" if len(text) > 60 else f"`{text}`"


def table(text):
    lines = ["| value | default | |", "|---|---|---|"]
    lines += [f"| `{path}` | {shown(value)} | {doc} |" for path, doc, value in documented(text)]
    return "\n".join(lines).replace("\\|", "|") + "\n"


def readme(name):
    """The README as it stands, and as it should be."""
    folder = CHARTS / name
    stands = (folder / "README.md").read_text()
    before, rest = stands.split(BEGIN)
    behind = rest.split(END)[1]
    return stands, before + BEGIN + table((folder / "values.yaml").read_text()) + END + behind


if __name__ == "__main__":
    for name in ["fcgimux", "fcgimux-lib"]:
        (CHARTS / name / "README.md").write_text(readme(name)[1])

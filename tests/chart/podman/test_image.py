"""The image: that it is small, holds this program and nothing to run besides, and does with next to no rights what it is for."""

import hashlib
import json
import os
import pathlib
import stat

import pytest

from pod import NETWORK, podman

IMAGE = "localhost/fcgimux:test"
NO_RIGHTS = ["--rm", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
SCRIPT = "/var/www/html/visit.php"


@pytest.fixture(scope="module")
def root():
    yield pathlib.Path(podman("image", "mount", IMAGE))
    podman("image", "unmount", IMAGE)


def test_it_holds_the_program_of_this_checkout_and_nothing_else_to_run(root):
    built = pathlib.Path(os.environ["FCGIMUX_PROGRAM"]).read_bytes()
    assert hashlib.sha256((root / "usr/bin/fcgimux").read_bytes()).digest() == hashlib.sha256(built).digest()
    files = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    licences = {"usr/share/doc/fcgimux/LICENSE-APACHE", "usr/share/doc/fcgimux/LICENSE-MIT"}
    assert files == {"usr/bin/fcgimux"} | licences


def test_it_has_12_megabytes_at_most():
    size = int(podman("image", "inspect", "--format", "{{.Size}}", IMAGE))
    print(f"{size} bytes")
    if os.environ["FCGIMUX_RELEASE"] != "yes" and size > 12_000_000:
        pytest.skip("the quick build is no measure: tests/chart/pods --release has the one that is released")
    assert size <= 12_000_000


def test_its_user_has_no_rights_but_in_the_folders_it_needs(root):
    config = json.loads(podman("image", "inspect", IMAGE))[0]["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/usr/bin/fcgimux"]
    owned = {str(path.relative_to(root)) for path in root.rglob("*") if path.stat().st_uid == 65532}
    assert {"run/fcgimux", "tmp"} <= owned <= {"run", "run/fcgimux", "tmp"}
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert not (root / "usr/bin/fcgimux").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)


def test_it_starts_without_rights_and_with_a_read_only_root():
    assert podman("run", *NO_RIGHTS, IMAGE, "--version").startswith("fcgimux ")


def test_it_finds_php_fpm_by_the_name_of_its_service(pods):
    """By the resolver of the C library, too, which the commands use: nothing of it is to be loaded at run time."""
    for name in [pods.service, "php-1"]:
        said = podman("run", *NO_RIGHTS, "--network", NETWORK, IMAGE, "call", "--fail", f"{name}:9000", SCRIPT)
        assert said == "GET  -"

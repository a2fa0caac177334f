"""A pod of the chart, run by podman, with the part of kubelet played by whoever holds it.

podman 4.3 knows neither restartable init containers, nor fsGroup, nor the probes of an image without a shell. So what helm
renders goes through one step, `translated`, and what kubelet does besides is a method here: the startup probe and the
readiness probe are asked as the manifest states them, `end` is its preStop and then the image's signal, and a change of a
ConfigMap arrives by the swap of a symlink."""

import copy
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import yaml

import chart
from visitors import get

# The same for no other checkout, since podman keeps the names and addresses of all networks in one place.
NETWORK = os.environ["FCGIMUX_NETWORK"]
# What Docker Hub's image of php-fpm has for it.
FPM = "[global]\ninclude = /usr/local/etc/php-fpm.d/*.conf\n"
COMMANDS = {
    "nginx": ["/usr/sbin/nginx", "-c", "/etc/nginx/fcgimux.conf", "-g", "daemon off;"],
    "php-fpm": ["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/main/php-fpm.conf"],
}
RESOLV_CONF = "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver {server}\noptions ndots:5\n"
KUBELETS_OWN = ["restartPolicy", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "resources"]


def podman(*words, check=True, timeout=120, **options):
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=timeout, **options)
    assert not check or done.returncode == 0, f"podman {words}: {done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def until(what, condition, timeout=30):
    end = time.monotonic() + timeout
    while not (held := condition()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return held


def translated(name, template, documents, account=None):
    """The pod of a Deployment as podman can run it, with the ConfigMaps that it mounts. Volumes and ConfigMaps bear the name
    of the pod, since podman has one of each name for all pods. `account`: files of its service account."""
    spec = copy.deepcopy(template["spec"])
    spec["containers"] = [*spec.pop("initContainers", []), *spec["containers"]]
    user = {key: spec["securityContext"][key] for key in ["runAsUser", "runAsGroup"]}
    del spec["securityContext"]
    for container in spec["containers"]:
        for key in KUBELETS_OWN:
            container.pop(key, None)
        # In place of the pod's, and of fsGroup.
        container["securityContext"] |= user
        container["imagePullPolicy"] = "Never"
        # podman would take them of the host, too.
        container.pop("ports", None)
        if container["name"] in COMMANDS:
            # Debian's programs in place of the images on Docker Hub.
            container |= {"image": "localhost/web:1", "command": COMMANDS[container["name"]]}
        if container["name"] == "php-fpm":
            container["volumeMounts"].append({"name": "main", "mountPath": "/etc/main"})
    # podman ends a pod with its last container, and gives it another address when it comes back; kubelet does neither.
    spec["containers"].append({"name": "stays", "image": "localhost/web:1", "command": ["/usr/bin/sleep", "infinity"]})
    spec["volumes"].append({"name": "main", "configMap": {"name": "main"}})
    for volume in spec["volumes"]:
        volume["name"] = f"{name}-{volume['name']}"
        if "emptyDir" in volume:
            volume["emptyDir"] = {}
        if volume.pop("projected", None):
            volume["configMap"] = {"name": "account"}
        if "configMap" in volume:
            volume["configMap"]["name"] = f"{name}-{volume['configMap']['name']}"
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", []):
            mount["name"] = f"{name}-{mount['name']}"
    maps = {one["metadata"]["name"]: one["data"] for one in chart.of_kind(documents, "ConfigMap")}
    maps |= {"main": {"php-fpm.conf": FPM}, "account": account or {}}
    maps = [config_map(f"{name}-{own}", data) for own, data in maps.items()]
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    # Who is away comes back when the test says so.
    return [*maps, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "restartPolicy": "Never"}}]


# How often the startup probe of a container that starts slowly fails before it may have more of a CPU.
SLOW_PROBES = 3


def limit_cpu(process, share):
    """To `share` of one, by whichever of the two versions of cgroups the machine has."""
    groups = dict(line.split(":", 2)[1:] for line in pathlib.Path(f"/proc/{process}/cgroup").read_text().split())
    own = next((group for kinds, group in groups.items() if "cpu" in kinds.split(",")), None)
    period = 200_000
    quota = round(share * period)
    if own is None:
        pathlib.Path(f"/sys/fs/cgroup{groups['']}/cpu.max").write_text(f"{quota} {period}")
    else:
        pathlib.Path(f"/sys/fs/cgroup/cpu{own}/cpu.cfs_period_us").write_text(str(period))
        pathlib.Path(f"/sys/fs/cgroup/cpu{own}/cpu.cfs_quota_us").write_text(str(quota))


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


class Pod:
    """A pod that is there, with none of its containers started."""

    def __init__(self, name, template, documents, names=(), account=None):
        """`names`: of Services that lead to it."""
        self.name, self.template, self.address, self.slow = name, template, None, set()
        network = ":".join([NETWORK, ",".join(f"alias={one}" for one in names)]).rstrip(":")
        objects = translated(name, template, documents, account)
        podman("kube", "play", "--start=false", "--network", network, "-", input=yaml.safe_dump_all(objects))
        mounted = [volume["configMap"]["name"] for volume in objects[-1]["spec"]["volumes"] if "configMap" in volume]
        for one in objects:
            if one["metadata"]["name"] in mounted:
                self.put_config(one["metadata"]["name"], one["data"])
        self.start("stays")
        infra = podman("pod", "inspect", "--format", "{{.InfraContainerID}}", name)
        infra = json.loads(podman("inspect", infra))[0]
        network = infra["NetworkSettings"]["Networks"][NETWORK]
        self.address = network["IPAddress"]
        # kubelet's: podman adds the servers of the host, which know no pod.
        pathlib.Path(infra["ResolvConfPath"]).write_text(RESOLV_CONF.format(server=network["Gateway"]))

    def container(self, name):
        return f"{self.name}-{name}"

    def start(self, name, slowly=False):
        """`slowly`: with half a hundredth of a CPU until its startup probe has failed a few times, and with a twentieth then,
        until it is told to `hurry`. How much of so small a part a start takes differs by a minute between two starts, for
        the kernel takes back later what was used beyond it."""
        self.slow.discard(name)
        if slowly:
            self.slow.add(name)
            podman("init", self.container(name))
            limit_cpu(self.process(name), 0.005)
        podman("start", self.container(name))

    def hurry(self, name):
        """From now on it may have a whole CPU."""
        limit_cpu(self.process(name), 1)

    def process(self, name):
        return podman("inspect", "--format", "{{.State.Pid}}", self.container(name))

    def kill(self, name):
        podman("kill", "--signal", "KILL", self.container(name))
        podman("wait", self.container(name))

    def end(self, name):
        """As kubelet does: preStop, then the signal of the image; its exit code."""
        manifest = chart.container(self.template, name)
        stop = manifest.get("lifecycle", {}).get("preStop", {}).get("exec")
        if stop:
            podman("exec", self.container(name), *stop["command"])
        grace = self.template["spec"]["terminationGracePeriodSeconds"]
        podman("stop", "--time", str(grace), self.container(name), timeout=grace + 30)
        return int(podman("inspect", "--format", "{{.State.ExitCode}}", self.container(name)))

    def remove(self):
        podman("pod", "rm", "--force", "--time", "0", self.name)

    def started_at(self, name):
        return podman("inspect", "--format", "{{.State.StartedAt}} {{.RestartCount}}", self.container(name))

    def log(self, name):
        done = subprocess.run(
            ["podman", "logs", self.container(name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        return done.stdout

    def passes(self, name, kind):
        """Asks a probe once, as the manifest states it."""
        manifest = chart.container(self.template, name)
        probe = manifest[kind]
        way = probe.get("httpGet") or probe["tcpSocket"]
        port = next((one["containerPort"] for one in manifest["ports"] if one["name"] == way["port"]), way["port"])
        timeout = probe.get("timeoutSeconds", 1)
        if "httpGet" in probe:
            status = get(f"http://{self.address}:{port}{way['path']}", timeout).status
            return status is not None and 200 <= status < 400
        try:
            socket.create_connection((self.address, port), timeout).close()
            return True
        except OSError:
            return False

    def wait_for_startup(self, name):
        """Asks the startup probe at its period until it passes; how often it failed before."""
        probe = chart.container(self.template, name)["startupProbe"]
        for failed in range(probe["failureThreshold"]):
            asked = time.monotonic()
            if self.passes(name, "startupProbe"):
                return failed
            if name in self.slow and failed + 1 == SLOW_PROBES:
                limit_cpu(self.process(name), 0.05)
            time.sleep(max(0, asked + probe["periodSeconds"] - time.monotonic()))
        raise AssertionError(f"{name} did not start: kubelet would kill it")

    def wait_until_ready(self, name):
        until(f"{name} of {self.name} is ready", lambda: self.passes(name, "readinessProbe"))

    def start_all(self):
        """In the order that the manifest asks for: each restartable init container has started before the next begins."""
        for manifest in self.template["spec"].get("initContainers", []):
            assert manifest["restartPolicy"] == "Always"
            self.start(manifest["name"])
            self.wait_for_startup(manifest["name"])
        for manifest in self.template["spec"]["containers"]:
            self.start(manifest["name"])
        for manifest in chart.containers(self.template):
            self.wait_until_ready(manifest["name"])

    def volume(self, name):
        return pathlib.Path(podman("volume", "inspect", "--format", "{{.Mountpoint}}", name))

    def put_config(self, volume, data):
        """Puts the content of a ConfigMap into its volume as kubelet does, by one rename of the symlink `..data`."""
        folder = self.volume(volume)
        content = folder / f"..{time.time_ns()}"
        content.mkdir(mode=0o755)
        for name, text in data.items():
            (content / name).write_text(text)
            if not (folder / name).is_symlink():
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(f"..data/{name}")
        before = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else None
        (folder / "..data_tmp").symlink_to(content.name)
        (folder / "..data_tmp").rename(folder / "..data")
        if before:
            shutil.rmtree(folder / before)

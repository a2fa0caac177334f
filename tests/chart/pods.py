"""The pods of the application chart, run by podman and asked while containers are killed; started by tests/chart/pods.

podman knows neither restartable init containers, nor fsGroup, nor the probes of an image without a shell. So what helm renders
goes through `translated`. What that leaves unproven: the order of starting and ending, fsGroup, probes as kubelet makes them,
Services and their names (the address of php-fpm's pod is given instead), NetworkPolicies, reading EndpointSlices."""

import copy
import subprocess
import threading
import time
import urllib.error
import urllib.request

import yaml

import chart

NETWORK = "fcgimux-pods"
FPM = "[global]\ninclude = /usr/local/etc/php-fpm.d/*.conf\n"
COMMANDS = {
    "nginx": ["/usr/sbin/nginx", "-c", "/etc/nginx/fcgimux.conf", "-g", "daemon off;"],
    "php-fpm": ["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/main/php-fpm.conf"],
}
SIDECAR = {"image": {"repository": "localhost/fcgimux", "tag": "test"}}


def podman(*words, check=True, **options):
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=120, **options)
    assert not check or done.returncode == 0, f"podman {words}: {done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def translated(deployment, documents):
    """The pod of a Deployment as podman can run it, with the ConfigMaps that it mounts."""
    pod = copy.deepcopy(deployment["spec"]["template"])
    spec = pod["spec"]
    spec["containers"] = [*spec.pop("initContainers", []), *spec["containers"]]
    user = {key: spec["securityContext"][key] for key in ["runAsUser", "runAsGroup"]}
    del spec["securityContext"]
    for container in spec["containers"]:
        for key in ["restartPolicy", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "resources"]:
            container.pop(key, None)
        # In place of the pod's, and of fsGroup.
        container["securityContext"] |= user
        container["imagePullPolicy"] = "Never"
        if container["name"] in COMMANDS:
            # Debian's programs in place of the images on Docker Hub.
            container |= {"image": "localhost/web:1", "command": COMMANDS[container["name"]]}
            container["volumeMounts"].append({"name": "main", "mountPath": "/etc/main"})
    # podman ends a pod with its last container, and gives it another address when it comes back; kubelet does neither.
    spec["containers"].append({"name": "stays", "image": "localhost/web:1", "command": ["/usr/bin/sleep", "infinity"]})
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            volume["emptyDir"] = {}
    spec["volumes"].append({"name": "main", "configMap": {"name": "main"}})
    main = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "main"}, "data": {"php-fpm.conf": FPM}}
    metadata = {"name": deployment["metadata"]["name"], "labels": pod["metadata"]["labels"]}
    maps = chart.of_kind(documents, "ConfigMap")
    return [main, *maps, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "restartPolicy": "Always"}}]


def play(deployment, documents):
    """Starts the pod; its address."""
    name = deployment["metadata"]["name"]
    podman("kube", "play", "--network", NETWORK, "-", input=yaml.safe_dump_all(translated(deployment, documents)))
    infra = podman("pod", "inspect", "--format", "{{.InfraContainerID}}", name)
    return podman("inspect", "--format", f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}', infra)


def get(url, timeout=15):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return str(error), ""


def until(what, condition, timeout=30):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.1)


class Visitors(threading.Thread):
    """Asks without a pause until it is told to stop; keeps what came when it was not a page."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.ended, self.answered, self.failed = url, False, 0, []

    def run(self):
        while not self.ended:
            status, _ = get(self.url)
            if status == 200:
                self.answered += 1
            else:
                self.failed.append((time.monotonic(), status))
                time.sleep(0.02)


def killed(web, name):
    """Kills a container under load and starts it again; fails if a request did that was sent after it was back."""
    visitors = [Visitors(web) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    time.sleep(1)
    podman("kill", "--signal", "KILL", name)
    podman("start", name, check=False)
    until(f"{name} answers again", lambda: get(web)[0] == 200)
    back = time.monotonic()
    time.sleep(3)
    for visitor in visitors:
        visitor.ended = True
    for visitor in visitors:
        visitor.join(timeout=20)
    answered, failed = sum(one.answered for one in visitors), [fault for one in visitors for fault in one.failed]
    print(f"{name} killed: {answered} answered, {len(failed)} not while it was away")
    late = [fault for fault in failed if fault[0] > back + 0.5]
    assert not late, f"after {name} was back: {late[:5]}"
    assert answered > 100


def main():
    fpm = {"fcgimux": SIDECAR}
    documents = chart.render(fpm)
    address = play(chart.the(documents, "Deployment", "web-fcgimux-php"), documents)
    print("php-fpm at", address)
    # The user of the image, whose folder for the socket the volume takes over, as there is no fsGroup.
    user = {"podSecurityContext": {"runAsUser": 65532, "runAsGroup": 65532}}
    values = {**user, "fcgimux": {**SIDECAR, "upstream": {"service": "", "addresses": [f"{address}:9000"]}}}
    documents = chart.render(values)
    pod = play(chart.the(documents, "Deployment", "web-fcgimux"), documents)
    web, admin = f"http://{pod}:8080/", f"http://{pod}:9253"
    until("ready", lambda: get(admin + chart.admin_paths()["Ready"])[0] == 200)
    until("nginx answers", lambda: get(web)[0] == 200)
    assert "through fcgimux" in get(web)[1]
    for _ in range(200):
        assert get(web)[0] == 200
    assert get(admin + chart.admin_paths()["Live"])[0] == 200
    metrics = get(admin + chart.admin_paths()["Metrics"])[1]
    subprocess.run(["promtool", "check", "metrics"], input=metrics, text=True, check=True, timeout=30)
    assert 'fcgimux_requests_total{pool="default",outcome="ok"}' in metrics or "fcgimux_requests_total" in metrics
    for name in ["web-fcgimux-nginx", "web-fcgimux-fcgimux", "web-fcgimux-php-php-fpm"]:
        killed(web, name)
    print("pods: passed")


if __name__ == "__main__":
    podman("network", "create", NETWORK, check=False)
    try:
        main()
    except BaseException:
        for name in podman("ps", "--all", "--format", "{{.Names}}", check=False).splitlines():
            print(f"--- {name}", flush=True)
            subprocess.run(["podman", "logs", "--tail", "20", name], stderr=subprocess.STDOUT, timeout=30)
        raise
    finally:
        podman("pod", "rm", "--force", "--time", "2", "web-fcgimux", "web-fcgimux-php", check=False)
        podman("volume", "prune", "--force", check=False)
        podman("network", "rm", "--force", NETWORK, check=False)

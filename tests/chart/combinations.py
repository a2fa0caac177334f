"""Values that somebody may want, by what they are about. Every check of test_render.py is made for each."""

MONITORING = {
    "metrics": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    }
}
EXTERNAL = {"php": {"enabled": False}}


def sidecar(**values):
    return {"fcgimux": values}


def external(**values):
    return {**EXTERNAL, "fcgimux": values}


TOLERATION = {"key": "web", "operator": "Exists", "effect": "NoSchedule"}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "web"}},
}
POOLS = {"shop": {"endpoints": [{"dns": "php:9000"}]}, "blog": {"endpoints": [{"address": "10.0.0.1:9000"}]}}
LISTENERS = [
    {"socket": "/run/fcgimux/fcgimux.sock", "pool": "shop", "mode": "0660"},
    {"socket": "/run/fcgimux/blog.sock", "pool": "blog", "mode": "0660"},
]
DIGEST = "sha256:" + "0123456789abcdef" * 4

COMBINATIONS = {
    "the defaults": {},
    "one replica": {"replicaCount": 1},
    "many replicas": {"replicaCount": 50},
    "no replica": {"replicaCount": 0},
    "an older cluster": sidecar(nativeSidecar=False),
    "an older cluster with a lifecycle": sidecar(nativeSidecar=False, lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
    "another web container": sidecar(webContainer="web"),
    "another socket": sidecar(listen={"path": "/run/php/php.sock"}),
    "a socket for everybody": sidecar(socket={"mode": "0666"}),
    "a socket's group by number": sidecar(socket={"group": 101}),
    "a socket's group as text": sidecar(socket={"group": "101"}),
    "a socket's folder on disk": sidecar(runVolume={"medium": "", "sizeLimit": "2Mi"}),
    "bodies in memory": sidecar(tmpVolume={"medium": "Memory", "sizeLimit": "64Mi"}),
    "a service of the same namespace": external(upstream={"service": "php"}),
    "a service of another namespace": external(upstream={"service": "other/php"}),
    "a service by a template": external(upstream={"service": "{{ .Release.Name }}-backend"}),
    "another port": sidecar(upstream={"port": 9009, "statusPort": 9010}),
    "no status port": sidecar(upstream={"statusPort": 0}),
    "another cluster domain": sidecar(upstream={"clusterDomain": "cluster.example."}),
    "endpoint slices": sidecar(upstream={"discovery": "endpointslice"}),
    "endpoint slices of another namespace": external(upstream={"service": "other/php", "discovery": "endpointslice"}),
    "endpoint slices without rbac": sidecar(upstream={"discovery": "endpointslice"}, rbac={"create": False}),
    "endpoint slices with an own account": sidecar(
        upstream={"discovery": "endpointslice"}, serviceAccount={"create": False, "name": "mine"}
    ),
    "addresses": external(upstream={"addresses": ["10.0.0.1:9000", "[fd00::1]:9000", "php.example:9000", "/run/php.sock"]}),
    "addresses and a service": sidecar(upstream={"addresses": ["10.0.0.1:9000"]}),
    "another pool": sidecar(pool={"name": "shop", "settings": {"connections": {"per_endpoint": 4}, "slow_start": "off"}}),
    "a large queue": sidecar(queue={"depth": 1000000, "timeout": "5s"}),
    "timeouts": sidecar(timeouts={"first_byte": "30s", "exchange": "off"}),
    "a log in text": sidecar(config={"log": {"format": "text", "level": "debug", "access": True}}),
    "a zone": sidecar(config={"zone": "eu-1a", "threads": 2}),
    "no verbs": sidecar(config={"admin": {"verbs": "off"}}),
    "off without quotes, which YAML takes for false": sidecar(
        timeouts={"exchange": False}, pool={"settings": {"slow_start": False}}, config={"admin": {"verbs": False}}
    ),
    "own pools and listeners": external(config={"pools": POOLS, "listeners": LISTENERS}),
    "one own pool": external(config={"pools": {"app": {"application": "generic", "endpoints": [{"dns": "app:9000"}]}}}),
    "restart at a change": sidecar(reload="restart"),
    "a long drain": sidecar(drain={"seconds": 600}),
    "no resources": {"fcgimux": {"resources": None}, "nginx": {"resources": None}, "php": {"resources": None}},
    "a cpu limit": sidecar(resources={"limits": {"cpu": "1", "memory": "256Mi"}}),
    "another metrics port": sidecar(metrics={"port": 19253}),
    "pods with IPv6 only": sidecar(metrics={"address": "[::]"}),
    "other probes": sidecar(probes={"startup": {"failureThreshold": 5}, "liveness": {"periodSeconds": 30, "timeoutSeconds": 5}}),
    "no liveness probe": sidecar(probes={"liveness": None}),
    "no service account": sidecar(serviceAccount={"create": False}),
    "a service account's annotations": sidecar(serviceAccount={"annotations": {"example.com/role": "web"}}),
    "environment and arguments": sidecar(extraEnv=[{"name": "FCGIMUX_ZONE", "value": "eu-1a"}], extraArgs=[]),
    "labels and annotations": sidecar(podLabels={"team": "web"}, podAnnotations={"a/b": "c"}, commonLabels={"cost": "7"}),
    "another name": sidecar(fullnameOverride="shop"),
    "an image by digest": sidecar(image={"digest": DIGEST}),
    "an image of an own registry": sidecar(image={"repository": "registry.example:5000/x/fcgimux", "tag": "1.5", "pullPolicy": "Always"}),
    "a registry for all": {"global": {"imageRegistry": "mirror.example/", "imagePullSecrets": ["one", {"name": "two"}]}},
    "pull secrets": sidecar(imagePullSecrets=[{"name": "one"}]),
    "a load balancer": {"service": {"type": "LoadBalancer", "port": 8000, "annotations": {"a": "b"}}},
    "another port of nginx": {"nginx": {"port": 8081, "serverSnippet": "location /x { return 204; }"}},
    "large bodies": {"nginx": {"clientMaxBodySize": "1g", "readTimeout": "10m"}},
    "where pods go": {
        "priorityClassName": "high",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [TOLERATION],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [SPREAD],
    },
    "no disruption budget": {"pdb": {"enabled": False}},
    "code in the image of php": {"php": {"demo": False, "image": {"repository": "registry.example/shop"}, "extraConfig": "pm.max_requests = 5"}},
    "network policies for all": {"networkPolicy": {"restrictWeb": True, "metricsFrom": [{"podSelector": {}}]}},
    "network policies with more": {"networkPolicy": {"restrictWeb": True, "extraEgress": [{"ports": [{"port": 6443}]}]}},
    "no network policies": {"networkPolicy": {"enabled": False}},
    "monitoring": MONITORING,
    "monitoring of all namespaces alone": {
        "nginx": {"enabled": False},
        "metrics": {**MONITORING["metrics"], "podMonitor": {"enabled": True, "allNamespaces": True, "labels": {"release": "x"}}},
    },
    "other limits for alerts": {
        "metrics": {"prometheusRule": {"enabled": True, "thresholds": {"QueueWaitHigh": 2}, "disabled": ["FcgimuxDown"], "labels": {"a": "b"}}}
    },
    "dashboards elsewhere": {"metrics": {"dashboards": {"enabled": True, "label": "dash", "labelValue": "yes", "folder": ""}}},
    "scaling": {"autoscaling": {"keda": {"enabled": True, "queueWait": 0.2, "min": 2, "max": 20}}},
    "scaling of another": {**external(upstream={"service": "php"}), "autoscaling": {"keda": {"enabled": True, "target": "php"}}},
    "scaling by one of own pools": {
        **external(config={"pools": {"shop": POOLS["shop"]}}, pool={"name": "shop"}), "autoscaling": {"keda": {"enabled": True, "target": "php"}}
    },
    "services of own pools": external(config={"pools": {"default": {"endpoints": [{"service": "other/php"}]}}}, upstream={"discovery": "endpointslice"}),
    "endpoints among the pool's settings": external(pool={"settings": {"endpoints": [{"address": "10.0.0.1:9000", "weight": 2}]}}),
    "php-fpm's own environment": {"php": {"extraEnv": [{"name": "A", "value": "1"}], "podLabels": {"a": "b"}, "podAnnotations": {"c": "d"}}},
    "php-fpm reached from elsewhere": {"networkPolicy": {"phpFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}},
    "a disruption budget by percent": {"pdb": {"maxUnavailable": "10%"}},
    "the injector": {"injector": {"enabled": True}},
    "the injector alone": {"nginx": {"enabled": False}, "injector": {"enabled": True, "failurePolicy": "Ignore", "namespaceSelector": None}},
    "the injector with another image": {"injector": {"enabled": True, "image": {"repository": "registry.example/fcgimux", "tag": "edge"}}},
    "no helm test": {"tests": {"enabled": False}},
    "a helm test of an own script": {"tests": {"script": "/srv/www/health.php"}},
    "everything": {
        **MONITORING,
        "autoscaling": {"keda": {"enabled": True}},
        "injector": {"enabled": True},
        "networkPolicy": {"restrictWeb": True},
        "fcgimux": {"upstream": {"discovery": "endpointslice"}, "reload": "restart"},
    },
}

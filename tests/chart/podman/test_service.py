"""`discovery: endpointslice`: the image finds the pods by asking an API server over TLS, as the service account of its pod. The API
server is played (api_server.py): what a real one proves besides is that the chart's Role is enough."""

import pytest

from api_server import ApiServer, slice_of
from conftest import rendered, template
from pod import NETWORK, Pod, podman, until
from visitors import Visitors, get


@pytest.fixture
def api(pods, tmp_path):
    gateway = podman("network", "inspect", "--format", "{{(index .Subnets 0).Gateway}}", NETWORK)
    api = ApiServer(gateway, "shop", "web-fcgimux-php", tmp_path)
    yield api
    api.close()


def test_requests_are_served_once_the_api_server_tells_of_a_pod(pods, api):
    # Kubelet puts these two into every container.
    names = {"KUBERNETES_SERVICE_HOST": api.server.server_address[0], "KUBERNETES_SERVICE_PORT": str(api.port)}
    environment = [{"name": name, "value": value} for name, value in names.items()]
    documents = rendered(upstream={"discovery": "endpointslice"}, extraEnv=environment)
    pod = Pod("web-service", template(documents, "web-fcgimux"), documents, account=api.account())
    try:
        pod.start_all()
        assert api.watched.wait(timeout=10), pod.log("fcgimux")
        url = f"http://{pod.address}:8080"
        with Visitors(url, how_many=2) as visitors:
            api.tell("ADDED", slice_of("web-fcgimux-php", 9000, [pods.php.address]))
            until("it is served", lambda: get(url).status == 200)
            visitors.wait_for(20)
        # The first waited for an endpoint.
        assert visitors.failed() == []
        assert "fcgimux_endpoint_up" in get(f"http://{pod.address}:9253/metrics").text
    finally:
        pod.remove()

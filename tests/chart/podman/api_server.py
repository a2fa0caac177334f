"""As much of Kubernetes' API server as `discovery: endpointslice` asks: EndpointSlices of one Service, listed and watched over
TLS by whoever shows the token of a service account."""

import http.server
import json
import queue
import secrets
import ssl
import subprocess
import threading
import urllib.parse

EMPTY = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSliceList",
    "metadata": {"resourceVersion": "1"},
    "items": [],
}
PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"


def slice_of(service, port, addresses):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-x1", "resourceVersion": "2", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "fastcgi", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
    }


class ApiServer:
    """Knows of no slice until it is told of one."""

    def __init__(self, address, namespace, service, folder):
        self.token, self.namespace, self.events = secrets.token_hex(16), namespace, queue.Queue()
        self.path, self.selector = PATH.format(namespace=namespace), f"kubernetes.io/service-name={service}"
        self.watched = threading.Event()
        self.server = http.server.ThreadingHTTPServer((address, 0), self.handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(address, folder))
        self.authority = (folder / "ca.crt").read_text()
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def account(self):
        """The files that a pod has of its service account."""
        return {"token": self.token, "ca.crt": self.authority, "namespace": self.namespace}

    def tell(self, kind, slice):
        self.events.put({"type": kind, "object": slice})

    def close(self):
        self.events.put(None)
        self.server.shutdown()
        self.server.server_close()

    def handler(api):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                parts = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(parts.query))
                if self.headers["Authorization"] != f"Bearer {api.token}":
                    return self.send_error(401)
                if parts.path != api.path or query.get("labelSelector") != api.selector:
                    return self.send_error(403)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                if query.get("watch") in ["1", "true"]:
                    self.stream()
                else:
                    body = json.dumps(EMPTY).encode()
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def stream(self):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                api.watched.set()
                while (event := api.events.get()) is not None:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.close_connection = True

            def log_message(self, *_):
                """Nobody reads it."""

        return Handler


def certificate(address, folder):
    """One that an authority of its own has signed, whose certificate is ca.crt; the files of the certificate and its key."""
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    for more in [
        "-keyout ca.key -out ca.crt -subj /CN=authority",
        f"-keyout tls.key -out tls.crt -subj /CN=api -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:{address}"
        " -addext basicConstraints=CA:FALSE",
    ]:
        subprocess.run(["openssl", *request, *more.split()], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "tls.crt", folder / "tls.key"

"""flup's threaded server; see README.md. Argument `multiplexed`: many requests on one connection."""

import hashlib
import sys
import time

from flup.server.fcgi import WSGIServer


def application(environ, start):
    pairs = (pair.partition("=") for pair in environ.get("QUERY_STRING", "").split("&"))
    query = {name: value for name, _, value in pairs}
    time.sleep(int(query.get("sleep", 0)) / 1000)

    def head(*more):
        headers = [
            ("Content-Type", "text/plain"),
            ("X-Token", query.get("token", "")),
            ("X-Method", environ["REQUEST_METHOD"]),
            ("X-Application", "flup"),
        ]
        return start("200 OK", headers + list(more))

    if "size" in query:
        return size(query, head)
    if "stream" in query:
        return stream(query, head)
    if "upload" in query:
        length, digest = read(environ)
        head()
        return [b"%d %s\n" % (length, digest.encode())]
    if "early" in query:
        head()
        return [b"early\n"]
    if "stderr" in query:
        environ["wsgi.errors"].write(query["stderr"] + "\n")
        environ["wsgi.errors"].flush()
        head()
        return [b"stderr\n"]
    if "watch" in query:
        return watch(query, environ, head)
    return echo(query, environ, head)


def read(environ):
    digest, length = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(65536):
        digest.update(block)
        length += len(block)
    return length, digest.hexdigest()


def echo(query, environ, head):
    length, digest = read(environ)
    head(("X-Length", str(length)), ("X-Sha256", digest))
    if "n" in query:
        n, word = int(query["n"]), query["token"] + " "
        return [(word * (n // len(word) + 1))[:n].encode()]
    names = ["REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "HTTP_X_TEST", "X_PARAM"]
    lines = [f"{name}={environ.get(name, '')}" for name in names]
    long = environ.get("X_LONG", "").encode("latin-1")
    lines.append(f"X_LONG={len(long)} {hashlib.sha256(long).hexdigest()}")
    return ["".join(line + "\n" for line in lines).encode("latin-1")]


def size(query, head):
    head()
    left, line = int(query["size"]), int(query.get("seed", 0)) * 1_000_000
    while left > 0:
        yield (b"%015d\n" % line * 4096)[:left]
        left, line = left - 65536, line + 1


def stream(query, head):
    head()
    for i in range(int(query["stream"])):
        if i:
            time.sleep(int(query.get("pause", 0)) / 1000)
        yield b"chunk %d\n" % i


def watch(query, environ, head):
    note(query, "start")
    if query["watch"] == "read":
        try:
            length, _ = read(environ)
            note(query, "read whole" if str(length) == environ.get("CONTENT_LENGTH", "0") else f"read failed: {length} bytes")
        except EOFError:
            note(query, "read failed: EOFError")
            raise
        head()
        return [b"read\n"]
    return watch_writing(query, head)


def watch_writing(query, head):
    write = head()
    end = time.monotonic() + int(query["ms"]) / 1000
    try:
        while time.monotonic() < end:
            write(b"watch\n")
            time.sleep(0.02)
    except OSError as error:
        note(query, f"write failed: {error}")
        raise
    note(query, "write whole")
    return []


def note(query, what):
    with open(query.get("log", "/dev/null"), "a") as file:
        file.write(f"{query.get('token', '')} {what}\n")


if __name__ == "__main__":
    WSGIServer(application, multiplexed="multiplexed" in sys.argv[1:], maxThreads=64).run()

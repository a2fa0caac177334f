"""Those who ask nginx."""

import collections
import http.client
import itertools
import threading
import time
import urllib.parse

# One request: when it began and ended, the status (None: there was no whole answer), the body or what went wrong.
Answer = collections.namedtuple("Answer", "method token began ended status text")


def get(url, timeout=15):
    return ask(url, "GET", "", timeout)


def ask(url, method, token, timeout=15):
    """One request on a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    began = time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        query = urllib.parse.urlencode({"token": token})
        headers = {"Connection": "close"}
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        path = parts.path if method == "POST" or not token else f"{parts.path}?{query}"
        connection.request(method, path, query if method == "POST" else None, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        status, text = None, repr(error)
    finally:
        connection.close()
    return Answer(method, token, began, time.monotonic(), status, text)


class Visitors:
    """Several that ask visit.php without a pause, half of them by POST, while the block runs; `answers` is what they got. Each
    request has a token, which its answer must bear."""

    numbers = itertools.count()

    def __init__(self, web, how_many=4):
        self.web, self.ended, self.answers = web, False, []
        self.threads = [threading.Thread(target=self.visit, args=[number], daemon=True) for number in range(how_many)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for thread in self.threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self.threads), "a request hangs"

    def visit(self, number):
        while not self.ended:
            answer = ask(f"{self.web}/visit.php", "POST" if number % 2 else "GET", f"t{next(self.numbers)}", timeout=30)
            self.answers.append(answer)
            if answer.status != 200:
                # Being refused takes no time: thousands would say no more than some.
                time.sleep(0.01)

    def answered(self):
        return [one for one in self.answers if one.status == 200]

    def failed(self):
        return [one for one in self.answers if one.status != 200]

    def wait_for(self, number):
        """Until so many more have been answered."""
        goal, end = len(self.answered()) + number, time.monotonic() + 30
        while len(self.answered()) < goal:
            assert time.monotonic() < end, f"{number} requests were not answered within 30 s: {self.failed()[-3:]}"
            time.sleep(0.01)

    def assert_own_answers(self):
        for one in self.answered():
            assert one.text.startswith(f"{one.method} {one.token} "), f"another's answer: {one}"

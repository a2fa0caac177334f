"""Each container is killed under load and stays away for a while. What is begun once it is back is answered, all of it; what fails
meanwhile fails as it must, by whom it must; and no POST is executed twice, ever."""

import collections
import re
import time

import pytest

from pod import until
from visitors import Visitors, get

AWAY = 1.0


class Outage:
    """What came of the requests around the time in which a container was away."""

    def __init__(self, pods, pod, container):
        self.log_before = len(pods.web.log("nginx"))
        with Visitors(pods.url) as visitors:
            visitors.wait_for(100)
            self.killed = time.monotonic()
            pod.kill(container)
            self.gone = time.monotonic()
            time.sleep(AWAY)
            pod.start(container)
            pod.wait_until_ready(container)
            self.ready = time.monotonic()
            asked = []
            until("a request is answered again", lambda: asked.append(get(pods.url)) or asked[-1].status == 200)
            self.back = time.monotonic()
            visitors.wait_for(400)
        self.visitors, self.failed = visitors, visitors.failed() + asked[:-1]
        self.words = re.findall(r"fcgimux: ([^\"]*)", pods.web.log("nginx")[self.log_before :])
        statuses = collections.Counter(one.status for one in self.failed)
        print(f"{container}: {len(visitors.answered())} answered, not while it was away: {dict(statuses)}")
        print(f"answered {1000 * (self.back - self.ready):.0f} ms behind its probe")


@pytest.fixture(params=["nginx", "fcgimux", "php-fpm"], scope="module")
def outage(request, pods):
    pod = pods.php if request.param == "php-fpm" else pods.web
    outage = Outage(pods, pod, request.param)
    outage.container, outage.executed = request.param, collections.Counter(pods.executed())
    return outage


def test_all_that_begins_before_or_after_is_answered(outage):
    begun = [one for one in outage.failed if one.began > outage.back or one.ended < outage.killed]
    assert begun == []
    assert outage.back - outage.ready < 2, "it took long to be noticed"
    outage.visitors.assert_own_answers()


def test_what_fails_fails_by_whom_it_must(outage):
    assert outage.failed, "it was away and nobody noticed: the test shows nothing"
    if outage.container == "nginx":
        # Nobody is there to say anything.
        assert {one.status for one in outage.failed} == {None}
    elif outage.container == "fcgimux":
        assert {one.status for one in outage.failed} == {502}
        assert all("nginx" in one.text for one in outage.failed)
    else:
        # As without fcgimux the page is nginx's; whoever reads its log finds why.
        assert {one.status for one in outage.failed} == {502}
        assert all("nginx" in one.text for one in outage.failed)
        assert len(outage.words) == len(outage.failed), outage.words[:5]
        assert any("no endpoint is up" in words for words in outage.words), outage.words[:5]


def test_no_post_is_executed_twice(outage):
    assert [token for token, times in outage.executed.items() if times > 1] == []
    posts = [one for one in outage.visitors.answers if one.method == "POST"]
    assert posts
    assert all(one.token in outage.executed for one in posts if one.status == 200)
    if outage.container == "php-fpm":
        refused = [one for one in posts if one.status == 502 and one.began > outage.gone]
        assert all(one.token not in outage.executed for one in refused), "refused, and executed all the same"

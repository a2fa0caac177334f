"""php-fpm's pod is replaced as by a roll-out of its Deployment: the new one is ready, then the old one ends. The sidecar hears of
both by the DNS name of the chart's headless Service, which podman's DNS answers with the addresses of the pods that bear it."""

import collections
import re

from pod import until
from visitors import Visitors


def endpoints(pods):
    return set(re.findall(r'(?m)^fcgimux_endpoint_up\{[^}]*endpoint="([^"]+)"[^}]*\} 1', pods.metrics()))


def test_no_request_fails_while_php_fpm_is_replaced(pods):
    assert endpoints(pods) == {f"{pods.php.address}:9000"}
    old, new = pods.php, pods.new_php("php-2")
    with Visitors(pods.url) as visitors:
        visitors.wait_for(50)
        new.start_all()
        pods.php = new
        pods.all_php.append(new)
        until("the new pod is found", lambda: f"{new.address}:9000" in endpoints(pods))
        visitors.wait_for(100)
        assert old.end("php-fpm") == 0
        visitors.wait_for(100)
        executed = pods.executed()
        pods.all_php.remove(old)
        old.remove()
        until("the old one is forgotten", lambda: endpoints(pods) == {f"{new.address}:9000"}, timeout=60)
        visitors.wait_for(200)
    assert visitors.failed() == []
    visitors.assert_own_answers()
    # Those that the old pod executed were read before it went.
    executed = collections.Counter({*executed, *pods.executed()})
    assert {one.token for one in visitors.answers if one.method == "POST"} <= set(executed)
    assert pods.executed(), "the new pod has done nothing"

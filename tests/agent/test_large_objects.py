"""Pods of a megabyte, as any tenant may make: what an agent needs to list them fits into its memory
limit.
"""

import json
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.agent.http_server import Server, serving

PODS, SIZE = 110, 1 << 20
#: An agent has some 60 MiB without them, and is to stay below 128.
MOST_MIB = 60

CHILD = """
import sys
from kubernetes.client import Configuration
from kpm.agent.cluster import pod_view
from kpm.kube.access import from_configuration
from kpm.kube.api import Api
from kpm.kube.informer import ApiListWatch, Informer
from kpm.kube.kinds import PODS

def memory(name):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

configuration = Configuration(host=f"http://127.0.0.1:{sys.argv[1]}")
configuration.proxy = None
source = ApiListWatch(Api(from_configuration(configuration)), PODS)
informer = Informer("pods", source, lambda: None, pod_view)
before = memory("VmRSS")
informer._list()
print(len(informer.values()), memory("VmHWM") - before)
"""


def _pods(count: int) -> list[dict[str, Any]]:
    env = [{"name": f"V{number}", "value": "x" * 1000} for number in range(SIZE // 1030)]
    containers = [{"name": "app", "image": "x", "env": env}]
    return [
        {
            "metadata": {
                "name": f"p{number}",
                "namespace": "tenant",
                "uid": f"u{number}",
                "resourceVersion": "1",
            },
            "spec": {"nodeName": "n", "containers": containers},
        }
        for number in range(count)
    ]


def test_a_list_of_large_pods_needs_little_memory() -> None:
    """They come by few, and of each only what is used is kept before the next page comes."""
    pods = _pods(PODS)

    def answer(link: Any) -> None:
        query = {key: value[0] for key, value in parse_qs(urlsplit(link.path).query).items()}
        first = int(query.get("continue", "0"))
        last = min(first + int(query["limit"]), PODS)
        body = json.dumps(
            {
                "metadata": {
                    "resourceVersion": "9",
                    **({"continue": str(last)} if last < PODS else {}),
                },
                "items": pods[first:last],
            }
        ).encode()
        link.send_response(200)
        link.send_header("Content-Length", str(len(body)))
        link.send_header("Connection", "close")
        link.end_headers()
        link.wfile.write(body)

    with serving() as server:
        assert isinstance(server, Server)
        server.write = answer
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, str(server.port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert ran.returncode == 0, ran.stderr
        count, grown = ran.stdout.split()
    assert int(count) == PODS
    assert float(grown) < MOST_MIB

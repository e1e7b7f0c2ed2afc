"""Clusters of several nodes on loopback, to add to, drain and kill: Ray's `cluster_utils`.

They live in a process of their own, which takes one command a line: the tests' own process keeps
its Ray, and a cluster's settings and tokens stay apart from it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.landscape import ROOT, workers


class Nodes:
    """The nodes of one cluster, by number; its head computes nothing.

    Attributes:
        environment: for drivers that join it, and for whatever its workers shall find there.
        up: the nodes that were not killed.
    """

    def __init__(self, folder: str, **environment: str) -> None:
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            # What `cluster.workers.local` sets: loopback only, and nobody without the token.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **environment,
        }
        self.up: set[int] = set()
        self._errors = Path(folder, "errors")
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.clusters", folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=self.environment,
            )
        self.address = self._answer()

    def add(self, cpus: int = 1, gpus: int = 0) -> int:
        """Start a node and wait until the cluster knows it; returns its number."""
        node = int(self._ask(f"add {cpus} {gpus}"))
        self.up.add(node)
        return node

    def kill(self, node: int) -> None:
        """Kill −9 a node's own process, and wait until the cluster has noticed."""
        self._ask(f"kill {node}")
        self.up.remove(node)

    def drain(self, node: int, seconds: float) -> None:
        """Announce that a node is preempted in `seconds`; it is for the caller to kill it then."""
        self._ask(f"drain {node} {seconds}")

    def workers(self) -> list[int]:
        """The processes that hold a tile renderer now."""
        return workers(self._process.pid)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate("end\n", timeout=60)
        self._process.kill()
        self._process.wait()

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        kind, _, answer = self._process.stdout.readline().strip().partition(" ")
        if kind != "lossatlas-cluster":
            raise RuntimeError(f"{kind} {answer} {self._errors.read_text()}")
        return answer


@contextlib.contextmanager
def cluster(**environment: str) -> Iterator[Nodes]:
    """A cluster with a head and no other node."""
    with tempfile.TemporaryDirectory(prefix="lossatlas-", dir="/tmp") as folder:
        nodes = Nodes(folder, **environment)
        try:
            yield nodes
        finally:
            nodes.close()


def _serve(folder: str) -> None:
    import ray
    from ray._private import utils
    from ray.cluster_utils import Cluster
    from ray.core.generated import autoscaler_pb2

    def say(answer: Any) -> None:
        print("lossatlas-cluster", answer, flush=True)

    # Otherwise any ray.init() on this machine would join this cluster.
    utils.write_ray_address = lambda *_, **__: None
    place = {"node_ip_address": "127.0.0.1"}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": f"{folder}/ray", **place}
    running = Cluster(initialize_head=True, head_node_args=head)
    nodes: dict[int, Any] = {}
    say(running.address)
    for line in sys.stdin:
        match line.split():
            case ["add", cpus, gpus]:
                number = len(nodes)
                node = running.add_node(wait=False, num_cpus=int(cpus), num_gpus=int(gpus), **place)
                running._wait_for_node(node, timeout=120)  # this machine may be busy
                nodes[number] = node
                say(number)
            case ["kill", number]:
                running.remove_node(nodes[int(number)], allow_graceful=False)
                running.wait_for_nodes(timeout=60)
                say("killed")
            case ["drain", number, seconds]:
                accepted, refusal = ray._raylet.GcsClient(address=running.address).drain_node(
                    nodes[int(number)].node_id,
                    autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
                    "preempted by a test",
                    int((time.time() + float(seconds)) * 1000),
                )
                say("draining" if accepted else f"not drained: {refusal}")
            case _:
                break
    running.shutdown()


if __name__ == "__main__":
    _serve(sys.argv[1])

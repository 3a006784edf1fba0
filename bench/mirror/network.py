"""Two network namespaces, two wires between them, and the switch that sends everything over one of them.

Node a has the address `ADDRESS["a"]`, node b `ADDRESS["b"]`, whichever wire is in use: connections stay up when the
wire is changed, so one GlusterFS volume and one pair of engines serve near and far measurements in the same round.
Near is a veth pair, far a user-space relay (bench.mirror.relay). Nothing outside of the namespaces is touched.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from bench.mirror.commands import BenchError, run

Result = TypeVar("Result")
ADDRESS: Final = {"a": "10.99.0.1", "b": "10.99.0.2"}
NEAR: Final = "near"
FAR: Final = "far"
# What the far wire adds to a round trip. The relay's own work and wake-ups are a part of it: measured, per direction.
FAR_ADDED_MS: Final = 0.5
_RELAY_OWN_US: Final = 70
_NAMESPACES: Final = "/run/netns"
_RTT_PROBES: Final = 40
_READY_S: Final = 15.0


def namespace_path(node: str) -> str:
    return f"{_NAMESPACES}/{node}"


def in_namespace(node: str, action: Callable[[], Result]) -> Result:
    """Calls `action` in a thread that is in the node's network namespace; what it opens stays there."""
    result: Future[Result] = Future()

    def body() -> None:
        try:
            enter(node)
            result.set_result(action())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller, whatever it is
            result.set_exception(error)

    thread = threading.Thread(target=body, name=f"in-{node}")
    thread.start()
    thread.join()
    return result.result()


def enter(node: str) -> None:
    """Moves the calling thread into the node's network namespace."""
    fd = os.open(namespace_path(node), os.O_RDONLY)
    try:
        os.setns(fd, os.CLONE_NEWNET)
    finally:
        os.close(fd)


def command_in(node: str, *argv: str) -> list[str]:
    """The command line that runs `argv` in the node's network namespace."""
    return ["nsenter", f"--net={namespace_path(node)}", "--", *argv]


@dataclass
class Network:
    """Made by `lay`; there is one per benchmark."""

    relay: subprocess.Popen[str]
    link: str = ""

    def use(self, link: str) -> None:
        """All traffic between the nodes takes this wire from now on."""
        if link == self.link:
            return
        for node, peer in (("a", "b"), ("b", "a")):
            run(["ip", "-n", node, "route", "replace", ADDRESS[peer], "dev", link, "src", ADDRESS[node]])
        self.link = link

    def round_trip_ms(self, link: str) -> float:
        """Median time of a TCP connection's set-up: one round trip between the two kernels."""
        self.use(link)
        listening = in_namespace("b", lambda: socket.create_server((ADDRESS["b"], 0), backlog=2 * _RTT_PROBES))
        place = listening.getsockname()

        def probe() -> list[float]:
            times = []
            for _ in range(_RTT_PROBES):
                with socket.socket() as client:
                    began = time.perf_counter()
                    client.connect(place)
                    times.append((time.perf_counter() - began) * 1000)
            return times

        with listening:
            return statistics.median(in_namespace("a", probe))


def lay() -> Network:
    """Makes namespaces and wires; the near one is in use."""
    for node in ADDRESS:
        run(["ip", "netns", "add", node])
    run(["ip", "-n", "a", "link", "add", NEAR, "type", "veth", "peer", "name", NEAR, "netns", "b"])
    relay = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.mirror.relay", "--device", FAR),
            *(
                "--delay-us",
                str(int(FAR_ADDED_MS * 500) - _RELAY_OWN_US),
                "--namespaces",
                *map(namespace_path, ADDRESS),
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    if relay.stdout.readline().strip() != "ready":
        raise BenchError("the relay did not start; its message is above (is /dev/net/tun there?)")
    for node, address in ADDRESS.items():
        run(["ip", "-n", node, "addr", "add", f"{address}/32", "dev", "lo"])
        for device in ("lo", NEAR, FAR):
            run(["ip", "-n", node, "link", "set", device, "up"])
    network = Network(relay)
    network.use(NEAR)
    return network

"""The consoles of both nodes of a cluster on loopback, with certificates as the cluster's authority issues them."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from mirror_agent.contract import Phase, Role
from mirror_agent.eventlog import Event
from mirror_agent.net.peer import server_name, tls_context
from mirror_agent.web.actions import NodeControl
from mirror_agent.web.client_roles import server_context
from mirror_agent.web.console_api import ConsoleApi
from mirror_agent.web.mirror_control import MirrorControl
from mirror_agent.web.peer_console import PeerConsole
from mirror_agent.web.probe import ProbeAnswer
from mirror_agent.web.revoked import RevokedSerials
from mirror_agent.web.shown_configuration import shown_configuration

from lab.ports import held_ports
from tests.agent_samples import Authority, Recorded, configuration

CLUSTER_ID = "c-1"
LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@dataclass
class NodeParts:
    """What one node's console talks to."""

    control: NodeControl
    mirror: MirrorControl
    events: list[Event] = field(default_factory=list)
    log: Any = field(default_factory=Recorded)
    shown: dict[str, object] = field(default_factory=lambda: shown_configuration(configuration()))
    answer: ProbeAnswer = field(default_factory=lambda: ProbeAnswer(True, Role.PRIM, Phase.READY, 3, ""))


@dataclass
class Consoles:
    authority: Authority
    urls: dict[str, str]
    parts: dict[str, NodeParts]
    running: dict[str, ConsoleApi]
    revoked: dict[str, RevokedSerials]

    def person(self, unit: str | None = "Admin", name: str = "ann") -> ssl.SSLContext:
        return self.authority.client(self.authority.issue(name, unit))

    async def call(
        self, node: str, tls: ssl.SSLContext, path: str, method: str = "GET", **more: Any
    ) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            async with session.request(method, self.urls[node] + path, **more) as response:
                body = await response.read()
                return response.status, json.loads(body) if body else {}


@asynccontextmanager
async def consoles(directory: Path, parts: dict[str, NodeParts]) -> AsyncIterator[Consoles]:
    authority = Authority(directory / "ca")
    files = {
        node: authority.issue(
            f"demo-{node}",
            names=(x509.DNSName(server_name(node, CLUSTER_ID)), x509.DNSName("localhost"), LOOPBACK),
        )
        for node in parts
    }
    running: dict[str, ConsoleApi] = {}
    revoked = {node: RevokedSerials(directory / f"revoked-{node}.json", its.log) for node, its in parts.items()}
    async with contextlib.AsyncExitStack() as stack:
        held = stack.enter_context(held_ports("127.0.0.1", len(parts)))
        ports = dict(zip(parts, held, strict=True))
        for node, its in parts.items():
            other = next(name for name in parts if name != node)
            running[node] = ConsoleApi(
                its.control,
                its.mirror,
                answer=lambda its=its: its.answer,  # type: ignore[misc]
                events_after=lambda seq, limit, its=its: _after(its.events, seq, limit),  # type: ignore[misc]
                configuration=lambda its=its: its.shown,  # type: ignore[misc]
                cluster="demo",
                node=node,
                peer=PeerConsole(
                    node=other,
                    address="127.0.0.1",
                    dns_name=server_name(other, CLUSTER_ID),
                    context=lambda node=node: _client(authority, files[node]),  # type: ignore[misc]
                    port=ports[other],
                ),
                tls=server_context(*files[node], authority.path),
                log=its.log,
                revoked=revoked[node],
                host="127.0.0.1",
                port=ports[node],
            )
            await running[node].start()
            stack.push_async_callback(running[node].stop)
        urls = {node: f"https://127.0.0.1:{port}" for node, port in ports.items()}
        yield Consoles(authority, urls, parts, running, revoked)


def _client(authority: Authority, files: tuple[Path, Path]) -> ssl.SSLContext:
    certificate, key = files
    return tls_context(server=False, certificate=certificate, key=key, ca=authority.path)


def _after(events: list[Event], seq: int, limit: int) -> list[Event]:
    return [event for event in events if isinstance(event["seq"], int) and event["seq"] > seq][:limit]

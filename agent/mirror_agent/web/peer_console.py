"""The other node's console API, asked in the name of a person over the authenticated link between the nodes.

Problem: through the virtual IP a person reaches the serving node only, and wants to see and manage both.
Guarantee: mutual TLS under the cluster's CA, the other side is known by the name in its certificate; the person's name,
role and certificate number go with every request, the other node checks the role again and refuses a revoked
certificate by its own list, and both nodes write down who asked for what. Nothing is passed on twice.
Limits: answers no longer than the control plane's; READ_TIMEOUT_S for a question, ORDER_TIMEOUT_S for an order.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from mirror_agent.contract import CONSOLE_PORT, NodeConfiguration
from mirror_agent.net.https import read_bounded
from mirror_agent.net.peer import server_name
from mirror_agent.web.client_roles import Client, passed_on_headers

READ_TIMEOUT_S: Final = 5.0
ORDER_TIMEOUT_S: Final = 180.0


class PeerAway(Exception):
    """The other node's console does not answer; the message says why."""


@dataclass(frozen=True)
class PeerAnswer:
    status: int
    body: bytes


class PeerConsole:
    def __init__(
        self,
        *,
        node: str,
        address: str,
        dns_name: str,
        context: Callable[[], ssl.SSLContext],
        port: int = CONSOLE_PORT,
    ) -> None:
        """`node`: its letter; `dns_name`: in its certificate; `context`: a client's with this node's certificate."""
        self.node = node
        self.dns_name = dns_name
        self._url = f"https://{address}:{port}/api/v1/"
        self._context = context

    async def read(self, what: str, client: Client, query: dict[str, str] | None = None) -> PeerAnswer:
        """Raises PeerAway."""
        return await self._ask("GET", what, client, READ_TIMEOUT_S, query=query)

    async def order(self, word: str, client: Client, body: bytes) -> PeerAnswer:
        """Raises PeerAway; then it is not known whether the order was begun, and the other node's history tells."""
        return await self._ask("POST", f"actions/{word}", client, ORDER_TIMEOUT_S, body=body)

    async def _ask(
        self,
        method: str,
        path: str,
        client: Client,
        timeout_s: float,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> PeerAnswer:
        headers = passed_on_headers(client)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
                async with session.request(
                    method,
                    self._url + path,
                    params=query,
                    data=body,
                    headers=headers,
                    ssl=self._context(),
                    server_hostname=self.dns_name,
                    allow_redirects=False,
                ) as answer:
                    return PeerAnswer(answer.status, await read_bounded(answer))
        except TimeoutError:
            raise PeerAway(f"node {self.node} did not answer in {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PeerAway(f"node {self.node} does not answer: {error}") from None


def peer_console(configuration: NodeConfiguration, context: Callable[[], ssl.SSLContext]) -> PeerConsole:
    """Of the other node of this configuration, at its first address, the private one."""
    peer = configuration.peer
    name = server_name(peer.name, configuration.cluster_id)
    return PeerConsole(node=peer.name, address=peer.addresses[0], dns_name=name, context=context)

"""The other nodes' consoles, as far as one console passes questions on: in a farm of two, to the other node.

A farm of more has a console on every node and none between them: the node's console shows the others' state (it is in
`status`) and its user opens theirs, or the control plane's console, which has all of them on one page.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from mirror_agent.contract import FarmConfiguration
from mirror_agent.net.peer import server_name
from mirror_agent.web.client_roles import Client
from mirror_agent.web.peer_console import PeerAnswer, PeerAway, PeerConsole


def farm_console(configuration: FarmConfiguration, context: Callable[[], ssl.SSLContext]) -> PeerConsole:
    peer = configuration.peers[0]
    name = server_name(peer.name, configuration.cluster_id)
    made = PeerConsole if len(configuration.peers) == 1 else _NotPassedOn
    return made(node=peer.name, address=peer.addresses[0], dns_name=name, context=context)


class _NotPassedOn(PeerConsole):
    async def read(self, what: str, client: Client, query: dict[str, str] | None = None) -> PeerAnswer:
        raise PeerAway(_OPEN_ITS_OWN)

    async def order(self, word: str, client: Client, body: bytes) -> PeerAnswer:
        raise PeerAway(_OPEN_ITS_OWN)


_OPEN_ITS_OWN = "in a farm of more than two nodes every node has a console of its own; open that node's"

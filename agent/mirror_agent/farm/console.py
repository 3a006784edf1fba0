"""The other nodes' consoles: a farm's nodes pass nothing on to one another.

Every node has a console of its own, which shows the others' state; the control plane's console has all nodes on one
page. So no node accepts what another one says in a person's name, and every order is given to the node it is for.
"""

from __future__ import annotations

from typing import Final, NoReturn

from mirror_agent.web.client_roles import Client
from mirror_agent.web.peer_console import PeerAnswer, PeerAway, PeerConsole

_OPEN_ITS_OWN: Final = "a farm's nodes pass nothing on; every node has a console of its own, open that node's"


class NotPassedOn(PeerConsole):
    """Asks nobody, and names nobody whose word would count here."""

    def __init__(self) -> None:
        super().__init__(node="", address="", dns_name="", context=_no_context)

    async def read(self, what: str, client: Client, query: dict[str, str] | None = None) -> PeerAnswer:
        raise PeerAway(_OPEN_ITS_OWN)

    async def order(self, word: str, client: Client, body: bytes) -> PeerAnswer:
        raise PeerAway(_OPEN_ITS_OWN)


def _no_context() -> NoReturn:
    raise AssertionError("nobody is connected to")

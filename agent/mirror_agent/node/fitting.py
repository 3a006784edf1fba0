"""Whether an application can run on this node's operating system; asked before anything of it is begun."""

from __future__ import annotations

from mirror_agent.contract import Application, unfit
from mirror_agent.platform import HOST


class Unfit(RuntimeError):
    """The sentence names each field with its reason and remedy."""


def refuse_unfit(application: Application) -> None:
    """Raises Unfit."""
    if found := unfit(HOST.NAME, application):
        raise Unfit("; ".join(f"{field}: {reason}" for field, reason in found))

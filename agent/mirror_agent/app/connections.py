"""Reset the established connections of the service ports on this node.

Problem: the Azure load balancer keeps sending packets of established flows to the node that served them, also after
its probe says 503; a client would wait for its own time-out.
Guarantee: what the system can destroy of the connections whose local port is a service port is destroyed, and the
client gets RST; the answer says whether any is left. How, each system's form knows (`sock_diag`, `tcp_table`).
Limits: best effort with a typed result. Listening sockets are left alone: they end with the application.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from mirror_agent.app.reset_outcomes import ConnectionsReset, ResetImpossible, ResetIncomplete, ResetOutcome
from mirror_agent.app.side_thread import SideThread
from mirror_agent.platform.application import destroy_connections

__all__ = ["ConnectionsReset", "ResetImpossible", "ResetIncomplete", "ResetOutcome", "reset_connections"]

DEADLINE_S: Final = 1.0


async def reset_connections(ports: Collection[int], *, deadline_s: float = DEADLINE_S) -> ResetOutcome:
    """Destroy every connection of these local ports, in a thread, so that the supervisor's loop never waits."""
    wanted = frozenset(ports)
    if not wanted:
        return ConnectionsReset(0)
    thread = SideThread("connections")
    try:
        return await thread.call(lambda: destroy_connections(wanted, deadline_s), deadline_s=2 * deadline_s)
    except TimeoutError as error:
        return ResetIncomplete(0, f"the kernel did not answer in {2 * deadline_s:g} s {error}".rstrip())

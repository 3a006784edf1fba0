"""Destroying the established connections of service ports on Windows: SetTcpEntry with the state "delete the TCB".

Guarantee: each IPv4 connection whose local port is one of the ports is destroyed, and the client gets RST.
Limits: for IPv6 Windows has no such call; those that are left are told. They end with the application's process, whose
sockets the system closes. Needs administrators' rights.
Source: Microsoft Learn, SetTcpEntry (iphlpapi.h), MIB_TCPROW_LH, MIB_TCP_STATE_DELETE_TCB; the table comes from psutil.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Collection
from typing import Final, NamedTuple

import psutil

from mirror_agent.app.reset_outcomes import ConnectionsReset, ResetImpossible, ResetIncomplete, ResetOutcome
from mirror_agent.platform import HOST

assert sys.platform == "win32"

MAX_ROUNDS: Final = 5
_DELETE_TCB: Final = 12
_ACCESS_DENIED: Final = 5
# What SetTcpEntry answers for a row that is not there any more (ERROR_NOT_FOUND, ERROR_INVALID_PARAMETER) or, so says
# Microsoft, to a caller without the right (ERROR_MR_MID_NOT_FOUND): the next look at the table tells which it was.
_GONE: Final = frozenset({1168, 87, 317})
_NO_CONVERSATION: Final = frozenset(
    {psutil.CONN_LISTEN, psutil.CONN_TIME_WAIT, psutil.CONN_CLOSE, psutil.CONN_DELETE_TCB, psutil.CONN_NONE}
)


class _Row(ctypes.Structure):
    """MIB_TCPROW_LH: addresses and ports in network order."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("state", "address", "port", "peer_address", "peer_port"))


class Connection(NamedTuple):
    address: str
    port: int
    peer_address: str
    peer_port: int


def destroy_connections(ports: frozenset[int], deadline_s: float) -> ResetOutcome:
    """Destroy, look again, until none is left. Blocks; see `connections.reset_connections`."""
    until = HOST.now_s() + deadline_s
    count = 0
    for _ in range(MAX_ROUNDS):
        found = connections(ports, "tcp4")
        if not found:
            return _with_ipv6(count, ports)
        for connection in found:
            code = _destroy(connection)
            if code == _ACCESS_DENIED:
                return ResetImpossible("SetTcpEntry is refused; run the agent as LocalSystem")
            if code not in (0, *_GONE):
                return ResetImpossible(f"SetTcpEntry: {ctypes.FormatError(code).strip()}")
            count += code == 0
        if HOST.now_s() > until:
            return ResetIncomplete(count, f"{deadline_s:g} s were not enough")
    return ResetIncomplete(count, f"connections were still there after {MAX_ROUNDS} rounds; is the application alive?")


def _with_ipv6(count: int, ports: Collection[int]) -> ResetOutcome:
    left = len(connections(ports, "tcp6"))
    if left:
        return ResetIncomplete(count, f"{left} connections over IPv6 are left, which Windows cannot reset")
    return ConnectionsReset(count)


def connections(ports: Collection[int], kind: str) -> list[Connection]:
    return [
        Connection(entry.laddr.ip, entry.laddr.port, entry.raddr.ip, entry.raddr.port)
        for entry in psutil.net_connections(kind)
        if entry.laddr and entry.raddr and entry.laddr.port in ports and entry.status not in _NO_CONVERSATION
    ]


def _destroy(connection: Connection) -> int:
    """The error code, 0 when it was destroyed."""
    row = _Row(
        _DELETE_TCB,
        _address(connection.address),
        socket.htons(connection.port),
        _address(connection.peer_address),
        socket.htons(connection.peer_port),
    )
    return int(ctypes.WinDLL("iphlpapi").SetTcpEntry(ctypes.byref(row)))


def _address(text: str) -> int:
    return int.from_bytes(socket.inet_aton(text), sys.byteorder)

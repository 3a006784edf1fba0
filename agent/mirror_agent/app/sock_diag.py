"""Destroying the established connections of service ports on Linux (SOCK_DESTROY of sock_diag; what `ss -K` does).

Guarantee: every TCP connection (IPv4 and IPv6) whose local port is one of the ports is destroyed by the kernel, which
sends RST to the client. Only this network namespace is touched.
Limits: needs CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY (Debian, Ubuntu and RHEL kernels have it).
Source: linux/sock_diag.h, linux/inet_diag.h; sock_diag(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from mirror_agent.app.reset_outcomes import ConnectionsReset, ResetImpossible, ResetIncomplete, ResetOutcome

MAX_ROUNDS: Final = 5
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SOCK_DESTROY: Final = 21
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_DUMP: Final = 0x300
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST_HEAD: Final = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_SOCKET_ID: Final = struct.Struct("!HH16s16s")  # ports and addresses are in network order
_MESSAGE_HEAD_BYTES: Final = 4  # family, state, timer, retransmits
_SOCKET_ID_BYTES: Final = 48  # and interface (4) and cookie (8) in host order
# Every TCP state of a conversation: not TIME_WAIT (6), CLOSE (7), LISTEN (10).
_STATES: Final = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11, 12))


def destroy_connections(ports: frozenset[int], deadline_s: float) -> ResetOutcome:
    """Destroy, look again, until none is left. Blocks; see `connections.reset_connections`."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + deadline_s
    count = 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(deadline_s)
            for _ in range(MAX_ROUNDS):
                found = [
                    (family, identity)
                    for family in (socket.AF_INET, socket.AF_INET6)
                    for identity in _connections(netlink, family, ports)
                ]
                if not found:
                    return ConnectionsReset(count)
                for family, identity in found:
                    count += _destroy(netlink, family, identity)
                if time.clock_gettime(time.CLOCK_BOOTTIME) > until:
                    return ResetIncomplete(count, f"{deadline_s:g} s were not enough")
    except TimeoutError:
        return ResetIncomplete(count, f"the kernel did not answer in {deadline_s:g} s")
    except OSError as error:
        return ResetImpossible(_explain(error))
    return ResetIncomplete(count, f"connections were still there after {MAX_ROUNDS} rounds; is the application alive?")


def _connections(netlink: socket.socket, family: socket.AddressFamily, ports: frozenset[int]) -> list[bytes]:
    """The kernel's identities of the connections whose local port is one of `ports`."""
    body = _REQUEST_HEAD.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + bytes(_SOCKET_ID_BYTES)
    _send(netlink, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, body)
    found = []
    for message in _answers(netlink):
        identity = message[_MESSAGE_HEAD_BYTES : _MESSAGE_HEAD_BYTES + _SOCKET_ID_BYTES]
        local_port = _SOCKET_ID.unpack_from(identity)[0]
        if local_port in ports:
            found.append(identity)
    return found


def _destroy(netlink: socket.socket, family: socket.AddressFamily, identity: bytes) -> int:
    """1 when destroyed, 0 when it was gone already; OSError when the kernel refuses."""
    body = _REQUEST_HEAD.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + identity
    _send(netlink, _SOCK_DESTROY, _NLM_F_REQUEST | _NLM_F_ACK, body)
    try:
        for _ in _answers(netlink):
            continue
    except OSError as error:
        if error.errno == errno.ENOENT:
            return 0
        raise
    return 1


def _send(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)


def _answers(netlink: socket.socket) -> Iterator[bytes]:
    """Bodies of the messages of one answer; its error code becomes an OSError."""
    while True:
        data = netlink.recv(256 * 1024)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
            yield body
            offset += (length + 3) & ~3


def _explain(error: OSError) -> str:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return "the agent lacks CAP_NET_ADMIN; run it as root"
        case errno.EOPNOTSUPP | errno.EPROTONOSUPPORT | errno.ENOENT | errno.EINVAL:
            return (
                f"this kernel cannot destroy sockets ({error.strerror}); it needs CONFIG_INET_DIAG_DESTROY and tcp_diag"
            )
        case _:
            return f"sock_diag: {error.strerror or error}"

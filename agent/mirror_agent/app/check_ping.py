"""The `ping` test: does one of the addresses answer an ICMP echo?

Tries the kernel's unprivileged echo sockets first (`net.ipv4.ping_group_range`), then a raw one (CAP_NET_RAW, which the
agent's service has). All addresses are asked at once; the first answer is enough.
Limits: Azure's gateway of a subnet and its load balancer do not answer echoes; name a machine that does. Therefore the
action is `none` unless the configuration says otherwise.
Sources: RFC 792, RFC 4443; icmp(7), raw(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mirror_agent.app.finding import Finding
from mirror_agent.contract import Checker

_HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL: Final = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_TOKEN_BYTES: Final = 16
_MAX_BYTES: Final = 2048

Address = IPv4Address | IPv6Address


class PingCheck:
    def __init__(self, checker: Checker) -> None:
        self._addresses: tuple[Address, ...] = checker.addresses
        self._timeout_s = checker.timeout_s
        self._sequence: Iterator[int] = itertools.count(1)

    async def __call__(self) -> Finding:
        asking = [asyncio.create_task(self._ask(address)) for address in self._addresses]
        failures: list[str] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                for answered in asyncio.as_completed(asking):
                    address, failure = await answered
                    if not failure:
                        return Finding(True, f"{address} answers")
                    failures.append(f"{address}: {failure}")
        except TimeoutError:
            failures.append(f"no answer in {self._timeout_s:g} s from {', '.join(map(str, self._addresses))}")
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return Finding(False, "; ".join(failures))

    async def _ask(self, address: Address) -> tuple[Address, str]:
        """Waits for the answer for ever; "" or why it cannot be asked."""
        try:
            with _open(address) as connection:
                await self._echo(connection, address)
        except OSError as error:
            return address, error.strerror or str(error)
        return address, ""

    async def _echo(self, connection: socket.socket, address: Address) -> None:
        loop = asyncio.get_running_loop()
        token = os.urandom(_TOKEN_BYTES)
        identifier, sequence = os.getpid() & 0xFFFF, next(self._sequence) & 0xFFFF
        await loop.sock_sendall(connection, echo_request(address.version, identifier, sequence, token))
        while True:
            if is_reply(address.version, await loop.sock_recv(connection, _MAX_BYTES), token):
                return


def _open(address: Address) -> socket.socket:
    """Connected, so that only this address is heard; raises OSError when the kernel offers neither kind."""
    family, protocol = _FAMILY[address.version], _PROTOCOL[address.version]
    try:
        made = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except OSError:
        made = socket.socket(family, socket.SOCK_RAW, protocol)
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        made.setblocking(False)
        made.connect((str(address), 0))
        undo.pop_all()
    return made


def echo_request(version: int, identifier: int, sequence: int, token: bytes) -> bytes:
    """The kernel fills the checksum for ICMPv6, and identifier and checksum of its own echo sockets."""
    plain = _HEADER.pack(_REQUEST[version], 0, 0, identifier, sequence) + token
    checksum = _checksum(plain) if version == 4 else 0
    return _HEADER.pack(_REQUEST[version], 0, checksum, identifier, sequence) + token


def is_reply(version: int, packet: bytes, token: bytes) -> bool:
    """The answer to the request with this token; a raw IPv4 socket hands the IP header over too."""
    if version == 4 and len(packet) >= 20 and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0x0F) * 4 :]
    return len(packet) >= _HEADER.size and packet[0] == _REPLY[version] and packet[_HEADER.size :] == token


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    words: tuple[int, ...] = struct.unpack(f"!{len(data) // 2}H", data)
    total = sum(words)
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

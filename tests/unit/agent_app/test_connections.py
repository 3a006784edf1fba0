"""Connections of the service ports are reset, and nothing else is."""

from __future__ import annotations

import os
import socket

import pytest
from mirror_agent.app.connections import ConnectionsReset, reset_connections

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="destroying sockets needs root")


@pytest.mark.parametrize(
    ("family", "listen", "connect"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
    ids=["ipv4", "ipv6", "ipv4 on a dual socket"],
)
async def test_clients_see_a_reset(family: socket.AddressFamily, listen: str, connect: str) -> None:
    with (
        socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::") as server,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port = server.getsockname()[1]
        with (
            socket.create_connection((connect, port), timeout=10) as client,
            server.accept()[0],
            socket.create_connection(other.getsockname(), timeout=10) as bystander,
            other.accept()[0] as far,
        ):
            assert await reset_connections([port]) == ConnectionsReset(1)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            far.sendall(b"x")
            assert bystander.recv(1) == b"x"
            assert await reset_connections([port]) == ConnectionsReset(0)
        with socket.create_connection((connect, port), timeout=10):
            pass  # the listening socket is left alone


async def test_no_ports_is_nothing_to_do() -> None:
    assert await reset_connections([]) == ConnectionsReset(0)

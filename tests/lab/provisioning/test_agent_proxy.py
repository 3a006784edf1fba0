"""What the agent itself asks the control plane goes through the proxy of its environment, and only if it has one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from mirror_agent.net.https import control_plane_session

from shared.provisioning.cloudinit import ProxySettings
from tests.lab.arm.certificates import make_tls
from tests.lab.provisioning.connect_proxy import connect_proxy


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    context, ca = make_tls(tmp_path)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}", ssl.create_default_context(cafile=str(ca))
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("direct", "tunnels"), [("169.254.169.254", 1), ("127.0.0.1", 0)])
async def test_a_request_takes_the_way_of_the_environment(
    plane: tuple[str, ssl.SSLContext], direct: str, tunnels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, trust = plane
    async with connect_proxy() as proxy:
        for name, value in ProxySettings(proxy.url, (direct,)).environment.items():
            monkeypatch.setenv(name, value)
        async with control_plane_session(30.0, trust) as session, session.get(f"https://{target}/") as answer:
            assert answer.status == 404
    assert proxy.targets == [target] * tunnels

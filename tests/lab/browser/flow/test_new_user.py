"""The way of a new user: `make demo KEEP=1`, the address and the token it prints, a swap by button. And on the cluster
the demo leaves: a rotation of its authority while clients write.

Part of `make browser`. How long the way took is printed; two minutes were the aim on a machine with nothing else to do.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)
from playwright.async_api import Browser, expect

from lab.demo.api import ControlPlane
from lab.demo.cluster import PORTS
from lab.demo.writer import LedgerTarget, Writer
from lab.paths import REPOSITORY
from tests.lab.browser.flow import chapters
from tests.lab.browser.flow.at_the_node import CONSOLE_PORT
from tests.lab.browser.flow.kept_demo import KeptDemo, kept_demo
from tests.lab.browser.watched import watched

pytestmark = [pytest.mark.lab, pytest.mark.browser, pytest.mark.flow, pytest.mark.asyncio(loop_scope="session")]
CLUSTER: Final = "demo"
WRITES: Final = 100
DEADLINE_S: Final = 300.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptDemo]:
    with kept_demo(tmp_path_factory.mktemp("demo")) as kept:
        yield kept


async def test_from_the_demo_to_a_swap_by_button(demo: KeptDemo, chromium: Browser) -> None:
    began = time.monotonic()
    async with watched(chromium, demo.url, None, expected=("401",)) as tab:
        page = tab.page
        await page.goto(demo.url)
        await page.get_by_label("API token").fill(demo.token)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name=CLUSTER, exact=True).click()
        await expect(page.get_by_role("heading", name=f"Cluster {CLUSTER}")).to_be_visible()
        await expect(page.get_by_label("Summary")).to_contain_text("Every acknowledged write is on both nodes")
        took_s = await chapters.swap_by_button(page)
        assert await tab.barriers() == []
    way_s = time.monotonic() - began
    print(
        f"\nmake demo KEEP=1 told its story in {demo.took_s:.0f} s; from the address it printed to the swap "
        f"shown by the console {way_s:.1f} s (the swap {took_s:.1f} s of it)",
        flush=True,
    )


async def test_the_authority_is_rotated_while_clients_write(demo: KeptDemo, chromium: Browser, tmp_path: Path) -> None:
    """With no overlap: the certificate of before is refused afterwards, a new one is taken, nobody's write is lost."""
    async with ControlPlane(demo.url, demo.token, demo.ca) as api:
        address = str((await api.cluster(CLUSTER))["virtualIp"]["address"])
        old = await certificate(api, chromium, demo.url, tmp_path / "old")
        before = await authorities(api)
        assert await console_answers(address, old, before) == 200
        epoch = await epochs(api)
        target = LedgerTarget(address, PORTS["ledger"])
        async with Writer(lambda: LedgerTarget(address, PORTS["ledger"]), tmp_path / "journal", first=10**6) as writer:
            await writer.wait_for(WRITES, deadline_s=DEADLINE_S)
            began, begun_s = time.time(), time.monotonic()
            await rotate(demo)
            issued_s = time.monotonic() - begun_s
            await dropped(api, before)
            dropped_s = time.monotonic() - begun_s
            await writer.wait_for(WRITES, deadline_s=DEADLINE_S)
            pause_s = writer.outage_s(began, time.time())
            await writer.stop()
        after = await authorities(api)
        assert len(after) == 1
        assert after != before
        assert await console_answers(address, old, after) in (None, 401)
        new = await certificate(api, chromium, demo.url, tmp_path / "new")
        assert await console_answers(address, new, after) == 200
        stored = await target.everything()
        await target.close()
        assert set(writer.acknowledged) <= stored
        assert await epochs(api) == epoch, "no role changed"
    print(
        f"\nrotated under {len(writer.acknowledged)} writes, none lost: new certificates on both nodes after "
        f"{issued_s:.1f} s, the old authority dropped after {dropped_s:.1f} s, longest pause {pause_s:.2f} s",
        flush=True,
    )


async def rotate(demo: KeptDemo) -> None:
    """By the command line, as an operator would."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "cli"),
        "MIRRORPLANE_URL": demo.url,
        "MIRRORPLANE_TOKEN": demo.token,
        "MIRRORPLANE_CA": demo.ca,
    }
    words = ("cluster", "rotate-ca", CLUSTER, "--reason", "yearly", "--overlap-hours", "0", "--wait")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirrorplane_cli", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")


async def authorities(api: ControlPlane) -> list[str]:
    _, found, _ = await api.call("GET", f"/clusters/{CLUSTER}/authority")
    return [str(one["pem"]) for one in found["authorities"]]


async def dropped(api: ControlPlane, before: list[str]) -> None:
    """Until nobody trusts the old authority any more."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            _, found, _ = await api.call("GET", f"/clusters/{CLUSTER}/authority")
            pems = [one["pem"] for one in found["authorities"]]
            if found.get("rotation") is None and not set(pems) & set(before):
                return
            await asyncio.sleep(0.5)


async def epochs(api: ControlPlane) -> int:
    _, view, _ = await api.call("GET", f"/clusters/{CLUSTER}/overview")
    return int(view["safety"]["epoch"])


async def certificate(api: ControlPlane, chromium: Browser, url: str, directory: Path) -> tuple[Path, str]:
    """A person's certificate with its key, by a one-time link, as one PEM file with a password."""
    await asyncio.to_thread(directory.mkdir)
    _, made, _ = await api.call("POST", f"/clusters/{CLUSTER}/credentials", {"name": "ann", "role": "Control"})
    async with watched(chromium, url, None) as tab:
        password = await chapters.download(tab.page, str(made["url"]), directory / "ann.p12")
    key, leaf, _ = pkcs12.load_key_and_certificates((directory / "ann.p12").read_bytes(), password.encode())
    assert key is not None
    assert leaf is not None
    pem = directory / "ann.pem"
    sealed = BestAvailableEncryption(password.encode())
    pem.write_bytes(leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    return pem, password


async def console_answers(address: str, person: tuple[Path, str], trusted: list[str]) -> int | None:
    """The status of the console behind the virtual IP for this certificate; None: it ended the connection for it. The
    node shows a certificate of one of `trusted`, or this fails."""
    context = ssl.create_default_context(cadata="".join(trusted))
    context.load_cert_chain(person[0], password=person[1])
    url = f"https://{address}:{CONSOLE_PORT}/api/v1/me"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        try:
            async with session.get(url, ssl=context) as answer:
                return answer.status
        except aiohttp.ClientConnectorCertificateError:
            raise
        except (aiohttp.ClientConnectionError, ssl.SSLError):
            return None

"""infra/vm/linux/bootstrap.py as a process: real HTTPS, a real virtual environment, a small agent of our own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from shared.provisioning.cloudinit import ProxySettings
from tests.lab.arm.certificates import make_tls
from tests.lab.provisioning.connect_proxy import connect_proxy

SCRIPT = Path(__file__).parents[3] / "infra" / "vm" / "linux" / "bootstrap.py"
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
TOKEN = "mpe_0123456789abcdef-secret"
WHEEL = "mirror_agent-0.1.0-py3-none-any.whl"
MODULE = b'{"application": {}}'
SIGNATURE = "sv=1&sig=not-for-logs"
DEADLINE_S = 90.0

# Stands for `mirrorctl enrol`: writes what it was told, so that a test can see its arguments.
AGENT = """
import json, pathlib, sys

def main():
    bootstrap = pathlib.Path(sys.argv[sys.argv.index("--from") + 1])
    root = bootstrap.parents[3]
    token = json.loads(bootstrap.read_text())["enrolmentToken"]
    target = root / "etc/mirrorplane/agent.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    module = bootstrap.with_name("module.json")
    if module.exists():
        (target.parent / "module.seen").write_bytes(module.read_bytes())
    target.write_text(json.dumps({"argv": sys.argv[1:], "had_token": bool(token)}))
"""


@dataclass
class Server:
    """The control plane's wheel route; `answers` come first, then the wheel."""

    wheel: bytes
    url: str = ""
    answers: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    async def artifact(self, request: web.Request) -> web.Response:
        """A plain location; `queries` are the signatures it was asked with."""
        self.queries.append(request.query_string)
        contents = {WHEEL: self.wheel, "module.json": MODULE}
        return web.Response(body=contents[request.match_info["name"]])

    async def answer(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.answers:
            return web.Response(status=self.answers.pop(0), headers={"Location": "https://elsewhere.invalid/"})
        return web.Response(body=self.wheel)


@dataclass
class Node:
    root: Path
    server: Server
    ca: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bootstrap_json(self) -> Path:
        return self.root / "var/lib/mirrorplane/bootstrap.json"

    @property
    def agent_json(self) -> Path:
        return self.root / "etc/mirrorplane/agent.json"

    def prepare(self, **changes: str) -> None:
        self.bootstrap_json.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            "controlPlaneUrl": self.server.url,
            "enrolmentToken": TOKEN,
            "wheelName": WHEEL,
            "wheelSha256": hashlib.sha256(self.server.wheel).hexdigest(),
        }
        self.bootstrap_json.write_text(json.dumps({**settings, **changes}))

    async def start(self, deadline_s: float = 60.0) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            PYTHON,
            str(SCRIPT),
            *("--root", str(self.root), "--deadline-s", str(deadline_s)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(self.ca), "PIP_NO_INDEX": "1", **self.environment},
            start_new_session=True,
        )

    async def run(self, deadline_s: float = 60.0) -> tuple[int, str]:
        process = await self.start(deadline_s)
        try:
            async with asyncio.timeout(DEADLINE_S):
                output, _ = await process.communicate()
        finally:
            await end(process)
        assert process.returncode is not None
        return process.returncode, output.decode()


async def end(process: asyncio.subprocess.Process) -> None:
    """The process and everything it started are gone."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("wheel") / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small_agent.py", AGENT)
        info = "mirror_agent-0.1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mirror-agent\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nmirrorctl = small_agent:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return path.read_bytes()


@pytest.fixture
async def node(wheel: bytes, tmp_path: Path) -> AsyncIterator[Node]:
    context, ca = make_tls(tmp_path)
    server = Server(wheel)
    application = web.Application()
    application.router.add_get("/api/nodes/agent-wheel", server.answer)
    application.router.add_get("/artifacts/{name}", server.artifact)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        server.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        made = Node(tmp_path / "root", server, ca)
        made.prepare()
        yield made
    finally:
        await runner.cleanup()


async def test_from_bare_to_enrolled_and_then_nothing_to_do(node: Node) -> None:
    node.server.answers = [503, 502]
    status, output = await node.run()
    assert status == 0, output
    assert json.loads(node.agent_json.read_text()) == {
        "argv": ["enrol", "--from", str(node.bootstrap_json)],
        "had_token": True,
    }
    assert node.server.tokens == [f"Bearer {TOKEN}"] * 3
    assert TOKEN not in output
    assert not node.bootstrap_json.exists()
    assert not (node.bootstrap_json.parent / WHEEL).exists()
    assert node.bootstrap_json.parent.stat().st_mode & 0o777 == 0o700
    again, output = await node.run()
    assert (again, output) == (0, "")


async def test_behind_a_proxy_it_asks_nobody_directly(node: Node) -> None:
    """With the variables the boot document gives it."""
    async with connect_proxy() as proxy:
        node.environment = ProxySettings(proxy.url, ("169.254.169.254",)).environment
        status, output = await node.run()
    assert status == 0, output
    assert proxy.targets == [node.server.url.removeprefix("https://")]
    assert node.agent_json.exists()


async def test_killed_at_any_moment_it_goes_on(node: Node) -> None:
    for sign in ("downloading", "installing", "enrolling"):
        process = await node.start()
        try:
            assert process.stdout is not None
            async with asyncio.timeout(DEADLINE_S):
                async for line in process.stdout:
                    if sign.encode() in line:
                        break
        finally:
            await end(process)
    status, output = await node.run()
    assert status == 0, output
    assert node.agent_json.exists()
    assert not node.bootstrap_json.exists()


async def test_a_wheel_with_another_checksum_is_not_installed(node: Node) -> None:
    node.prepare(wheelSha256="0" * 64)
    status, output = await node.run(deadline_s=0.5)
    assert status == 1
    assert "is not installed" in output
    assert not (node.root / "opt/mirrorplane/venv").exists()
    assert node.bootstrap_json.exists(), "the token is kept for another attempt"


@pytest.mark.parametrize("answer", [401, 404, 302])
async def test_a_refusal_ends_at_once_with_a_remedy(node: Node, answer: int) -> None:
    node.server.answers = [answer]
    status, output = await node.run()
    assert status == 1
    assert f"answered {answer}" in output
    assert "Replace the VM" in output
    assert len(node.server.tokens) == 1


async def test_the_token_never_travels_in_the_clear(node: Node) -> None:
    node.prepare(controlPlaneUrl=node.server.url.replace("https://", "http://"))
    status, output = await node.run()
    assert status == 1
    assert "not https" in output
    assert node.server.tokens == []


async def test_a_server_the_system_does_not_trust_is_not_told_the_token(node: Node, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, node.ca = make_tls(tmp_path / "other")
    status, output = await node.run(deadline_s=0.5)
    assert status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in output
    assert node.server.tokens == []


def of_a_pair(node: Node, **changes: str) -> None:
    settings: dict[str, object] = {
        "artifactsLocation": f"{node.server.url}/artifacts",
        "artifactsSasToken": f"?{SIGNATURE}",
        "enrolmentToken": "",  # only the agent of this test looks for it
        "wheelName": WHEEL,
        "wheelSha256": hashlib.sha256(node.server.wheel).hexdigest(),
        "moduleName": "module.json",
        "moduleSha256": hashlib.sha256(MODULE).hexdigest(),
        "pair": {"node": "a"},
    }
    node.bootstrap_json.write_text(json.dumps(settings | changes))


async def test_a_pair_fetches_agent_and_module_from_a_plain_location(node: Node) -> None:
    of_a_pair(node)
    status, output = await node.run()
    assert status == 0, output
    assert node.server.queries == [SIGNATURE, SIGNATURE]
    assert node.server.tokens == []
    assert (node.agent_json.parent / "module.seen").read_bytes() == MODULE
    assert "sig=" not in output
    assert sorted(path.name for path in node.bootstrap_json.parent.iterdir()) == ["bootstrap.lock"]


@pytest.mark.parametrize("what", ["wheelSha256", "moduleSha256"])
async def test_what_is_not_what_was_announced_is_not_used(node: Node, what: str) -> None:
    of_a_pair(node, **{what: "0" * 64})
    status, output = await node.run(deadline_s=0.5)
    assert status == 1
    assert "is not installed" in output
    assert "sig=" not in output
    assert not node.agent_json.exists()


async def test_a_pair_asks_only_where_nobody_can_listen(node: Node) -> None:
    of_a_pair(node, artifactsLocation=node.server.url.replace("https://", "http://"))
    status, output = await node.run()
    assert status == 1
    assert "artifactsLocation" in output
    assert "not https" in output
    assert node.server.queries == []

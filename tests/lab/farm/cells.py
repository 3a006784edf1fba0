"""Real agents of a farm, each in a network namespace of its own, without VMs and without a control plane.

The hub has the address of Azure's probes, so that an agent takes a question from there for the load balancer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirror_agent.contract import Application, FarmConfiguration, NodeName, Peer
from mirror_agent.net.identity import AgentFile
from mirror_agent.paths import Paths

from lab.fabric import namespaces
from lab.fabric.commands import ip_batch, run
from tests.lab.mirror.pair import CLUSTER, Authority

DEADLINE_S: Final = 60.0
POLL_S: Final = 0.1
PROBE_SOURCE: Final = "168.63.129.16"
REPOSITORY: Final = Path(__file__).resolve().parents[3]
WEB: Final = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        well = not os.path.exists(os.environ["MODULE_DIR"] + "/sick")
        self.send_response(200 if well else 500)
        self.end_headers()
        self.wfile.write(os.environ["MODULE_NODE"].encode())
    def log_message(self, *arguments):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    allow_reuse_address = True
Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""
START: Final = 'setsid python3 "$MODULE_DIR/web.py" 8080 </dev/null >/dev/null 2>&1 &\n'


def application(**more: object) -> Application:
    body: dict[str, Any] = {
        "name": "web",
        "startPrim": START,
        "files": [{"path": "web.py", "content": WEB}],
        "servicePorts": [8080],
        "checkers": [
            {
                "name": "answers",
                "kind": "http",
                "port": 8080,
                "path": "/",
                "intervalS": 0.3,
                "threshold": 2,
                "graceS": 3.0,
            },
        ],
    }
    return Application.model_validate({**body, **more})


async def until(fact: Callable[[], Awaitable[bool]], what: str) -> None:
    limit = asyncio.get_running_loop().time() + DEADLINE_S
    while not await fact():
        assert asyncio.get_running_loop().time() < limit, f"not within {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(POLL_S)


@dataclass
class Cell:
    """One node."""

    node: NodeName
    address: str
    namespace: str
    hub: str
    root: Path
    process: asyncio.subprocess.Process | None = None
    manager: socket.socket | None = None
    told: list[str] = field(default_factory=list)  # what its service manager has heard

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    async def start(self) -> None:
        if self.manager is None:
            self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self.manager.bind(str(self.root / "notify"))
            asyncio.get_running_loop().add_reader(self.manager, self._hear)
        environment = {
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY}/agent",
            "NOTIFY_SOCKET": str(self.root / "notify"),
        }
        errors = (self.root / "agent.err").open("ab")
        with errors:
            self.process = await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", self.namespace),
                *(sys.executable, str(Path(__file__).with_name("agent_process.py")), str(self.root)),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    async def signal(self, number: signal.Signals) -> int:
        """The agent's exit status."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()

    def _hear(self) -> None:
        assert self.manager is not None
        self.told += self.manager.recv(4096).decode().splitlines()

    async def probe(self) -> int:
        """The status of the load balancer's probe; 0 without an answer."""
        return (await self._get(":9010/var/modules/web/ready.txt"))[0]

    async def answers(self) -> str:
        """What the application says, "" if it does not answer."""
        return (await self._get(":8080/"))[1]

    async def _get(self, where: str) -> tuple[int, str]:
        curl = ("curl", "-s", "--max-time", "2", "--interface", PROBE_SOURCE, "-w", "\n%{http_code}")
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self.hub, *curl, f"http://{self.address}{where}"), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        body, _, status = output.decode().rpartition("\n")
        return int(status or 0), body

    async def ctl(self, *words: str) -> Any:
        """mirrorctl on this node: its answer as JSON, or the exit status as a number."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mirror_agent.cli", "--root", str(self.root), *words, "-o", "json"),
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/agent"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return json.loads(output) if output.strip() else process.returncode

    async def rule(self) -> str:
        status = await self.ctl("status")
        return str(status["rule"]) if isinstance(status, dict) else ""

    async def is_up(self) -> bool:
        return await self.rule() == "up"

    def kinds(self) -> list[str]:
        return [json.loads(line)["kind"] for line in self.paths.events.read_text().splitlines()]


@dataclass
class Cells:
    directory: Path
    names: tuple[NodeName, ...] = ("a", "b", "c")
    module: Application = field(default_factory=application)
    by_name: dict[str, Cell] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Cells]:
        prefix = namespaces.lab_prefix(f"f{secrets.token_hex(2)}")
        hub = f"{prefix}hub"
        try:
            await self._cable(prefix, hub)
            for cell in self.by_name.values():
                await cell.start()
            yield self
        finally:
            for cell in self.by_name.values():
                if cell.process is not None and cell.process.returncode is None:
                    await cell.signal(signal.SIGKILL)
                if cell.manager is not None:
                    asyncio.get_running_loop().remove_reader(cell.manager)
                    cell.manager.close()
            for name in (*(cell.namespace for cell in self.by_name.values()), hub):
                await _end_all(name)
                await namespaces.delete(name)

    async def _cable(self, prefix: str, hub: str) -> None:
        authority = Authority(self.directory / "ca")
        await namespaces.create(hub)
        await ip_batch(
            hub,
            [
                "link add br0 type bridge",
                "link set br0 up",
                "address add 10.77.0.1/24 dev br0",
                f"address add {PROBE_SOURCE}/32 dev br0",
            ],
        )
        addresses = {name: f"10.77.0.{4 + number}" for number, name in enumerate(self.names)}
        for name, address in addresses.items():
            namespace = f"{prefix}{name}"
            await namespaces.create(namespace)
            await run(
                ["ip", "-n", hub, "link", "add", f"to-{name}", "type", "veth", "peer", "eth0", "netns", namespace]
            )
            await ip_batch(hub, [f"link set to-{name} master br0", f"link set to-{name} up"])
            await ip_batch(
                namespace,
                [
                    f"address add {address}/24 dev eth0",
                    "link set eth0 up",
                    f"route add {PROBE_SOURCE}/32 via 10.77.0.1",
                ],
            )
            self.by_name[name] = Cell(name, address, namespace, hub, self.directory / name)
            self._enrolled(self.by_name[name], addresses, authority)

    def _enrolled(self, cell: Cell, addresses: dict[NodeName, str], authority: Authority) -> None:
        """What an enrolment would have left on the node. Its control plane is not there."""
        paths = cell.paths
        for directory in (paths.identity_dir, paths.agent_file.parent, paths.module_dir):
            directory.mkdir(parents=True)
        certificate, key = authority.issue(cell.node)
        paths.node_certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
        paths.ca_certificate.write_bytes(authority.ca_file.read_bytes())
        paths.node_credential.write_text("credential\n")
        configuration = FarmConfiguration(
            kind="farm",
            version=1,
            cluster_name="web",
            cluster_id=CLUSTER,
            node=cell.node,
            address=cell.address,
            peers=tuple(Peer(name=name, addresses=(other,)) for name, other in addresses.items() if name != cell.node),
            application=self.module,
        )
        agent = AgentFile(control_plane_url="https://127.0.0.1:9", configuration=configuration)
        paths.agent_file.write_text(agent.model_dump_json(by_alias=True))


async def _end_all(namespace: str) -> None:
    """Nothing that a test started outlives it, whatever became of its agent."""
    with contextlib.suppress(RuntimeError):
        for pid in (await run(["ip", "netns", "pids", namespace])).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

"""What the demo asks the VMs themselves: `mirrorctl` inside them, power through the lab."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lab.control import LabClient
from lab.demo.api import DemoFailed
from lab.info import LabInfo

MIRRORCTL: Final = "mirrorctl"


@dataclass(frozen=True)
class Nodes:
    """The two VMs of one cluster in a running lab."""

    info: LabInfo
    state: Path
    cluster: str

    async def run(self, node: str, *argv: str) -> str:
        """The output of a command inside the VM; DemoFailed with its error output when it fails."""
        lab = [sys.executable, "-m", "lab", "--state", str(self.state), "--lab", self.info.id]
        process = await asyncio.create_subprocess_exec(
            *lab,
            "exec",
            f"{self.cluster}/{node}",
            "--",
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:  # whoever waited has given up: the command must not go on without him
                process.kill()
                await process.wait()
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip()
            raise DemoFailed(f"{self.cluster}/{node}: {' '.join(argv)} ended with {process.returncode}: {said}")
        return output.decode(errors="replace")

    async def ask(self, node: str, *words: str) -> Any:
        return json.loads(await self.run(node, MIRRORCTL, *words, "-o", "json"))

    async def events(self, node: str, since: float) -> list[dict[str, Any]]:
        """The node's event log after a wall-clock moment; both run on this machine's clock."""
        answer = await self.ask(node, "history", "--limit", "500")
        events: list[dict[str, Any]] = answer["events"] if isinstance(answer, dict) else answer
        return [event | {"at": moment(event)} for event in events if moment(event) >= since]

    async def kill(self, node: str) -> None:
        await LabClient(self.info.control_socket).acall("kill", node=f"{self.cluster}/{node}")

    async def start(self, node: str) -> None:
        await LabClient(self.info.control_socket).acall("start", node=f"{self.cluster}/{node}")

    async def balancers(self) -> Any:
        return await LabClient(self.info.control_socket).acall("balancers")


def moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(event["utc"])).timestamp()

"""Clocks: the two agents count from different origins, and a restart of an agent finds its clock elsewhere.

The agent runs in a time namespace whose CLOCK_MONOTONIC and CLOCK_BOOTTIME are shifted; the kernel fixes the shift when
the namespace gets its first process, so a clock cannot jump under a running agent (it does not on a machine either).
CLOCK_REALTIME is the machine's own and cannot be set for one VM; the agent decides nothing by it (I4).
"""

from __future__ import annotations

import os
from pathlib import Path

from lab.faults.model import Case, Primary
from lab.faults.perform import settled
from lab.faults.scene import SUPERVISOR, CaseBroken, Scene

CLOCK = "clock"
DAYS_S = 10 * 86400
AGENT_UNIT = "mirrorplane-agent"
UNIT = f"/etc/systemd/system/{AGENT_UNIT}.service"
PROGRAM = "/opt/mirrorplane/venv/bin/python -m mirror_agent.supervisor"
WRAPPER = "/usr/local/bin/shifted-clock"
# unshare(CLONE_NEWTIME) takes effect at the next execve (Linux 6.3 and newer), with the same process id.
SHIFT = """#!/usr/bin/python3 -I
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x80) != 0:
    raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWTIME)")
with open("/proc/self/timens_offsets", "w") as offsets:
    offsets.write(f"monotonic {sys.argv[1]} 0\\nboottime {sys.argv[1]} 0\\n")
os.execv(sys.argv[2], sys.argv[2:])
"""


async def shift(scene: Scene, node: str, seconds: int) -> None:
    """Restart the node's agent with its clocks elsewhere; back at the end of the case."""
    text = await scene.inside(node, "cat", UNIT)
    await write(scene, node, WRAPPER, SHIFT, "755")
    await write(
        scene, node, UNIT, text.replace(f"ExecStart={PROGRAM}", f"ExecStart={WRAPPER} {seconds} {PROGRAM}"), "644"
    )
    scene.undo.push_async_callback(restore, scene, node, text)
    await restart(scene, node)
    pids = await scene.until(lambda: scene.pids(node, SUPERVISOR), 20.0, f"the agent of {node} runs")
    await settled(scene.stage)
    if all(time_namespace(str(pid)) == time_namespace("self") for pid in pids):
        raise CaseBroken("the agent does not run in a time namespace of its own; the kernel is older than 6.3")


def time_namespace(pid: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/time")


async def restore(scene: Scene, node: str, text: str) -> None:
    await scene.until(lambda: scene.seen(node).answered, 60.0, f"the agent of {node} answers")
    await write(scene, node, UNIT, text, "644")
    await restart(scene, node)


async def restart(scene: Scene, node: str) -> None:
    await scene.inside(node, "systemctl", "daemon-reload")
    await scene.inside(node, "systemctl", "restart", AGENT_UNIT, timeout_s=150.0)


async def write(scene: Scene, node: str, path: str, text: str, mode: str) -> None:
    script = 'printf %s "$1" > "$2" && chmod "$3" "$2"'
    await scene.inside(node, "sh", "-c", script, "sh", text, path, mode)


async def apart(scene: Scene, seconds: int) -> None:
    """The replica's clocks are `seconds` away from the primary's; then the primary dies."""
    await shift(scene, scene.second, seconds)
    scene.renew()
    await scene.kill(scene.prim)
    await scene.writes()


def an_hour_back() -> int:
    """Not before the boot of the machine: the kernel refuses that."""
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return -int(min(3600.0, uptime_s / 2))


CASES: tuple[Case, ...] = (
    Case(
        "the replica's clocks jump ten days ahead at a restart of its agent, and the primary dies",
        CLOCK,
        "Durations only are compared, each on one clock: the takeover is as always.",
        lambda scene: apart(scene, DAYS_S),
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
    Case(
        "the replica's clocks jump back at a restart of its agent, and the primary dies",
        CLOCK,
        "Durations only are compared, each on one clock: the takeover is as always.",
        lambda scene: apart(scene, an_hour_back()),
        primary=Primary.CHANGES,
        limit_s=20.0,
    ),
)

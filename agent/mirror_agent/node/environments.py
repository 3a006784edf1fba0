"""Virtual environments of the agent, one beside the other: /opt/mirrorplane/venvs/<begin of the wheel's SHA-256>.

/opt/mirrorplane/venv is a link to the one in use. It is changed by the service's start only (`bootstrap.py`), when no
agent runs: a running agent imports some modules late and starts engines, and must find its own release until it ends.
Guarantee: an environment whose marker `installed.sha256` names the wheel is complete (the marker is written last); it
is used only after the agent in it has said that it can work on this node (`mirror_agent.fitness`).
Limits: the wheel's dependencies come from where pip is configured to find them, with one total deadline a step. Not on
Windows: the first boot installs the agent into a Python without environments there, so nothing is a link, and a
release is changed by replacing the VM.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Final

from mirror_agent.contract import CONTRACT_VERSION, AgentRelease
from mirror_agent.paths import Paths, replace_file
from mirror_agent.platform import HOST, PROCESSES
from mirror_agent.redaction import redact_text

MARKER: Final = "installed.sha256"
NAME_CHARS: Final = 16
INSTALL_TIMEOUT_S: Final = 900.0
FITNESS_TIMEOUT_S: Final = 300.0
_SAID_CHARS: Final = 300


class NotInstalled(RuntimeError):
    """The sentence says which step failed and what it said; what runs was not touched."""


def directory_of(paths: Paths, sha256: str) -> Path:
    return paths.environments / sha256[:NAME_CHARS]


def in_use(paths: Paths) -> Path | None:
    """What the link names; None on a node whose environment is no link: it was installed by a release without them."""
    try:
        return (paths.environment.parent / paths.environment.readlink()).absolute()
    except OSError:
        return None


async def install(paths: Paths, release: AgentRelease, wheel: Path) -> Path:
    """The complete environment of `release`. May be cut off and repeated. Raises NotInstalled."""
    place = directory_of(paths, release.sha256)
    if _installed(place) != release.sha256:
        place.parent.mkdir(parents=True, exist_ok=True)
        await _run([sys.executable, "-m", "venv", "--clear", str(place)], "making the virtual environment")
        pip = [
            str(place / HOST.ENVIRONMENT_PYTHON),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
        ]
        # What is needed is compiled by the check that follows.
        await _run([*pip, "install", "--no-compile", str(wheel)], f"installing {release.wheel_name}")
        await asyncio.to_thread(replace_file, place / MARKER, f"{release.sha256}\n".encode(), 0o644)
    await _check_fitness(place, release)
    return place


async def _check_fitness(place: Path, release: AgentRelease) -> None:
    said = await _run(
        [str(place / HOST.ENVIRONMENT_PYTHON), "-I", "-m", "mirror_agent.fitness"],
        "the new agent's own check",
        limit_s=FITNESS_TIMEOUT_S,
    )
    try:
        document = json.loads(said)
        version, contract = document["version"], document["contract"]
    except (ValueError, KeyError, TypeError):
        raise NotInstalled(f"the new agent's own check said nothing to the point: {said[:_SAID_CHARS]!r}") from None
    if version != release.version:
        raise NotInstalled(f"{release.wheel_name} holds version {version}, ordered was {release.version}")
    if contract != CONTRACT_VERSION:
        raise NotInstalled(f"version {version} speaks contract {contract}, this one {CONTRACT_VERSION}")


def forget_others(paths: Paths, kept: set[Path]) -> list[str]:
    """Removes environments that are neither in use nor `kept`; returns their names."""
    keep = {place.absolute() for place in kept} | {place for place in (in_use(paths),) if place is not None}
    removed = []
    for place in sorted(paths.environments.glob("*")) if paths.environments.is_dir() else []:
        if place.absolute() not in keep:
            shutil.rmtree(place, ignore_errors=True)
            removed.append(place.name)
    return removed


def _installed(place: Path) -> str:
    try:
        return (place / MARKER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


async def _run(command: list[str], what: str, *, limit_s: float = INSTALL_TIMEOUT_S) -> str:
    """Standard output. Nothing of the command is left when it is given up or cancelled. Raises NotInstalled."""
    try:
        process = await asyncio.create_subprocess_exec(
            *HOST.behind_others(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise NotInstalled(f"{what} could not be started: {error.strerror}") from None
    try:
        async with asyncio.timeout(limit_s):
            said, complained = await process.communicate()
    except TimeoutError:
        raise NotInstalled(f"{what} did not end within {limit_s:g} s") from None
    finally:
        if process.returncode is None:
            PROCESSES.kill_below(process.pid)
            PROCESSES.kill_session(process.pid)
            await process.wait()
    if process.returncode != 0:
        text = redact_text(complained.decode(errors="replace").strip())[-_SAID_CHARS:]
        raise NotInstalled(f"{what} ended with status {process.returncode}: {text}")
    return said.decode(errors="replace")

"""Begin and end a lab: in the foreground, detached, and when its daemon no longer answers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lab import registry
from lab.cloud import Cloud
from lab.control import CommandRefused, LabClient
from lab.info import LabNotFound, find_lab, labs_below
from lab.prerequisites import missing_for_azurite, missing_for_lab
from lab.registry import Owner

DOWN_TIMEOUT_S: Final = 30.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLL_S: Final = 0.05


class CannotRun(RuntimeError):
    """This machine lacks something; one sentence with the remedy."""


def check_machine() -> None:
    """Raises `CannotRun`."""
    missing = (*missing_for_lab(), *missing_for_azurite())
    if missing:
        raise CannotRun(f"the lab cannot run here: {'; '.join(missing)} (tools/setup.sh installs what it can)")


async def run_foreground(
    state: Path,
    *,
    with_functions: bool,
    say: Callable[[str], None],
    ready: Callable[[], None],
    only_while: int | None = None,
) -> None:
    """Until a signal, `python -m lab down`, or the end of process `only_while`; everything is gone when it returns. The
    machine has been checked."""
    loop = asyncio.get_running_loop()
    current = asyncio.current_task()
    assert current is not None
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, current.cancel)
    if only_while is not None:
        _terminate_after(only_while)
    async with Cloud(state, say=say, with_functions=with_functions) as cloud:
        _log_to(cloud.directory / "daemon.log")
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, cloud.stop_wanted.set)
        ready()
        await cloud.stop_wanted.wait()
        for number in STOP_SIGNALS:  # a second Ctrl-C must not interrupt the cleaning
            loop.add_signal_handler(number, lambda: None)
        say("taking everything away")
    say(f"lab {cloud.lab_id} is gone")


def _terminate_after(pid: int) -> None:
    """SIGTERM to this process as soon as that one has ended, or if it has: one end, whatever asked for it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        signal.raise_signal(signal.SIGTERM)
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(descriptor, ended)


def _log_to(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)


def start_detached(arguments: list[str], state: Path) -> int:
    """Start the lab in a session of its own, show its progress until it is up. The exit status for the shell."""
    check_machine()
    state.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    log = state / "detached.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments, "--progress-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    up = False
    try:
        with os.fdopen(reading) as progress:
            for line in progress:
                up = up or line.rstrip() == "ready"
                if line.rstrip() != "ready":
                    print(line, end="", flush=True)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        return 130
    if up:
        return 0
    child.wait()
    print(f"the lab did not come up (exit status {child.returncode}); see {log}", file=sys.stderr)
    return 1


def take_down(state: Path, lab_id: str | None, say: Callable[[str], None]) -> None:
    """End the lab below `state` and clean up after dead ones; among several that live one must be named.

    Raises `CannotRun`.
    """
    found = [owner for owner in labs_below(state) if lab_id in (None, owner.lab_id)]
    if not found:
        say("no lab is here")
    living = [owner.lab_id for owner in found if owner.alive]
    if len(living) > 1:
        raise CannotRun(f"several labs run below {state}: {', '.join(living)}; choose one: python -m lab --lab ID down")
    for owner in found:
        if owner.alive:
            _ask_to_stop(owner, state, say)
        removed = registry.clean(owner)
        if owner.alive:
            raise CannotRun(f"process {owner.pid} of lab {owner.lab_id} does not end")
        remains = f"; it had left {', '.join(removed)}" if removed else ""
        say(f"lab {owner.lab_id} is gone{remains}")


def _ask_to_stop(owner: Owner, state: Path, say: Callable[[str], None]) -> None:
    try:
        LabClient(find_lab(state, owner.lab_id).control_socket).call("stop", timeout_s=5)
    except (OSError, CommandRefused, LabNotFound):
        _signal(owner, signal.SIGTERM)
    end = time.monotonic() + DOWN_TIMEOUT_S
    while owner.alive:
        if time.monotonic() >= end:
            say(f"lab {owner.lab_id} does not end by itself; killing process {owner.pid}")
            _signal(owner, signal.SIGKILL)
            end = time.monotonic() + DOWN_TIMEOUT_S
        time.sleep(POLL_S)


def _signal(owner: Owner, number: int) -> None:
    if owner.alive:
        try:
            os.kill(owner.pid, number)
        except ProcessLookupError:
            return

"""The node's line to the control plane: heartbeats out, commands and configuration in."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from mirror_agent.clock import BOOT_CLOCK, Clock
from mirror_agent.contract import Command, CommandResult, Heartbeat, NodeConfiguration
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import NODE_PATHS, Paths


@dataclass(frozen=True)
class ControlPlaneLink:
    """How the line is: for `mirrorctl status`."""

    connected: bool
    last_success_s_ago: float | None
    buffered: int
    dropped: int
    last_error: str


class ControlPlaneClient:
    def __init__(
        self,
        *,
        url: str,
        credential: str,
        configuration_version: int,
        interval_s: float,
        sample: Callable[[], Heartbeat],
        on_command: Callable[[Command], None],
        on_configuration: Callable[[NodeConfiguration], None],
        log: RecordEvent,
        paths: Paths = NODE_PATHS,
        clock: Clock = BOOT_CLOCK,
        jitter: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Until cancelled."""
        raise NotImplementedError

    def poke(self) -> None:
        """Something changed: take a sample and send it now."""
        raise NotImplementedError

    def report(self, result: CommandResult) -> None:
        """The result of a command; repeated until the control plane has confirmed it."""
        raise NotImplementedError

    @property
    def link(self) -> ControlPlaneLink:
        raise NotImplementedError

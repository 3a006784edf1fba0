"""How a command ends: exit codes for scripts, and failures with their sentence."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Contract with scripts; documented in `mirrorplane --help`."""

    DONE = 0
    REFUSED = 1  # the control plane said no, with a reason
    USAGE = 2
    UNREACHABLE = 3  # no answer: nothing is known about what happened
    NOT_SIGNED_IN = 4
    OPERATION_FAILED = 5
    TIMED_OUT = 6


class Failed(Exception):
    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code

"""Asking the agent of this node over its own line (a Unix socket on Linux); blocking, for `mirrorctl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from mirror_agent.platform import HOST
from mirror_agent.web.actions import MAX_LINE_BYTES

QUERY_TIMEOUT_S: Final = 10.0
ACTION_TIMEOUT_S: Final = 180.0
_MAX_ANSWER_BYTES: Final = 256 * MAX_LINE_BYTES


class AgentAway(RuntimeError):
    """No agent answers on this node."""


class AgentRefused(RuntimeError):
    """The agent answered with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask(socket_path: Path, op: str, *, timeout_s: float = QUERY_TIMEOUT_S, **fields: object) -> Any:
    """The `result` of one request. Raises AgentAway, AgentRefused, PermissionError, TimeoutError."""
    request = json.dumps({"op": op, **fields}).encode() + b"\n"
    try:
        with HOST.connect_local(socket_path, timeout_s) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                line = stream.readline(_MAX_ANSWER_BYTES)
    except (FileNotFoundError, ConnectionError) as error:
        raise AgentAway(f"no agent answers on {socket_path} ({error.strerror})") from None
    except TimeoutError:
        raise TimeoutError(f"the agent did not answer {op!r} in {timeout_s:g} s") from None
    if not line.endswith(b"\n"):
        raise AgentAway(f"the agent on {socket_path} hung up in the middle of its answer")
    answer = json.loads(line)
    if answer["ok"]:
        return answer["result"]
    raise AgentRefused(answer["error"]["code"], answer["error"]["message"])

"""Asking the agent of this node over its Unix socket; blocking, for `mirrorctl`."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

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
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(socket_path))
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                line = stream.readline(_MAX_ANSWER_BYTES)
        except (FileNotFoundError, ConnectionError) as error:
            raise AgentAway(f"no agent answers on {socket_path} ({error.strerror})") from None
        except PermissionError:
            raise PermissionError(f"{socket_path} is root's; use sudo") from None
        except TimeoutError:
            raise TimeoutError(f"the agent did not answer {op!r} in {timeout_s:g} s") from None
    if not line.endswith(b"\n"):
        raise AgentAway(f"the agent on {socket_path} hung up in the middle of its answer")
    answer = json.loads(line)
    if answer["ok"]:
        return answer["result"]
    raise AgentRefused(answer["error"]["code"], answer["error"]["message"])

"""What people did with `mirrorctl` on the files of a pair, told to the agent, which writes it into the node's history.

`mirrorctl` leaves one file for each order, with who gave it; the agent takes them in order, also those of the time it
did not run. Guarantee: a secret that gives access (a link, an admission) is shown only after its order is on the disk.
Limits: MAX_WAITING; further orders are refused until the agent has taken them.
"""

from __future__ import annotations

import getpass
import os
import secrets
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, ValidationError

from mirror_agent.contract import Contract
from mirror_agent.eventlog import RecordEvent
from mirror_agent.pair.documents import complaint
from mirror_agent.pair.files import PairFiles

MAX_WAITING: Final = 500


class Order(Contract):
    """`order` in mirrorctl's words; `details`: what it was about, nothing secret."""

    order: str
    at: AwareDatetime
    made_by: str
    details: dict[str, str]


def note(files: PairFiles, order: str, now: datetime, **details: str) -> None:
    """Raises ValueError when the agent has not taken any for long, OSError of the disk."""
    waiting = _waiting(files)
    if len(waiting) >= MAX_WAITING:
        raise ValueError(
            f"{len(waiting)} orders wait to be recorded; is the agent running? systemctl status mirrorplane-agent"
        )
    made = Order(order=order, at=now, made_by=_caller(), details=details)
    name = f"{now.timestamp():017.6f}-{secrets.token_hex(4)}.json"
    files.write(files.orders / name, made.model_dump_json(by_alias=True).encode() + b"\n")


def record(files: PairFiles, log: RecordEvent) -> None:
    """Into the history, the oldest first."""
    for path in _waiting(files):
        try:
            found = Order.model_validate_json(path.read_bytes())
        except ValidationError as error:
            log("pair.order-unreadable", reason=f"{path.name}: {complaint(error)}")
        else:
            at = found.at.isoformat(timespec="seconds")
            log("pair.ordered", order=found.order, by=found.made_by, at=at, **found.details)
        path.unlink(missing_ok=True)


def _waiting(files: PairFiles) -> list[Path]:
    try:
        return sorted(path for path in files.orders.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []


def _caller() -> str:
    if sys.platform == "win32":
        return getpass.getuser()
    before_sudo = os.environ.get("SUDO_USER")
    return f"{before_sudo} (sudo)" if before_sudo else f"uid {os.getuid()}"

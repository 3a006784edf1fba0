"""What others need to know of a running lab: `lab.json`, and `tokens.json` (0600) with its secrets.

`lab.json` exists exactly while the lab is up: written when everything answers, removed first when it goes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from lab.registry import Owner, owners

FILE: Final = "lab.json"
TOKENS: Final = "tokens.json"


class LabNotFound(RuntimeError):
    """No lab, or more than one, and none was named."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class LabInfo(_Document):
    """Addresses and files of one lab. `control_plane_url` is None in a lab without the Functions host."""

    id: str
    pid: int
    directory: Path
    control_socket: Path
    service_address: str
    control_plane_url: str | None
    arm_url: str
    table_url: str
    queue_url: str
    subscription_id: str
    ca: Path
    tokens: Path
    logs: dict[str, Path]

    def read_tokens(self) -> LabTokens:
        return LabTokens.model_validate_json(self.tokens.read_text())


class LabTokens(_Document):
    """Secrets of one lab: `admin` is the control plane's bootstrap token, `lab_key` opens ARM's /lab/ endpoints."""

    admin: str = Field(repr=False)
    lab_key: str = Field(repr=False)
    identity_header: str = Field(repr=False)
    identity_endpoint: str
    storage: str = Field(repr=False)
    function_keys: Path


def write_info(info: LabInfo) -> None:
    path = info.directory / FILE
    new = path.with_suffix(".new")
    new.write_text(info.model_dump_json(by_alias=True, indent=1) + "\n")
    new.replace(path)


def write_tokens(path: Path, tokens: LabTokens) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(tokens.model_dump_json(by_alias=True, indent=1) + "\n")


def labs_below(state: Path) -> list[Owner]:
    """The registered labs, dead ones too, whose directory lies below `state`."""
    return [owner for owner in owners() if Path(owner.directory).parent == state]


def find_lab(state: Path, lab_id: str | None = None) -> LabInfo:
    """The running lab below `state`; `lab_id` chooses among several. Raises `LabNotFound`."""
    alive = [owner for owner in labs_below(state) if owner.alive and lab_id in (None, owner.lab_id)]
    ready = [owner for owner in alive if (Path(owner.directory) / FILE).exists()]
    if not ready:
        starting = " (one is starting)" if alive else ""
        raise LabNotFound(f"no lab runs below {state}{starting}; start one with: python -m lab up --detach")
    if len(ready) > 1:
        names = ", ".join(owner.lab_id for owner in ready)
        raise LabNotFound(f"several labs run below {state}: {names}; choose one with --lab ID")
    return LabInfo.model_validate_json((Path(ready[0].directory) / FILE).read_text())

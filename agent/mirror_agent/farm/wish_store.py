"""What the operator wants of this node, kept over restarts of the agent and of the machine.

Problem: a node that somebody stopped, or that gave up, must not come back by itself with the next boot.
Guarantee: replaced atomically and flushed; `load` answers what was saved last. A damaged file is kept for inspection
and counts as RUN: a farm lives by its nodes being there, and whoever stopped this one will see it in the farm again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mirror_agent.core.model import Wish
from mirror_agent.eventlog import EventLog
from mirror_agent.paths import SECRET_FILE_MODE, Paths, private_directory, replace_file

FILE_NAME: Final = "farm.json"


class KeptWish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    wish: Wish = Wish.RUN
    reason: str = ""


class WishStore:
    def __init__(self, paths: Paths, log: EventLog) -> None:
        self._path = private_directory(paths.state_dir) / FILE_NAME
        self._log = log

    @property
    def path(self) -> Path:
        return self._path

    def load(self) -> KeptWish:
        try:
            return KeptWish.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return KeptWish()
        except ValidationError as error:
            aside = self._path.with_name(f"{FILE_NAME}.damaged")
            self._path.replace(aside)
            self._log.record_decision("farm.wish-damaged", path=str(aside), errors=error.error_count())
            return KeptWish()

    def save(self, kept: KeptWish) -> None:
        """Blocks until it is on the disk; OSError when that refuses."""
        replace_file(self._path, kept.model_dump_json().encode(), SECRET_FILE_MODE)

"""What a node remembers of its last rollout order, over its own restart: /var/lib/mirrorplane/rollout.json.

Three write it, one at a time: the agent that takes the order, then the service's start (`settle_trial` of
bootstrap.py, which puts the new environment in place while no agent runs), then the agent that has to prove itself.
They may be of different releases, so unknown fields are ignored and each field has a default.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mirror_agent.contract import RolloutStage
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import SECRET_FILE_MODE, Paths, replace_file

UNDER_WAY: Final = frozenset({RolloutStage.RESTARTING, RolloutStage.PROVING})


class RolloutNote(BaseModel):
    """`candidate`: the environment to be put in place, "" when only a configuration is taken. `previous`: the one to
    return to. `starts` counts starts of the candidate; `failed` asks the next start to return."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order: str = ""
    stage: RolloutStage = RolloutStage.IDLE
    reason: str = ""
    configuration_version: int = 0
    version: str = ""
    candidate: str = ""
    previous: str = ""
    prove_within_s: float = 180.0
    starts: int = 0
    failed: bool = False


def load_note(paths: Paths, log: RecordEvent) -> RolloutNote:
    """An empty one when there is none, or it cannot be read: then no order is known, and nothing is under way."""
    try:
        return RolloutNote.model_validate_json(paths.rollout_note.read_bytes())
    except FileNotFoundError:
        return RolloutNote()
    except (OSError, ValidationError) as error:
        log("rollout.note-unreadable", path=str(paths.rollout_note), error=type(error).__name__)
        return RolloutNote()


def store_note(paths: Paths, note: RolloutNote) -> None:
    """Raises OSError."""
    replace_file(paths.rollout_note, note.model_dump_json(indent=1).encode() + b"\n", SECRET_FILE_MODE)


def trial_under_way(paths: Paths, log: RecordEvent) -> bool:
    """A new agent is being tried here: it must be started again even if it refuses its configuration, so that the
    service's start can return to the previous one."""
    note = load_note(paths, log)
    return note.candidate != "" and note.stage in UNDER_WAY

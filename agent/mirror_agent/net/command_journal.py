"""Commands of the control plane are done at most once, also when the agent is killed in between.

Problem: the control plane repeats a command until it has seen a result. An agent that did a swap and was killed before
it could say so must not swap again.
Guarantee: a command is written down before it is handed on. After a restart, one without a result is reported as
failed, "unknown outcome"; it is never done again. Results are kept until the control plane has confirmed exactly them.
Limits: the last MAX_KNOWN commands are remembered.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from mirror_agent.contract import CommandResult
from mirror_agent.eventlog import RecordEvent
from mirror_agent.paths import SECRET_FILE_MODE, replace_file

MAX_KNOWN: Final = 256
MAX_RESULTS_PER_POST: Final = 32
assert MAX_RESULTS_PER_POST <= MAX_KNOWN
LOST_MESSAGE: Final = "the agent was restarted while the command ran; look at the node's state and ask again if needed"


class _Journal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    known: list[str] = []
    results: dict[str, CommandResult] = {}


class CommandJournal:
    """Small and rare: written by the caller's thread, one atomic file."""

    def __init__(self, path: Path, log: RecordEvent) -> None:
        self._path = path
        self._journal = _load(path, log)
        self._told: set[str] = set()
        for name in self._journal.known:
            result = self._journal.results.get(name)
            if result is not None and result.status == "accepted":
                self._journal.results[name] = CommandResult(id=name, status="failed", message=LOST_MESSAGE)

    def begin(self, command_id: str) -> bool:
        """True for a command that was never seen: it is now written down as accepted and may be done."""
        journal = self._journal
        if command_id in journal.known:
            return False
        journal.known.append(command_id)
        journal.results[command_id] = CommandResult(id=command_id, status="accepted")
        for forgotten in journal.known[:-MAX_KNOWN]:
            journal.results.pop(forgotten, None)
        del journal.known[:-MAX_KNOWN]
        self._save()
        return True

    def report(self, result: CommandResult) -> None:
        if result.id in self._journal.known:
            self._journal.results[result.id] = result
            self._told.discard(result.id)
            self._save()

    def pending(self) -> tuple[CommandResult, ...]:
        """Results to send, oldest command first."""
        results = self._journal.results
        due = (results[name] for name in self._journal.known if name in results and name not in self._told)
        return tuple(itertools.islice(due, MAX_RESULTS_PER_POST))

    def confirm(self, sent: tuple[CommandResult, ...], confirmed: tuple[str, ...]) -> None:
        """Forget what was confirmed, if it is still what was sent; `accepted` is kept, but not said again."""
        finished = False
        for result in sent:
            if result.id not in confirmed or self._journal.results.get(result.id) != result:
                continue
            if result.status == "accepted":
                self._told.add(result.id)
            else:
                del self._journal.results[result.id]
                finished = True
        if finished:
            self._save()

    def _save(self) -> None:
        replace_file(self._path, self._journal.model_dump_json().encode(), SECRET_FILE_MODE)


def _load(path: Path, log: RecordEvent) -> _Journal:
    """A damaged journal (it is replaced atomically, so a bad disk) is set aside: the node must still take commands."""
    try:
        return _Journal.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Journal()
    except ValidationError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log("commands.journal-damaged", path=str(aside), errors=error.error_count())
        return _Journal()

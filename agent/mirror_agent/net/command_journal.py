"""Commands of the control plane are done at most once, also when the agent is killed in between.

Problem: the control plane repeats a command until it has seen a result. An agent that did a swap and was killed before
it could say so must not swap again.
Guarantee: a command that was begun and saved is never begun again; after a restart, one without a result is reported as
failed, "unknown outcome". Results are kept until the control plane has confirmed exactly them. Only `save` touches the
disk, in a thread, so a stalled disk holds up the line to the control plane and nothing else.
Limits: the last MAX_KNOWN commands are remembered. A disk that refuses to write is logged and the command done all the
same: an operator must be able to move the application away from a full disk.
"""

from __future__ import annotations

import asyncio
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
    """Small and rare; one atomic file."""

    def __init__(self, path: Path, log: RecordEvent) -> None:
        self._path = path
        self._log = log
        self._journal = _load(path, log)
        self._told: set[str] = set()
        self._changed = False
        for name in self._journal.known:
            result = self._journal.results.get(name)
            if result is not None and result.status == "accepted":
                self._journal.results[name] = CommandResult(id=name, status="failed", message=LOST_MESSAGE)

    def begin(self, command_id: str) -> bool:
        """True for a command that was never seen: after the next `save` it may be done."""
        journal = self._journal
        if command_id in journal.known:
            return False
        journal.known.append(command_id)
        journal.results[command_id] = CommandResult(id=command_id, status="accepted")
        for forgotten in journal.known[:-MAX_KNOWN]:
            journal.results.pop(forgotten, None)
        del journal.known[:-MAX_KNOWN]
        self._changed = True
        return True

    def report(self, result: CommandResult) -> None:
        if result.id in self._journal.known:
            self._journal.results[result.id] = result
            self._told.discard(result.id)
            self._changed = True

    def pending(self) -> tuple[CommandResult, ...]:
        """Results to send, oldest command first."""
        results = self._journal.results
        due = (results[name] for name in self._journal.known if name in results and name not in self._told)
        return tuple(itertools.islice(due, MAX_RESULTS_PER_POST))

    def confirm(self, sent: tuple[CommandResult, ...], confirmed: tuple[str, ...]) -> None:
        """Forget what was confirmed, if it is still what was sent; `accepted` is kept, but not said again."""
        for result in sent:
            if result.id not in confirmed or self._journal.results.get(result.id) != result:
                continue
            if result.status == "accepted":
                self._told.add(result.id)
            else:
                del self._journal.results[result.id]
                self._changed = True

    async def save(self) -> None:
        """Put what has changed on the disk."""
        if not self._changed:
            return
        self._changed = False
        content = self._journal.model_dump_json().encode()
        try:
            await asyncio.to_thread(replace_file, self._path, content, SECRET_FILE_MODE)
        except OSError as error:
            self._changed = True
            self._log("commands.journal-not-written", path=str(self._path), error=error.strerror or str(error))


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

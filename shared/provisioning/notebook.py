"""What a reconcile tick remembers for the next one, as small texts in the cluster's record (`resources.facts`).

Nothing in it is needed for correctness: a lost notebook costs some reads and at most one repeated PUT of the same
body. It saves reads (what is done), carries the URL of an accepted ARM operation (to learn why it failed), and keeps
the pauses that Azure or our back-off demand, so that a restarted function app honours them too.
Frozen: every change gives a new notebook; `facts()` is what is stored. Notes of an older operation are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from shared.azure.async_resource import InFlight
from shared.azure.faults import LIMITED, Fault, FaultKind
from shared.azure.resources import ResourceRef, ResourceType
from shared.provisioning.limits import Limits

_OPERATION: Final = "operation"
_DUE: Final = "due"
_DONE: Final = "done"
_WITNESS: Final = "witness"
_ERROR: Final = "error"
_NOTE: Final = "note "
# ARM messages can be long; the record must stay small.
_MAX_MESSAGE_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class Note:
    """Of one resource that is not finished."""

    operation_url: str | None = None
    since: datetime | None = None
    failures: int = 0
    attempts: int = 0
    not_before: datetime | None = None
    fault: Fault | None = None

    @property
    def in_flight(self) -> InFlight | None:
        return None if self.operation_url is None else InFlight(self.operation_url)


@dataclass(frozen=True, slots=True)
class Notebook:
    operation_id: str
    done: frozenset[ResourceRef] = frozenset()
    notes: Mapping[ResourceRef, Note] = field(default_factory=dict)
    due: datetime | None = None
    witness_ready: bool = False
    error: str | None = None
    """JSON of the error this operation ended with; set together with the settled state of the record."""

    @classmethod
    def read(cls, facts: Mapping[str, str], operation_id: str) -> Notebook:
        witness_ready = facts.get(_WITNESS) == "ready"
        if facts.get(_OPERATION) != operation_id:
            return cls(operation_id, witness_ready=witness_ready)
        return cls(
            operation_id,
            done=frozenset(_ref(text) for text in facts.get(_DONE, "").split(" ") if text),
            notes={_ref(key.removeprefix(_NOTE)): _note(text) for key, text in facts.items() if key.startswith(_NOTE)},
            due=_time(facts.get(_DUE)),
            witness_ready=witness_ready,
            error=facts.get(_ERROR),
        )

    def facts(self) -> dict[str, str]:
        facts = {_OPERATION: self.operation_id}
        if self.done:
            facts[_DONE] = " ".join(sorted(_text(ref) for ref in self.done))
        for ref, note in self.notes.items():
            facts[_NOTE + _text(ref)] = _note_text(note)
        if self.due is not None:
            facts[_DUE] = self.due.isoformat()
        if self.witness_ready:
            facts[_WITNESS] = "ready"
        if self.error is not None:
            facts[_ERROR] = self.error
        return facts

    def note(self, ref: ResourceRef) -> Note:
        return self.notes.get(ref, Note())

    def resting(self, ref: ResourceRef, now: datetime) -> float:
        """Seconds until the resource may be asked again; 0 if it may be asked now."""
        not_before = self.note(ref).not_before
        return 0.0 if not_before is None else max(0.0, (not_before - now).total_seconds())

    def finish(self, ref: ResourceRef) -> Notebook:
        return replace(self, done=self.done | {ref}, notes=_without(self.notes, ref))

    def wait(self, ref: ResourceRef, in_flight: InFlight | None, delay_s: float, now: datetime) -> Notebook:
        before = self.note(ref)
        note = replace(
            before,
            operation_url=None if in_flight is None else in_flight.operation_url,
            since=before.since or now,
            not_before=now + timedelta(seconds=delay_s),
        )
        return replace(self, notes={**self.notes, ref: note})

    def fail(self, ref: ResourceRef, fault: Fault, delay_s: float, now: datetime) -> Notebook:
        before = self.note(ref)
        note = Note(
            operation_url=before.operation_url if fault.kind is FaultKind.TRANSIENT else None,
            since=before.since or now,
            failures=before.failures + 1,
            attempts=before.attempts + (1 if fault.kind in LIMITED else 0),
            not_before=now + timedelta(seconds=delay_s),
            fault=replace(fault, message=fault.message[:_MAX_MESSAGE_CHARS]),
        )
        return replace(self, notes={**self.notes, ref: note})

    def last_fault(self) -> tuple[ResourceRef, Fault] | None:
        for ref in sorted(self.notes):
            fault = self.notes[ref].fault
            if fault is not None:
                return ref, fault
        return None


def retry_delay_s(note: Note, fault: Fault, limits: Limits) -> float:
    """The server's Retry-After, or exponential back-off by the number of failures before."""
    if fault.retry_after_s is not None:
        return fault.retry_after_s
    if fault.kind is FaultKind.CHANGED:
        return limits.poll_s
    back_off: float = min(limits.first_retry_s * 2.0**note.failures, limits.longest_retry_s)
    return back_off


def poll_delay_s(note: Note, asked_s: float, now: datetime, limits: Limits) -> float:
    """Young work is looked at often, old work rarely; never sooner than ARM asked for."""
    age_s = 0.0 if note.since is None else (now - note.since).total_seconds()
    return max(asked_s, min(max(age_s / 10, limits.poll_s), limits.longest_poll_s))


def _without(notes: Mapping[ResourceRef, Note], ref: ResourceRef) -> dict[ResourceRef, Note]:
    return {key: note for key, note in notes.items() if key != ref}


def _text(ref: ResourceRef) -> str:
    return f"{ref.type.value}|{ref.group}|{ref.name}"


def _ref(text: str) -> ResourceRef:
    kind, group, name = text.split("|")
    return ResourceRef(ResourceType(kind), group, name)


def _note_text(note: Note) -> str:
    fault = note.fault
    return json.dumps(
        {
            "url": note.operation_url,
            "since": None if note.since is None else note.since.isoformat(),
            "failures": note.failures,
            "attempts": note.attempts,
            "notBefore": None if note.not_before is None else note.not_before.isoformat(),
            "fault": None if fault is None else [fault.kind.value, fault.code, fault.message, fault.status],
        },
        sort_keys=True,
    )


def _note(text: str) -> Note:
    body = json.loads(text)
    fault = body["fault"]
    return Note(
        operation_url=body["url"],
        since=_time(body["since"]),
        failures=body["failures"],
        attempts=body["attempts"],
        not_before=_time(body["notBefore"]),
        fault=None if fault is None else Fault(FaultKind(fault[0]), fault[1], fault[2], fault[3]),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

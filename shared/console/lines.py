"""The fleet as lines, one per cluster, and the text in which an audit leaves them. Pure.

Ten thousand lines are read in some tens of milliseconds: of each only what order and filters ask for is taken out of
the text; the rest follows where a page shows it (`PostedLine`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mirror_agent.contract import ALL_NODES, NodeName

from shared.health.verdict import ClusterVerdict, Health
from shared.model.audit import AuditRecord

NOT_AUDITED: Final = ("not-audited", "no audit has looked at this cluster yet")
ENDING: Final = ("being-deleted", "the cluster is being deleted")
UNREAD: Final = ("not-audited", "the last audit could not read what is stored about this cluster")

# Before the letters of a farm's serving nodes, in the place where a mirror's one stands.
_UP: Final = "up:"
_STATES: Final[dict[object, Health]] = {state.value: state for state in Health}
_FIELDS: Final = 8


@dataclass(frozen=True, slots=True)
class Line:
    """`nodes`: state and sentence of each. `up`: of a farm, the nodes that serve."""

    cluster: str
    state: Health
    rule: str
    sentence: str
    since: datetime | None = None
    serving: NodeName | None = None
    nodes: Mapping[NodeName, tuple[Health, str]] = field(default_factory=dict)
    paused_by: tuple[str, ...] = ()
    up: tuple[NodeName, ...] = ()

    def line(self) -> Line:
        return self


class PostedLine:
    """A line as it stands in the text: read like a `Line`, made into one by `line`."""

    __slots__ = ("_row", "cluster", "state")

    def __init__(self, row: list[object]) -> None:
        """Raises ValueError for a row that is none."""
        if len(row) != _FIELDS or row[1] not in _STATES:
            raise ValueError(f"a line of the fleet's board has {len(row)} fields of an unknown kind: {str(row)[:80]}")
        self.cluster = str(row[0])
        self.state = _STATES[row[1]]
        self._row = row

    @property
    def rule(self) -> str:
        return str(self._row[2])

    @property
    def since(self) -> datetime | None:
        return datetime.fromisoformat(self._row[4]) if isinstance(self._row[4], str) else None

    @property
    def paused_by(self) -> tuple[str, ...]:
        return self.line().paused_by

    def line(self) -> Line:
        return _line(self._row)


def unknown_line(cluster: str, why: tuple[str, str] = NOT_AUDITED) -> Line:
    return Line(cluster, Health.UNKNOWN, *why)


def audit_line(name: str, audit: AuditRecord | None) -> Line:
    if audit is None or audit.verdict is None:
        return unknown_line(name)
    track = audit.verdict
    nodes = {node: (Health(seen.state), seen.sentence) for node, seen in audit.nodes.items()}
    state, serving = Health(track.state), audit.serving
    return Line(name, state, track.rule, track.sentence, track.since, serving, nodes, audit.paused_by, audit.up)


def verdict_line(verdict: ClusterVerdict) -> Line:
    nodes = {node: (seen.state, seen.sentence) for node, seen in verdict.nodes.items()}
    return Line(
        verdict.cluster,
        verdict.state,
        verdict.rule,
        verdict.sentence,
        verdict.since,
        verdict.serving,
        nodes,
        verdict.paused_by,
        verdict.up,
    )


def text_of(lines: Iterable[Line]) -> str:
    """The same lines give the same text, whatever their order."""
    rows = [
        [
            line.cluster,
            line.state.value,
            line.rule,
            line.sentence,
            None if line.since is None else line.since.isoformat(),
            f"{_UP}{''.join(line.up)}" if line.up else line.serving,
            {node: [state.value, sentence] for node, (state, sentence) in sorted(line.nodes.items())},
            list(line.paused_by),
        ]
        for line in sorted(lines, key=lambda line: line.cluster)
    ]
    return json.dumps(rows, separators=(",", ":"))


def lines_of(text: str, changes: Mapping[str, bool]) -> tuple[Line | PostedLine, ...]:
    """In the order of their names. `changes`: clusters that came or went since, and are there or not."""
    found: dict[str, Line | PostedLine] = {row[0]: PostedLine(row) for row in json.loads(text)}
    for name, exists in changes.items():
        if not exists:
            found.pop(name, None)
        elif name not in found:
            found[name] = unknown_line(name)
    return tuple(found[name] for name in sorted(found))


def _up(serving: object) -> tuple[NodeName, ...]:
    names = serving.removeprefix(_UP) if isinstance(serving, str) and serving.startswith(_UP) else ""
    return tuple(node for node in ALL_NODES if node in names)


def _line(row: list[object]) -> Line:
    match row:
        case [str(name), str(state), str(rule), str(sentence), since, serving, dict(nodes), list(paused)]:
            return Line(
                name,
                Health(state),
                rule,
                sentence,
                datetime.fromisoformat(since) if isinstance(since, str) else None,
                next((node for node in ALL_NODES if node == serving), None),
                {node: (Health(seen), text) for node, (seen, text) in nodes.items()},
                tuple(str(reason) for reason in paused),
                _up(serving),
            )
    raise ValueError(f"a line of the fleet's board has {len(row)} fields of an unknown kind: {str(row)[:80]}")

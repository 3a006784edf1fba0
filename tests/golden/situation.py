"""Situations as a person writes them down, and decisions as a person reads them.

A situation is a named base (`bases.json`) and the facts that differ from it; `state_of` makes the core's `State` of
both, `told` says what the core decides in it. Instants are written relative to the moment of the decision ("5 s ago",
"in 2 s", "never"), records as "epoch 7, primary a, in sync a b". An unknown fact is an error, never ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from mirror_agent.core.actions import Action, FinishOrder, Persist, WriteWitness
from mirror_agent.core.decide import decide
from mirror_agent.core.model import (
    NEVER,
    NOBODY,
    SERVING,
    Acknowledging,
    App,
    Durable,
    Epoch,
    Instant,
    Link,
    Mirror,
    Mode,
    Node,
    Order,
    Peer,
    Phase,
    Proposal,
    Record,
    Role,
    State,
    Timing,
    Unresolved,
    Wish,
    Witness,
    grant_s,
    needs_promise,
    probe_ok,
)

HERE = Path(__file__).parent
DECISIONS = HERE / "decisions"
NOW = Instant(1000.0)

Fact = str | int | float | bool | list[str] | dict[str, str]
Facts = Mapping[str, Fact]


class UnreadableSituation(ValueError):
    """A golden file says something this notation does not know; the message names the fact."""


def bases() -> dict[str, dict[str, Fact]]:
    found: dict[str, dict[str, Fact]] = json.loads((HERE / "bases.json").read_text(encoding="utf-8"))
    return found


def instant(text: Fact) -> Instant:
    """The instant written as "never", "now", "5 s ago" or "in 2 s"."""
    match re.fullmatch(r"(never)|(now)|([\d.]+) s ago|in ([\d.]+) s", str(text)):
        case None:
            raise UnreadableSituation(f"{text!r} is no instant; write 'never', 'now', '5 s ago' or 'in 2 s'")
        case found if found[1]:
            return NEVER
        case found if found[2]:
            return NOW
        case found if found[3]:
            return Instant(NOW - float(found[3]))
        case found:
            return Instant(NOW + float(found[4]))


def record(text: Fact) -> Record | None:
    """The record written "epoch 7, primary a, in sync a b, nonce disk-a.1, rule takeover"; None for "unknown".

    Nonce and rule may be left out.
    """
    if text == "unknown":
        return None
    found = re.fullmatch(
        r"epoch (\d+), primary (\w+), in sync ([\w ]+?)(?:, nonce ([\w.-]+))?(?:, rule ([\w -]+))?", str(text)
    )
    if found is None:
        raise UnreadableSituation(f"{text!r} is no record; write 'epoch 7, primary a, in sync a b, nonce disk-a.1'")
    primary = NOBODY if found[2] == "nobody" else Node(found[2])
    members = frozenset(Node(name) for name in found[3].split())
    return Record(Epoch(int(found[1])), primary, members, found[4] or "", found[5] or "")


def _known_record(text: Fact) -> Record:
    found = record(text)
    if found is None:
        raise UnreadableSituation("this record cannot be unknown")
    return found


def _unresolved(text: Fact, etag: str) -> Unresolved | None:
    if text == "none":
        return None
    wanted = _known_record(text)
    proposal = Proposal(wanted.epoch, wanted.primary, wanted.in_sync, wanted.rule)
    return Unresolved(proposal, wanted.nonce, etag)


def _order(text: Fact) -> Order | None:
    if text == "none":
        return None
    found = re.fullmatch(r"(swap|restart|force) by (\w+): (.+)", str(text))
    if found is None:
        raise UnreadableSituation(f"{text!r} is no order; write 'swap by alice: patching'")
    return Order(found[1], "order-1", found[2], found[3])


def _failures(entries: Fact) -> tuple[tuple[str, Instant, str], ...]:
    assert isinstance(entries, dict)
    split = {kind: text.split(": ", 1) for kind, text in entries.items()}
    return tuple((kind, instant(at), message) for kind, (at, message) in split.items())


Part = dict[str, object]
ETAG = "etag-7"

# fact -> (part of the state, field, how it is read)
FACTS: dict[str, tuple[str, str, Callable[[Fact], object]]] = {
    "me": ("state", "me", lambda f: Node(str(f))),
    "role": ("state", "role", lambda f: Role(str(f))),
    "epoch": ("state", "epoch", lambda f: Epoch(int(str(f)))),
    "role since": ("state", "role_since", instant),
    "started": ("state", "started_at", instant),
    "application": ("state", "app", lambda f: App(str(f))),
    "application error": ("state", "app_error", str),
    "failover": ("state", "failover", lambda f: {"on": True, "off": False}[str(f)]),
    "failover switched by": ("state", "failover_by", str),
    "order": ("state", "order", _order),
    "order given": ("state", "order_since", instant),
    "woke up": ("state", "woke_at", instant),
    "drained since": ("state", "drained_since", instant),
    "promise held until": ("state", "held_until", instant),
    "promise given until": ("state", "granted_until", instant),
    "application failed": (
        "state",
        "restarts",
        lambda f: tuple(instant(at) for at in f) if isinstance(f, list) else (),
    ),
    "won": ("state", "won", str),
    "doing": ("state", "doing", lambda f: frozenset(f) if isinstance(f, list) else frozenset()),
    "failures": ("state", "failures", _failures),
    "record": ("witness", "record", record),
    "record read": ("witness", "known_at", instant),
    "record failed": ("witness", "failed_at", instant),
    "record failure": ("witness", "failure", str),
    "unresolved write": ("witness", "unresolved", lambda f: _unresolved(f, ETAG)),
    "peer heard": ("peer", "heard_at", instant),
    "peer idle since": ("peer", "idle_since", instant),
    "peer role": ("peer", "role", lambda f: Role(str(f))),
    "peer phase": ("peer", "phase", lambda f: Phase(str(f))),
    "peer epoch": ("peer", "epoch", lambda f: Epoch(int(str(f)))),
    "peer leaving": ("peer", "leaving", bool),
    "peer trusted": ("peer", "trusted", bool),
    "peer prepared": ("peer", "prepared", lambda f: Epoch(int(str(f)))),
    "peer asks to prepare": ("peer", "asks_prepare", lambda f: Epoch(int(str(f)))),
    "peer record": ("peer", "record", _known_record),
    "engine": ("mirror", "mode", lambda f: Mode(str(f))),
    "engine epoch": ("mirror", "epoch", lambda f: Epoch(int(str(f)))),
    "stream": ("mirror", "link", lambda f: Link(str(f))),
    "stream heard": ("mirror", "heard_at", instant),
    "acknowledging": ("mirror", "acknowledging", lambda f: Acknowledging(str(f))),
    "sealed": ("mirror", "sealed", lambda f: Epoch(int(str(f)))),
    "drained": ("mirror", "drained", bool),
    "peer required": ("mirror", "required", bool),
    "engine error": ("mirror", "error", str),
    "data complete": ("durable", "complete", bool),
    "data of epoch": ("durable", "complete_epoch", lambda f: Epoch(int(str(f)))),
    "prepared": ("durable", "prepared", lambda f: Epoch(int(str(f)))),
    "identity": ("durable", "identity", str),
    "wish": ("durable", "wish", lambda f: Wish(str(f))),
    "stop reason": ("durable", "stop_reason", str),
    "trusted": ("durable", "trusted", bool),
}


def state_of(base: str, facts: Facts) -> State:
    """The state of a named base with some facts changed."""
    known = bases()
    if base not in known:
        raise UnreadableSituation(f"no base situation {base!r}; there are {sorted(known)}")
    parts: dict[str, Part] = {"state": {}, "witness": {"etag": ETAG}, "peer": {}, "mirror": {}, "durable": {}}
    for name, fact in {**known[base], **facts}.items():
        if name not in FACTS:
            raise UnreadableSituation(f"no fact is called {name!r}; there are {sorted(FACTS)}")
        part, field, read = FACTS[name]
        parts[part][field] = read(fact)
    peer_record = parts["peer"].pop("record", None)
    if isinstance(peer_record, Record):
        parts["peer"] |= {
            "record_epoch": peer_record.epoch,
            "record_primary": peer_record.primary,
            "record_in_sync": peer_record.in_sync,
        }
    me = parts["state"].pop("me")
    assert me in ("a", "b")
    state = State(
        me=Node(str(me)),
        peer_name=Node("b" if me == "a" else "a"),
        timing=Timing(),
        started_at=Instant(NOW - 3600),
        witness=replace(Witness(), **parts["witness"]),  # type: ignore[arg-type]  # FACTS gives each field its type
        peer=replace(Peer(), **parts["peer"]),  # type: ignore[arg-type]
        mirror=replace(Mirror(), **parts["mirror"]),  # type: ignore[arg-type]
        durable=replace(Durable(), **parts["durable"]),  # type: ignore[arg-type]
    )
    return state.with_(**parts["state"])


def told(state: State) -> dict[str, object]:
    """What the core does in this state, and what it would answer to the load balancer and to its peer."""
    decision = decide(state, NOW)
    ok, reason = probe_ok(state, NOW)
    peer = state.peer
    promise_s = grant_s(state, beat_role=peer.role, beat_epoch=peer.epoch) if peer.role in SERVING else 0.0
    answers: dict[str, object] = {
        "rule": decision.rule,
        "sentence": decision.sentence,
        "role": decision.role.value,
        "epoch": int(decision.epoch),
        "phase": decision.phase.value,
        "actions": [action_told(action, state.durable) for action in decision.actions],
        "probe": "OK" if ok else f"not OK: {reason}",
    }
    if state.role in SERVING:
        answers["serves only while promised"] = needs_promise(state)
    if state.role is Role.SECOND:
        answers["promise to the primary"] = f"{promise_s:g} s"
    return answers


def action_told(action: Action, durable: Durable) -> str:
    """One action in one line; a `Persist` shows only what changes."""
    name = type(action).__name__
    match action:
        case WriteWitness(proposal):
            members = " ".join(sorted(proposal.in_sync))
            return f"{name}: epoch {proposal.epoch}, primary {proposal.primary}, in sync {members} ({proposal.rule})"
        case Persist(after):
            changed = [
                f"{field.name} {getattr(durable, field.name)!s} -> {getattr(after, field.name)!s}"
                for field in fields(Durable)
                if getattr(durable, field.name) != getattr(after, field.name)
            ]
            return f"{name}: {', '.join(changed) or 'nothing new'}"
        case FinishOrder(_, succeeded, message):
            return f"{name}: {'succeeded' if succeeded else 'failed'}: {message}"
        case _:
            shown = [f"{field.name} {getattr(action, field.name)}" for field in fields(action)]
            return f"{name}: {', '.join(shown)}" if shown else name


def files() -> list[Path]:
    return sorted(DECISIONS.rglob("*.json"))


def decided(path: Path) -> dict[str, object]:
    """What the core decides today in the situation of a golden file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return told(state_of(content["base"], content["facts"]))

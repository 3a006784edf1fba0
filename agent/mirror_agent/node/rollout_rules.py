"""When a node may begin anew for a rollout, and when a new agent has proven itself. Pure.

A node begins anew only where nothing is lost by it: never while it serves, never as a replica that is not in sync, and
not while the load balancer may still choose it for the role it has just handed over (its relay would end with it). A
new agent has proven itself when the control plane has taken a heartbeat of it and the node serves, or is a replica in
sync; a resync takes as long as it takes and does not count against its time.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror_agent.contract import Phase, Role


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """`hold`: why this node may not begin anew at this moment, "" if it may. `stored`: version of the configuration on
    the disk; `refused`: why a newer one was not stored. `delivered`: the control plane took a heartbeat of this agent.
    `relaying`: new connections still come here for the role this node has handed over; over within a known time.
    """

    hold: str
    healthy: bool
    resyncing: bool
    delivered: bool
    stored: int
    refused: str
    sentence: str
    relaying: bool = False


@dataclass(frozen=True, slots=True)
class Proven:
    pass


@dataclass(frozen=True, slots=True)
class NotYet:
    """`counts`: this time is part of the time the agent has."""

    reason: str
    counts: bool


def mirror_hold(role: Role, phase: Phase, *, stopped: bool) -> str:
    """Why a node of a mirror may not begin anew. `stopped`: an operator has stopped the module here."""
    if stopped and role is Role.STOP:
        return ""
    if role in (Role.PRIM, Role.ALONE):
        return f"this node serves ({role.value}); hand the role over first"
    if role is not Role.SECOND or phase is not Phase.READY:
        return f"this node is {role.value} {phase.value}, not a replica in sync"
    return ""


def mirror_healthy(role: Role, phase: Phase, *, stopped: bool) -> bool:
    if stopped:
        return role is Role.STOP
    return role in (Role.PRIM, Role.ALONE, Role.SECOND) and phase is Phase.READY


def not_now(facts: RolloutFacts, configuration_version: int) -> str:
    """Why the order cannot be carried out at this moment, "" if it can."""
    if facts.stored < configuration_version:
        why = f": {facts.refused}" if facts.refused else ""
        return f"configuration {configuration_version} is not stored here (there is {facts.stored}){why}"
    return facts.hold or ("connections are still passed on to the other node" if facts.relaying else "")


def proof(facts: RolloutFacts) -> Proven | NotYet:
    if facts.healthy and facts.delivered:
        return Proven()
    if facts.resyncing:
        return NotYet(f"the resync goes on: {facts.sentence}", counts=False)
    if not facts.delivered:
        return NotYet("the control plane has taken no heartbeat of this agent", counts=True)
    return NotYet(facts.sentence, counts=True)

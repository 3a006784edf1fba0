"""Every order in which a rotation can happen: two nodes and a control plane, each step of each at any moment.

The model walks all reachable states. A node may take an order late, ask for a certificate and get it much later, or
report what was true before. In every state each node's certificate is of an authority that both nodes trust, and from
every state the end can be reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from mirror_agent.contract import CertificateReport, NodeName

from shared.model.authority import ClusterTrust, TrustedAuthority
from shared.security.rotation import NodeReport, begun, order_for, stepped
from tests.control_plane_samples import NOW

OLD, NEW = "0" * 64, "f" * 64
MOST_STATES = 20_000
NODES: tuple[NodeName, NodeName] = ("a", "b")
AUTHORITIES = {sha256: TrustedAuthority(id=sha256, sha256=sha256, certificate_pem=sha256) for sha256 in (OLD, NEW)}


@dataclass(frozen=True)
class Node:
    """`asked`: issuer and authorities of an answer that is on its way; the agent does one thing at a time. `order`:
    what was heard and not carried out. `told`: the last report, as the control plane counts it in this stage."""

    trusted: frozenset[str] = frozenset({OLD})
    issuer: str = OLD
    order: tuple[frozenset[str], str] | None = None
    asked: tuple[str, frozenset[str]] | None = None
    told: tuple[frozenset[str], str] | None = None


@dataclass(frozen=True)
class World:
    stage: int
    a: Node
    b: Node

    def of(self, name: NodeName) -> Node:
        return self.a if name == "a" else self.b

    def with_node(self, name: NodeName, node: Node) -> World:
        return replace(self, a=node) if name == "a" else replace(self, b=node)


def _trusts() -> list[ClusterTrust]:
    """The record in every stage, from the beginning to the end, with the operation told."""
    old, new = AUTHORITIES[OLD], AUTHORITIES[NEW]
    trust = begun(old, new, operation_id="1", requested_by="x", reason="", overlap_s=0, now=NOW)
    assert trust.rotation is not None
    trust = trust.model_copy(update={"rotation": trust.rotation.model_copy(update={"told": True})})
    found = [trust]
    reports = [({OLD, NEW}, OLD), ({OLD, NEW}, NEW), ({OLD, NEW}, NEW), ({NEW}, NEW)]
    for trusted, issuer in reports:
        told = NodeReport(_report(frozenset(trusted), issuer), NOW + timedelta(days=1))
        found.append(stepped(found[-1], {"a": told, "b": told}, NOW))
    assert found[-1].rotation is None
    assert [len(one.trusted) for one in found] == [2, 2, 2, 1, 1]
    return found


def _report(trusted: frozenset[str], issuer: str) -> CertificateReport:
    return CertificateReport(
        serial="1", expires_utc=NOW.isoformat(), issuer_sha256=issuer, trusted_sha256=tuple(sorted(trusted))
    )


STAGES = _trusts()


def _steps(world: World) -> Iterator[World]:
    trust = STAGES[world.stage]
    reports = {
        name: None if told is None else NodeReport(_report(*told), NOW + timedelta(seconds=1))
        for name in NODES
        for told in [world.of(name).told]
    }
    after = stepped(trust, reports, NOW)
    if after != trust:
        # Reports of the stage before do not count in the next one.
        yield World(world.stage + 1, replace(world.a, told=None), replace(world.b, told=None))
    for name in NODES:
        for node in _node_steps(world.of(name), trust):
            yield world.with_node(name, node)


def _node_steps(node: Node, trust: ClusterTrust) -> Iterator[Node]:
    yield replace(node, told=(node.trusted, node.issuer))
    order = order_for(trust, _report(node.trusted, node.issuer))
    if order is not None:
        yield replace(node, order=(frozenset(one.sha256 for one in trust.trusted), order.issuer_sha256))
    if node.asked is not None:
        issuer, authorities = node.asked
        yield replace(node, trusted=node.trusted | authorities, issuer=issuer, asked=None)
        yield replace(node, asked=None)  # the answer was lost, or the agent died
        return
    yield replace(node, asked=(trust.issuing, trust.fingerprints))  # also for no reason but its age
    if node.order is not None:
        wanted, issuer = node.order
        trusted = wanted | {node.issuer}
        done = trusted == wanted and issuer == node.issuer
        yield replace(node, trusted=trusted, order=None if done else node.order)


def _reachable() -> dict[World, set[World]]:
    start = World(0, Node(), Node())
    found: dict[World, set[World]] = {}
    waiting = [start]
    while waiting:
        world = waiting.pop()
        if world in found:
            continue
        found[world] = set(_steps(world))
        assert len(found) <= MOST_STATES
        waiting += found[world]
    return found


def test_in_every_state_the_nodes_can_talk_and_from_every_state_the_end_is_reached() -> None:
    found = _reachable()
    for world in found:
        for name in NODES:
            issuer = world.of(name).issuer
            assert issuer in world.a.trusted, world
            assert issuer in world.b.trusted, world
    ends = {world for world in found if world.stage == len(STAGES) - 1}
    assert ends
    into: dict[World, set[World]] = {}
    for world, following in found.items():
        for after in following:
            into.setdefault(after, set()).add(world)
    reaching, waiting = set(ends), list(ends)
    while waiting:
        for before in into.get(waiting.pop(), ()):
            if before not in reaching:
                reaching.add(before)
                waiting.append(before)
    assert reaching == set(found), "some state is a dead end"

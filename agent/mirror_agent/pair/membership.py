"""What the agent of a pair without a control plane does itself: renewing, admitting, giving access."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mirror_agent.eventlog import RecordEvent
from mirror_agent.net.identity import AgentFile, NotEnrolled
from mirror_agent.net.renewal import Issue
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.pair.documents import PairFacts
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.issuing import own_issuer
from mirror_agent.pair.service import PairService, wall_clock
from mirror_agent.paths import Paths


@dataclass(frozen=True)
class Membership:
    files: PairFiles
    facts: PairFacts

    @property
    def issue(self) -> Issue:
        return own_issuer(self.files, self.facts, wall_clock)

    def service(self, tls: NodeTls, revoked: Callable[[tuple[str, ...]], None], log: RecordEvent) -> PairService:
        return PairService(
            self.files,
            self.facts,
            server_tls=tls.console,
            client_tls=tls.peer_client,
            revoked=revoked,
            log=log,
        )


def pair_membership(agent: AgentFile, paths: Paths) -> Membership | None:
    """None on a node that has a control plane. Raises NotEnrolled when the files of a pair are not complete."""
    if agent.control_plane_url:
        return None
    files = PairFiles(paths)
    try:
        facts = files.load_facts()
    except ValueError as error:
        raise NotEnrolled(
            f"{files.facts} is damaged ({type(error).__name__}); it is the other node's but for `node`"
        ) from None
    if facts is None:
        raise NotEnrolled(
            f"{paths.agent_file} names no control plane, and {files.facts} is not there: this machine is no node of "
            "anything; enrol it again"
        )
    return Membership(files, facts)

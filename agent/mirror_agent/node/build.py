"""The configuration of a node in the words of its parts: timing of the core, the mirror's configuration, the paths to
the peer. No state and no I/O."""

from __future__ import annotations

from mirror_agent import contract
from mirror_agent.contract import NodeConfiguration, ResyncScope, SlowReplica
from mirror_agent.core.budget import budget
from mirror_agent.core.model import Timing
from mirror_agent.mirror.config import MirrorConfig, MirroredPath, MirrorLimits
from mirror_agent.mirror.limits import STALL_S_MIN
from mirror_agent.net.peer import Dialogue, PeerClient, PeerPaths, PeerServer, server_name
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.paths import Paths


def core_timing(configuration: NodeConfiguration) -> Timing:
    """The configured durations as the core takes them; `UnsafeTiming` when they contradict each other."""
    given = configuration.timing
    timing = Timing(
        heartbeat_s=given.heartbeat_s,
        suspect_s=given.suspect_s,
        promise_s=given.promise_s,
        margin_s=given.margin_s,
        witness_deadline_s=given.witness_deadline_s,
        probe_interval_s=given.probe_interval_s,
        probe_threshold=given.probe_threshold,
    )
    budget(timing)
    return timing


def mirror_config(configuration: NodeConfiguration, paths: Paths) -> MirrorConfig:
    """What the mirror is told. A stall of the replica's disk may cost what the loss of the peer may: a primary has then
    published itself alone within its promise and the witness's deadline."""
    peer = configuration.peer.name
    timing, policy = configuration.timing, configuration.application.mirror
    return MirrorConfig(
        cluster_id=configuration.cluster_id,
        node=configuration.node,
        peer=peer,
        peer_addresses=configuration.peer.addresses,
        listen_address=configuration.address,
        port=contract.MIRROR_PORT,
        paths=tuple(MirroredPath(entry.path, entry.mode.value) for entry in configuration.application.replicated_paths),
        state_dir=str(paths.state_dir / "mirror"),
        quarantine_dir=str(paths.quarantine_dir),
        certificate_file=str(paths.node_certificate),
        key_file=str(paths.node_certificate),  # one file holds both, see net/node_certificate.py
        ca_file=str(paths.ca_certificate),
        peer_san=server_name(peer, configuration.cluster_id),
        runtime_dir=str(paths.run_dir),
        limits=MirrorLimits(
            stall_s=max(STALL_S_MIN, timing.promise_s + timing.witness_deadline_s),
            leave_out_slow=policy.slow_replica is SlowReplica.LEAVE_OUT,
            resync_everything=policy.resync is ResyncScope.EVERYTHING,
        ),
    )


def peer_paths(configuration: NodeConfiguration, tls: NodeTls, dialogue: Dialogue, timing: Timing) -> PeerPaths:
    """One client an address of the peer."""
    return PeerPaths(
        tuple(
            PeerClient(
                dialogue,
                address=address,
                port=contract.HEARTBEAT_PORT,
                context=tls.peer_client,
                heartbeat_s=timing.heartbeat_s,
                deadline_s=timing.suspect_s / 2,
            )
            for address in dict.fromkeys(configuration.peer.addresses)
        )
    )


def peer_server(configuration: NodeConfiguration, tls: NodeTls, dialogue: Dialogue, timing: Timing) -> PeerServer:
    return PeerServer(
        dialogue,
        context=tls.peer_server,
        host=configuration.address,
        port=contract.HEARTBEAT_PORT,
        idle_s=4 * timing.suspect_s,
    )

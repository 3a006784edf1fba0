"""Two engines while certificates and authorities change under them: the link stays, and comes back with the new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mirror_agent.contract import NodeName
from mirror_agent.net.node_certificate import authorities_of, load_node_certificate, store_pair, store_trust
from mirror_agent.paths import Paths, private_directory, replace_file

from shared.security.authority import Authority, issue_node_certificate, new_authority
from tests.lab.mirror.pair import CLUSTER, Pair, differences, tree

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("proving_file_system")]
NODES: tuple[NodeName, NodeName] = ("a", "b")


def renew(paths: Paths, authority: Authority, node: NodeName) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = issue_node_certificate(
        authority,
        key.public_key(),
        cluster="demo",
        cluster_id=CLUSTER,
        node=node,
        addresses=("127.0.0.1",),
        now=datetime.now(UTC),
    )
    store_pair(paths, pem, key)


def trust(paths: Paths, *authorities: Authority) -> None:
    pem = "".join(authority.certificate_pem for authority in authorities)
    store_trust(paths, authorities_of(pem.encode()), load_node_certificate(paths))


def with_identities(pair: Pair, directory: Path, authority: Authority) -> dict[NodeName, Paths]:
    """The nodes' files as the agent keeps them."""
    found: dict[NodeName, Paths] = {}
    for name in NODES:
        paths = found[name] = Paths(directory / f"identity-{name}")
        private_directory(paths.identity_dir)
        replace_file(paths.ca_certificate, authority.certificate_pem.encode(), 0o600)
        renew(paths, authority, name)
        node = pair.nodes[name]
        both = str(paths.node_certificate)
        node.config = replace(node.config, certificate_file=both, key_file=both, ca_file=str(paths.ca_certificate))
    return found


async def test_the_link_outlives_a_rotation_and_every_new_connection_uses_what_is_there(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, new = new_authority("demo", CLUSTER, now), new_authority("demo", CLUSTER, now)
    pair = Pair(tmp_path)
    paths = with_identities(pair, tmp_path, old)
    steps: tuple[Callable[[], None], ...] = (
        lambda: trust(paths["a"], old, new),
        lambda: trust(paths["b"], old, new),
        lambda: renew(paths["b"], new, "b"),
        lambda: renew(paths["a"], new, "a"),
        lambda: trust(paths["a"], new),
        lambda: trust(paths["b"], new),
    )
    epoch = 1
    try:
        await pair.start()
        await pair.make_pair(epoch)
        for number, step in enumerate(steps):
            step()
            await asyncio.to_thread((pair.a.root / f"kept-{number}").write_text, "over the connection that stands")
            assert pair.a.status.link == "live", f"step {number} touched the link"
            if number % 2:
                await pair.relay.cut()
                await pair.a.until(lambda status: status.acknowledging == "parked")
                epoch += 1
                await pair.a.engine.release(epoch=epoch)
                await pair.relay.start()
                await pair.a.until(lambda status: status.link == "live")
                await pair.a.engine.require_peer(epoch=epoch)
                await asyncio.to_thread((pair.a.root / f"new-{number}").write_text, "over a new connection")
        await pair.a.engine.drain()
        here, there = await asyncio.to_thread(tree, pair.a.root), await asyncio.to_thread(tree, pair.b.root)
        assert not differences(here, there)
        assert load_node_certificate(paths["a"]).trusted == (new.certificate,)
    finally:
        await pair.close()

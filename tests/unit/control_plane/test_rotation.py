"""Rotating a cluster's authority: the two nodes can talk at every moment, whatever crashes, comes late or twice."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import pkcs12

from shared.model.authority import ClusterTrust, RotationStage
from shared.model.principal import AccessRole
from shared.store.ports import Unavailable
from tests.control_plane_app import BOOTSTRAP, App
from tests.control_plane_samples import heartbeat
from tests.unit.control_plane.node_identity import IdentityNode, can_talk

DAY_S = 86_400
WRITES = (
    ("insert", "credentials"),
    ("replace", "clusters"),
    ("insert", "operations"),
    ("replace", "operations"),
    ("delete", "credentials"),
)


@dataclass
class Pair:
    app: App
    a: IdentityNode
    b: IdentityNode

    async def rotate(self, token: str | None = None, **body: object) -> str:
        reply = await self.app.send("POST", "clusters/pay:rotate-ca", body, token=token or BOOTSTRAP)
        assert reply.status == 202, reply.content
        return str(reply.body["id"])

    async def trust(self) -> ClusterTrust:
        trust = (await self.app.record()).trust
        assert trust is not None
        return trust

    async def look(self) -> str:
        rotation = (await self.trust()).rotation
        return "over" if rotation is None else rotation.stage.value

    async def until(self, stage: str) -> None:
        for _ in range(6):
            if await self.beats() == stage:
                return
        raise AssertionError(f"never {stage}: {await self.look()}")

    async def beats(self, times: int = 1) -> str:
        """Both nodes report in turn; they can talk after each."""
        for _ in range(times):
            for node in (self.a, self.b):
                self.app.clock.advance(5)
                await node.beat()
                assert can_talk(self.a, self.b), await self.look()
        return await self.look()


@pytest_asyncio.fixture
async def pair(app: App) -> Pair:
    await app.provisioned()
    a, b = await IdentityNode.enrolled(app, "a"), await IdentityNode.enrolled(app, "b")
    made = Pair(app, a, b)
    for node in (a, b):
        app.clock.advance(5)
        await node.beat()
    return made


async def test_the_whole_way(pair: Pair) -> None:
    old = pair.a.used.issuer_sha256
    operation_id = await pair.rotate(reason="yearly", overlapHours=24)
    assert await pair.look() == "distribute"
    assert await pair.beats(1) == "distribute", "told to trust both; the next beat reports it"
    assert pair.a.trusted == pair.b.trusted == (await pair.trust()).fingerprints
    assert not pair.a.renewals
    assert await pair.beats(1) == "renew"
    assert await pair.beats(2) == "overlap"
    new = (await pair.trust()).issuing
    assert {pair.a.used.issuer_sha256, pair.b.used.issuer_sha256} == {new} != {old}
    operation = (await pair.app.send("GET", f"operations/{operation_id}")).body
    assert operation["status"] == "Succeeded"
    assert [step["name"] for step in operation["steps"]] == [
        "new-authority",
        "trust-a",
        "trust-b",
        "renew-a",
        "renew-b",
    ]
    assert all(step["status"] == "Succeeded" for step in operation["steps"])

    pair.app.clock.advance(23 * 3600)
    assert await pair.beats(2) == "overlap"
    pair.app.clock.advance(3600)
    assert await pair.beats(1) == "drop"
    assert await pair.beats(2) == "over"
    assert pair.a.trusted == pair.b.trusted == {new}
    keys = await pair.app.plane.store.credentials.authorities((await pair.app.record()).id)
    assert [entry.value.id for entry in keys] == [new], "the key of the old one is gone"
    assert len(pair.a.renewals) == len(pair.b.renewals) == 1
    assert (await pair.a.beat()).body.get("trust") is None, "nothing more to say"


async def test_again_after_the_first(pair: Pair) -> None:
    issuers = [pair.a.used.issuer_sha256]
    for _ in range(3):
        await pair.rotate(overlapHours=0)
        assert await pair.beats(6) == "over"
        issuers.append(pair.a.used.issuer_sha256)
    assert len(set(issuers)) == 4


@pytest.mark.parametrize("write", WRITES, ids="-".join)
async def test_a_crash_at_any_write_of_any_step_is_gone_on_from(pair: Pair, write: tuple[str, str]) -> None:
    """Each request and each beat meets a storage whose next write of this kind fails; the beat after it works."""
    app, away = pair.app, Unavailable("storage is away")

    async def broken_then_whole(node: IdentityNode | None = None) -> None:
        app.rows.fail(*write, away)
        app.clock.advance(5)
        if node is None:
            await app.send("POST", "clusters/pay:rotate-ca", {"overlapHours": 0})
            app.rows.forget_failures()
            await pair.rotate(overlapHours=0)
        else:
            await node.beat(obey=False)
            app.rows.forget_failures()
            app.clock.advance(5)
            await node.beat()
        assert can_talk(pair.a, pair.b)

    await broken_then_whole()
    for _ in range(8):
        await broken_then_whole(pair.a)
        await broken_then_whole(pair.b)
    assert await pair.look() == "over"
    record = await app.record()
    await app.fire("key_care", None)
    assert [entry.value.id for entry in await app.plane.store.credentials.authorities(record.id)] == [
        (await pair.trust()).issuing
    ]
    assert await _ends(app) == ["Succeeded"]


async def _ends(app: App) -> list[str]:
    """The status of every operation that the journal names for a rotation."""
    entries = (await app.send("GET", "journal")).body["value"]
    named = {entry["operationId"] for entry in entries if entry["what"].endswith(":rotate-ca")} - {None}
    replies = [await app.send("GET", f"operations/{operation_id}") for operation_id in sorted(named)]
    return [reply.body["status"] for reply in replies if reply.status == 200]


async def test_the_timer_goes_on_where_nobody_reports(pair: Pair) -> None:
    await pair.rotate(overlapHours=1)
    await pair.until("overlap")
    await pair.beats()
    pair.app.clock.advance(3601)
    await pair.app.fire("operation_repair", None)
    assert await pair.look() == "drop"


async def test_a_silent_node_holds_it_up_for_as_long_as_it_is_silent(pair: Pair) -> None:
    operation_id = await pair.rotate()
    for _ in range(5):
        pair.app.clock.advance(DAY_S)
        await pair.a.beat()
        await pair.app.fire("operation_repair", None)
    assert await pair.look() == "distribute"
    told = (await pair.app.send("GET", "clusters/pay/authority")).body["rotation"]
    assert [sentence[:29] for sentence in told["waitingFor"]] == ["node b has not reported since"]
    operation = (await pair.app.send("GET", f"operations/{operation_id}")).body
    assert operation["status"] == "Running"
    assert await pair.beats(4) == "overlap"


async def test_an_old_report_proves_nothing(pair: Pair) -> None:
    """A replaced node's last words before the stage began do not count, whatever they say."""
    await pair.rotate()
    await pair.beats(1)
    await pair.a.beat()
    pair.app.clock.advance(5)
    before = await pair.look()
    await pair.app.fire("operation_repair", None)
    assert (before, await pair.look()) == ("distribute", "distribute")


async def test_a_node_replaced_during_a_rotation_enrols_into_it(pair: Pair) -> None:
    await pair.rotate()
    await pair.until("renew")
    pair.app.clock.advance(5)
    pair.b = await IdentityNode.enrolled(pair.app, "b")
    assert can_talk(pair.a, pair.b)
    assert pair.b.used.issuer_sha256 == (await pair.trust()).issuing
    await pair.until("overlap")


async def test_people_get_certificates_of_the_new_one_as_soon_as_the_nodes_trust_it(pair: Pair) -> None:
    async def issuer() -> bytes:
        made = await pair.app.send("POST", "clusters/pay/credentials", {"name": "ann", "role": "Monitor"})
        secret = made.body["url"].rpartition("/")[2]
        files = (await pair.app.send("POST", "credential-downloads", token=secret, version=None)).body
        bag = pkcs12.load_pkcs12(base64.b64decode(files["pkcs12"]), files["password"].encode())
        assert bag.cert is not None
        return bag.cert.certificate.issuer.public_bytes()

    old = await issuer()
    await pair.rotate()
    assert await issuer() == old, "the nodes do not trust the new one yet"
    await pair.beats(2)
    assert await issuer() != old


async def test_the_overlap_can_be_ended_early_and_asking_again_starts_nothing_new(pair: Pair) -> None:
    first = await pair.rotate()
    await pair.until("overlap")
    trust = await pair.trust()
    assert await pair.rotate() == first
    assert await pair.trust() == trust
    assert await pair.rotate(overlapHours=0) == first
    await pair.until("over")


async def test_the_same_request_again_is_answered_with_its_operation(pair: Pair) -> None:
    named = {"Operation-Id": "00000000-0000-0000-0000-0000000000ff"}
    for _ in range(2):
        reply = await pair.app.send("POST", "clusters/pay:rotate-ca", {"overlapHours": 0}, headers=_lower(named))
        assert (reply.status, reply.body["id"]) == (202, named["Operation-Id"])
    await pair.beats(6)
    assert await pair.look() == "over"
    reply = await pair.app.send("POST", "clusters/pay:rotate-ca", {"overlapHours": 0}, headers=_lower(named))
    assert (reply.status, reply.body["status"]) == (202, "Succeeded")
    assert await pair.look() == "over"


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


async def test_admin_only_with_a_row_in_the_journal(pair: Pair) -> None:
    for role in (AccessRole.MONITOR, AccessRole.CONTROL):
        token = await pair.app.token(role)
        reply = await pair.app.send("POST", "clusters/pay:rotate-ca", {"reason": "x"}, token=token)
        assert (reply.status, reply.code) == (403, "Forbidden")
    await pair.rotate(await pair.app.token(AccessRole.ADMIN), reason="yearly")
    entries = (await pair.app.send("GET", "journal")).body["value"]
    of_rotation = [(e["what"], e["target"], e["reason"], e["result"]) for e in entries if "rotate" in e["what"]]
    assert sorted(of_rotation) == [
        ("cluster_action:rotate-ca", "pay", "x", "Forbidden"),
        ("cluster_action:rotate-ca", "pay", "x", "Forbidden"),
        ("cluster_action:rotate-ca", "pay", "yearly", "accepted"),
    ]


async def test_a_node_that_cannot_report_refuses_the_rotation_before_it_begins(pair: Pair) -> None:
    await pair.app.beat(pair.b.credential, heartbeat("b", sequence=99))
    reply = await pair.app.send("POST", "clusters/pay:rotate-ca", {})
    assert (reply.status, reply.code) == (409, "NodeCannotRotate")
    assert "node 'b'" in reply.message
    assert (await pair.app.record()).trust is None


@pytest.mark.parametrize("body", [{"overlapHours": -1}, {"overlapHours": 9000}, {"node": "a"}])
async def test_what_does_not_fit_is_refused(pair: Pair, body: dict[str, object]) -> None:
    assert (await pair.app.send("POST", "clusters/pay:rotate-ca", body)).status == 400
    assert (await pair.app.record()).trust is None


async def test_without_a_rotation_the_one_authority_is_shown(pair: Pair) -> None:
    body = (await pair.app.send("GET", "clusters/pay/authority", token=await pair.app.token(AccessRole.MONITOR))).body
    assert [entry["sha256"] for entry in body["authorities"]] == [pair.a.used.issuer_sha256]
    assert body["authorities"][0]["issues"]
    assert "rotation" not in body


async def test_an_agent_that_reports_no_certificate_gets_an_answer_it_understands(pair: Pair) -> None:
    reply = await pair.app.beat(pair.b.credential, heartbeat("b", sequence=99))
    assert "trust" not in reply.body


def test_every_stage_is_named_in_order() -> None:
    assert [stage.value for stage in RotationStage] == ["distribute", "renew", "overlap", "drop"]

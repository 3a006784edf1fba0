"""One-time links of a node, over real TLS: once, in time, for one person; and what revoking one does."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from mirror_agent.client_certificates import make_client_file
from mirror_agent.pair import links
from mirror_agent.pair.documents import FIRST_LINK_ID
from mirror_agent.pair.links import (
    CERTIFICATE_VALIDITY,
    LINK_VALIDITY,
    MAX_LINKS,
    link_token,
    load,
    offer,
    revoke_serial,
    revoked_serials,
    survey,
)
from mirror_agent.pair.proof import new_secret
from mirror_agent.pair.server import link_url

from tests.unit.pair.two_nodes import CLUSTER_ID, LINK_SECRET, NOW, Host, Machine, Table, facts, founded, listening

ID = "00000000000000aa"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    machine = Machine(tmp_path)
    await founded(machine, Table(), linkSecret=LINK_SECRET)
    async with listening(machine) as listener:
        yield listener


async def ask(host: Host, method: str, path: str, token: str = "") -> tuple[int, Any]:
    authority = host.machine.files.load_authority()
    assert authority is not None
    context = ssl.create_default_context(cadata=authority.certificate_pem)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        url = f"https://127.0.0.1:{host.port}{path}"
        async with session.request(method, url, headers=headers) as answer:
            return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


async def redeem(host: Host, token: str) -> tuple[int, Any]:
    return await ask(host, "POST", "/pair/v1/credential-downloads", token)


def refused(machine: Machine, now: datetime) -> dict[str, datetime]:
    return revoked_serials(survey(machine.files), now)


FIRST = link_token(CLUSTER_ID, FIRST_LINK_ID, LINK_SECRET)


async def test_the_first_link_makes_an_administrator_once(host: Host) -> None:
    status, files = await redeem(host, FIRST)
    assert status == 200
    _, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(files["pkcs12"]), files["password"].encode())
    assert certificate is not None
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [unit.value for unit in units] == ["Admin"]
    assert files["consoleUrls"][0] == "https://pay.example.net:9453/"
    assert files["testUrl"] == "https://pay.example.net:9453/mosaic"
    status, refused = await redeem(host, FIRST)
    assert (status, refused["error"]["code"]) == (409, "CredentialLinkUsed")
    assert "mirrorctl credentials revoke" in refused["error"]["message"]
    kept = load(host.machine.files, FIRST_LINK_ID)
    assert kept is not None
    assert kept.serial == f"{certificate.serial_number:X}"
    assert files["password"] not in str(host.machine.log.events)


async def test_of_two_at_the_same_time_exactly_one_wins(host: Host) -> None:
    outcomes = await asyncio.gather(*(redeem(host, FIRST) for _ in range(5)))
    assert sorted(status for status, _ in outcomes) == [200, 409, 409, 409, 409]


async def test_a_link_that_was_used_when_the_power_failed_stays_used(host: Host) -> None:
    """The mark is on the disk before anything is made: the answer that was lost is lost."""
    (host.machine.files.links / f"{FIRST_LINK_ID}.used").touch()
    assert (await redeem(host, FIRST))[0] == 409
    (link,) = survey(host.machine.files).links
    assert link.state(NOW) == "used", "nobody may think it can still be opened"
    assert link.state(NOW + LINK_VALIDITY) == "ended"


async def test_a_revocation_in_the_middle_of_a_download_stands_and_nothing_is_handed_over(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:

    def revoked_meanwhile(*arguments: Any, **more: Any) -> Any:
        links.revoke(host.machine.files, FIRST_LINK_ID, host.wall())
        return make_client_file(*arguments, **more)

    monkeypatch.setattr(links, "make_client_file", revoked_meanwhile)
    status, refusal = await redeem(host, FIRST)
    assert (status, refusal["error"]["code"]) == (401, "LinkEnded")
    kept = load(host.machine.files, FIRST_LINK_ID)
    assert kept is not None
    assert kept.state(NOW) == "revoked"
    assert list(refused(host.machine, host.wall())) == [kept.serial]


async def test_one_file_that_cannot_be_read_is_named_and_switches_no_revocation_off(host: Host) -> None:
    files = host.machine.files
    await redeem(host, FIRST)
    offer(files, ID, new_secret(), name="somebody", role="Monitor", now=NOW)
    (files.links / f"{ID}.json").write_text('{"id": "00000000000000aa", "sealed": "a field of a later version"}')
    revoked = links.revoke(files, FIRST_LINK_ID, host.wall())
    assert revoked is not None
    assert list(refused(host.machine, host.wall())) == [revoked.serial]
    (reason,) = survey(files).unreadable
    assert f"{ID}.json" in reason
    assert "later version" not in reason, "what is in it is nobody's business"
    (files.links / f"{FIRST_LINK_ID}.json").write_text("torn")
    assert list(refused(host.machine, host.wall())) == [revoked.serial], "the revocation itself knows the serial"


def test_a_serial_of_a_machine_that_is_lost_is_revoked_by_itself(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    made = revoke_serial(machine.files, "0a:1b:2C", NOW)
    assert (made.serial, made.ends_at) == ("A1B2C", NOW + CERTIFICATE_VALIDITY)
    assert refused(machine, NOW) == {"A1B2C": made.ends_at}
    assert refused(machine, made.ends_at) == {}
    assert revoke_serial(machine.files, "0xa1b2c", NOW + timedelta(days=1)) == made, "once is enough"
    for text in ("", "xyz", "1" * 41):
        with pytest.raises(ValueError, match="openssl x509"):
            revoke_serial(machine.files, text, NOW)


async def test_a_serial_of_a_link_of_this_node_revokes_that_link(host: Host) -> None:
    await redeem(host, FIRST)
    (link,) = survey(host.machine.files).links
    assert link.serial is not None
    assert revoke_serial(host.machine.files, link.serial, NOW).id == FIRST_LINK_ID
    assert survey(host.machine.files).links[0].state(NOW) == "revoked"


def test_serials_that_have_ended_make_room_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Machine(tmp_path).files
    monkeypatch.setattr(links, "MAX_SERIALS", 2)
    for serial in ("AA", "BB"):
        revoke_serial(files, serial, NOW)
    with pytest.raises(ValueError, match="already"):
        revoke_serial(files, "FFFF", NOW)
    later = NOW + CERTIFICATE_VALIDITY
    revoke_serial(files, "FFFF", later)
    assert [one.serial for one in survey(files).named.values()] == ["FFFF"]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "mpc_nonsense",
        link_token(CLUSTER_ID, FIRST_LINK_ID, new_secret()),
        link_token(CLUSTER_ID, "00000000000000ff", LINK_SECRET),
        link_token("11111111-2222-3333-4444-555555555555", FIRST_LINK_ID, LINK_SECRET),
        link_token(CLUSTER_ID, "../0000000000001", LINK_SECRET),
    ],
)
async def test_any_other_text_opens_nothing_and_uses_nothing_up(host: Host, token: str) -> None:
    status, refused = await redeem(host, token)
    assert (status, refused["error"]["code"]) == (401, "LinkUnknown")
    assert (await redeem(host, FIRST))[0] == 200


async def test_a_link_ends(host: Host) -> None:
    host.wall.later(LINK_VALIDITY)
    status, refused = await redeem(host, FIRST)
    assert (status, refused["error"]["code"]) == (401, "LinkEnded")


async def test_a_revoked_link_opens_nothing(host: Host) -> None:
    links.revoke(host.machine.files, FIRST_LINK_ID, host.wall())
    assert (await redeem(host, FIRST))[1]["error"]["code"] == "LinkEnded"
    assert refused(host.machine, host.wall()) == {}


async def test_a_revoked_certificate_is_listed_until_it_would_have_ended(host: Host) -> None:
    await redeem(host, FIRST)
    revoked = links.revoke(host.machine.files, FIRST_LINK_ID, host.wall())
    assert revoked is not None
    assert refused(host.machine, host.wall()) == {revoked.serial: revoked.certificate_ends_at}
    assert refused(host.machine, host.wall() + CERTIFICATE_VALIDITY) == {}


async def test_only_the_other_node_hears_which_are_revoked(host: Host) -> None:
    status, refused = await ask(host, "GET", "/pair/v1/revoked")
    assert (status, refused["error"]["code"]) == (403, "Forbidden")


async def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(host: Host) -> None:
    status, page = await ask(host, "GET", "/")
    assert status == 200
    for path in ("/console/credential.js", "/console/console.css", "/console/dom.js", "/console/mark.svg"):
        status, content = await ask(host, "GET", path)
        assert status == 200, path
        if path.endswith(".js"):
            assert "//" not in content.replace("// ", "").replace("http://www.w3.org/", ""), path
    assert (await ask(host, "GET", "/console/node.js"))[0] == 404
    assert 'src="/console/credential.js"' in page


def test_old_ones_make_room_and_too_many_are_refused(tmp_path: Path) -> None:
    files = Machine(tmp_path).files
    text = offer(files, "f" * 16, new_secret(), name="somebody", role="Monitor", now=NOW).model_dump_json(by_alias=True)
    for number in range(MAX_LINKS - 1):
        link_id = f"{number:016x}"
        (files.links / f"{link_id}.json").write_text(text.replace("f" * 16, link_id))
    with pytest.raises(ValueError, match="let some end first"):
        offer(files, ID, new_secret(), name="somebody", role="Monitor", now=NOW)
    offer(files, ID, new_secret(), name="somebody", role="Monitor", now=NOW + LINK_VALIDITY)
    assert [link.id for link in survey(files).links] == [ID]


@pytest.mark.parametrize(("name", "role"), [("<script>", "Admin"), ("somebody", "Owner"), ("", "Admin")])
def test_names_and_roles_are_checked(tmp_path: Path, name: str, role: str) -> None:
    with pytest.raises(ValueError, match=r"name|role"):
        offer(Machine(tmp_path).files, ID, new_secret(), name=name, role=role, now=NOW)


def test_the_secret_of_a_link_is_behind_the_hash_sign_of_its_address() -> None:
    url = link_url(facts("a"), link_token(CLUSTER_ID, ID, "s" * 64))
    assert url.startswith("https://pay-a.example.net:9001/#/credential/mpc_")


def test_states_follow_the_life_of_a_link(tmp_path: Path) -> None:
    files = Machine(tmp_path).files
    offered = offer(files, ID, new_secret(), name="somebody", role="Monitor", now=NOW)
    assert offered.state(NOW) == "offered"
    assert offered.state(NOW + LINK_VALIDITY) == "ended"
    used = offered.model_copy(update={"used_at": NOW, "certificate_ends_at": NOW + timedelta(days=1)})
    assert (used.state(NOW), used.state(NOW + timedelta(days=2))) == ("used", "ended")
    assert used.model_copy(update={"revoked_at": NOW}).state(NOW) == "revoked"

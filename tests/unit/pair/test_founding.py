"""The first node: its authority, the one insert of the safety record, and what a power cut may leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from mirror_agent.authority import certificate_sha256
from mirror_agent.core.model import Epoch, Node, Record
from mirror_agent.net.enrolment import Enrolled, EnrolmentFailed
from mirror_agent.net.identity import load_agent_file
from mirror_agent.net.node_certificate import load_node_certificate
from mirror_agent.pair.begin import MODULE_FILE, begin, is_pair
from mirror_agent.pair.documents import BadDocument
from mirror_agent.pair.founding import Founded, NotFounded, found

from tests.unit.pair.two_nodes import CLUSTER_ID, LINK_SECRET, MODULE, NOW, Machine, Table, Ticks, Wall, facts, founded

# In the order of writing; agent.json makes the machine a node.
STEPS: Final = (
    "var/lib/mirrorplane/pair/authority.pem",
    "var/lib/mirrorplane/pair/admission.json",
    "var/lib/mirrorplane/pair/links/0000000000000001.json",
    "var/lib/mirrorplane/identity/node.key",
    "var/lib/mirrorplane/pair/facts.json",
    "var/lib/mirrorplane/identity/ca.pem",
    "var/lib/mirrorplane/identity/node.pem",
    "etc/mirrorplane/agent.json",
)


async def test_the_first_node_makes_everything_a_control_plane_would_have_given_it(tmp_path: Path) -> None:
    machine, table = Machine(tmp_path), Table()
    await founded(machine, table, linkSecret=LINK_SECRET)
    agent = load_agent_file(machine.paths)
    assert agent.control_plane_url == ""
    assert (agent.configuration.node, agent.configuration.cluster_id) == ("a", CLUSTER_ID)
    found_certificate = load_node_certificate(machine.paths)
    names = found_certificate.certificate.extensions
    assert str(names).count("pay-a.example.net") == 1
    authority = machine.files.load_authority()
    assert authority is not None
    assert found_certificate.issuer_sha256 == certificate_sha256(authority.certificate)
    assert table.record is not None
    assert (table.record.epoch, table.record.primary, set(table.record.in_sync)) == (0, "", {"a"})
    assert (table.asked[0].partition_key, table.asked[0].row_key) == (CLUSTER_ID, "record")
    assert machine.written() == sorted(STEPS)
    for name in STEPS:
        assert (machine.root / name).stat().st_mode & 0o077 == 0, name


async def test_no_secret_stays_where_it_is_not_needed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    await founded(machine, Table(), linkSecret=LINK_SECRET)
    everywhere = {name: (tmp_path / name).read_text() for name in machine.written()}
    assert [name for name, text in everywhere.items() if LINK_SECRET in text] == []
    assert [name for name, text in everywhere.items() if facts("a").secret in text] == [STEPS[1]]
    assert [name for name, text in everywhere.items() if facts("a").witness.sas in text] == [STEPS[-1]]
    assert "secret" not in str(machine.log.events).lower()


# The record is made after the authority is on the disk and before anything else.
@pytest.mark.parametrize(("written", "recorded"), [(0, False), (1, False), *((n, True) for n in range(1, len(STEPS)))])
async def test_a_power_cut_at_any_step_leaves_something_to_go_on_from(
    tmp_path: Path, written: int, recorded: bool
) -> None:
    whole, table = Machine(tmp_path / "whole"), Table()
    await founded(whole, table, linkSecret=LINK_SECRET)
    first = table.record
    cut = whole.with_only(tmp_path / "cut", list(STEPS[:written]))
    after = Table(record=first if recorded else None)
    await founded(cut, after, linkSecret=LINK_SECRET)
    if written:
        assert after.record == first, "the authority of the first attempt goes on"
        assert cut.files.authority.read_bytes() == whole.files.authority.read_bytes()
    assert load_agent_file(cut.paths).configuration.node == "a"


async def test_a_record_of_others_is_not_touched_and_a_fresh_disk_founds_nothing(tmp_path: Path) -> None:
    theirs = Record(Epoch(7), Node("b"), frozenset({Node("b")}), "nonce-of-b", "takeover")
    table, machine = Table(record=theirs), Machine(tmp_path)
    outcome = await found(machine.files, facts("a"), MODULE, insert=table.insert, now=NOW, log=machine.log)
    assert isinstance(outcome, NotFounded)
    assert not outcome.again
    assert "mirrorctl pair admit" in outcome.reason
    assert table.record is theirs
    assert machine.written() == []


async def test_nor_does_one_that_was_cut_off_before_it_knew(tmp_path: Path) -> None:
    """The authority is on the disk, the record is another founding's: nobody may take it for an own one."""
    whole = Machine(tmp_path / "whole")
    await founded(whole, Table())
    cut = whole.with_only(tmp_path / "cut", [STEPS[0]])
    theirs = Record(Epoch(0), Node(""), frozenset({Node("a")}), "founded-by-somebody-else", "founded")
    outcome = await found(cut.files, facts("a"), MODULE, insert=Table(record=theirs).insert, now=NOW, log=cut.log)
    assert isinstance(outcome, NotFounded)
    assert cut.files.load_authority() is None


async def test_a_node_that_is_enrolled_again_keeps_its_authority_though_the_record_has_moved_on(tmp_path: Path) -> None:
    machine, table = Machine(tmp_path), Table()
    await founded(machine, table)
    before = machine.files.authority.read_bytes()
    machine.paths.agent_file.unlink()
    table.record = Record(Epoch(3), Node("a"), frozenset({Node("a"), Node("b")}), "later", "join")
    assert isinstance(await founded(machine, table), Founded)
    assert machine.files.authority.read_bytes() == before
    machine.files.authority.unlink()
    outcome = await found(machine.files, facts("a"), MODULE, insert=table.insert, now=NOW, log=machine.log)
    assert isinstance(outcome, NotFounded), "the other node would not know a second authority"


def boot(machine: Machine, document: str) -> Path:
    machine.paths.state_dir.mkdir(parents=True)
    machine.paths.bootstrap_file.write_text(document)
    (machine.paths.state_dir / MODULE_FILE).write_text(MODULE.model_dump_json(by_alias=True))
    return machine.paths.bootstrap_file


async def test_storage_that_is_away_is_waited_for_until_the_time_is_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    document = '{"wheelName": "x.whl", "pair": ' + facts("a").model_dump_json(by_alias=True) + "}"
    path = boot(machine, document)
    assert is_pair(path)
    table = Table(unknown=["ServiceRequestError"] * 3)
    done = await begin(path, machine.paths, log=machine.log, insert=table.insert, clock=Ticks(), wall=Wall())
    assert isinstance(done, Enrolled)
    assert machine.log.kinds().count("pair.waiting") == 3
    again = await begin(path, machine.paths, log=machine.log, insert=table.insert, clock=Ticks(), wall=Wall())
    assert isinstance(again, Enrolled)
    assert again.already
    assert len(table.asked) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"application": {"name": "pay", "startPrim": "true\n"}}, "replicatedPaths"),
        ({"defaultPrimary": "c"}, "no node of a pair"),
        ({"timing": {"promiseS": 0.1}}, "timing"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_module_that_is_none_of_a_mirror_is_refused_before_anything_is_made(
    tmp_path: Path, wrong: dict[str, object], says: str
) -> None:
    machine, table = Machine(tmp_path), Table()
    path = boot(machine, '{"pair": ' + facts("a").model_dump_json(by_alias=True) + "}")
    module = MODULE.model_dump(by_alias=True, mode="json") | wrong
    (machine.paths.state_dir / MODULE_FILE).write_text(json.dumps(module))
    with pytest.raises(BadDocument, match=says):
        await begin(path, machine.paths, log=machine.log, insert=table.insert)
    assert table.asked == []
    assert not machine.files.directory.exists()


async def test_it_gives_up_when_its_time_is_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    path = boot(machine, '{"pair": ' + facts("a").model_dump_json(by_alias=True) + "}")
    table = Table(unknown=["away"] * 1000)
    done = await begin(
        path, machine.paths, log=machine.log, insert=table.insert, clock=Ticks(), wall=Wall(), deadline_s=60.0
    )
    assert isinstance(done, EnrolmentFailed)
    assert "away" in done.reason


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"secret": "short"}, "pair.secret"),
        ({"clusterId": "x"}, "pair.clusterId"),
        ({"nodes": {"a": {"address": "10.0.0.4"}}}, "a pair has the nodes a and b"),
        ({"surprise": 1}, "pair.surprise"),
    ],
)
async def test_a_wrong_boot_document_is_refused_by_field_without_its_values(
    tmp_path: Path, wrong: dict[str, object], says: str
) -> None:
    machine = Machine(tmp_path)
    document = facts("a").model_dump(by_alias=True, mode="json") | wrong
    path = boot(machine, json.dumps({"pair": document}))
    with pytest.raises(BadDocument) as refused:
        await begin(path, machine.paths, log=machine.log, insert=Table().insert)
    assert says in str(refused.value)
    assert facts("a").secret not in str(refused.value)

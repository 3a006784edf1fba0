"""`mirrorctl credentials`, `pair`, `configure` and `enrol` on the files of a pair."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from mirror_agent.cli import main
from mirror_agent.contract import NodeConfiguration
from mirror_agent.net.identity import AgentFile, load_agent_file
from mirror_agent.pair import orders
from mirror_agent.pair.admission import load_admission
from mirror_agent.pair.documents import load_facts
from mirror_agent.pair.links import survey

from tests.unit.pair.two_nodes import MODULE, SECRET, Machine, Table, facts, founded


@pytest.fixture
async def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    await founded(made, Table())
    return made


def said(capsys: pytest.CaptureFixture[str], machine: Machine, *words: str, status: int = 0) -> Any:
    assert main(["--root", str(machine.root), *words, "-o", "json"]) == status
    output = capsys.readouterr()
    return json.loads(output.out) if status == 0 else output.err


def configured(machine: Machine) -> NodeConfiguration:
    found = load_agent_file(machine.paths).configuration
    assert isinstance(found, NodeConfiguration)
    return found


def test_a_link_is_made_listed_and_revoked(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    made = said(capsys, machine, "credentials", "link", "--name", "night shift", "--role", "Control")
    assert made["url"].startswith("https://pay-a.example.net:9001/#/credential/mpc_")
    assert len(made["caSha256"]) == 64
    listed = said(capsys, machine, "credentials", "list")
    assert listed[made["id"]]["state"] == "offered"
    assert said(capsys, machine, "credentials", "revoke", made["id"])["state"] == "revoked"
    assert [link.state(link.made_at) for link in survey(machine.files).links] == ["revoked"]
    assert "made no link" in said(capsys, machine, "credentials", "revoke", "ff", status=1)


def test_a_certificate_of_a_lost_machine_is_revoked_by_its_serial(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    made = said(capsys, machine, "credentials", "revoke", "--serial", "0a:1b")
    assert (made["serial"], made["state"]) == ("A1B", "revoked")
    listed = said(capsys, machine, "credentials", "list")
    assert (listed[made["id"]]["serial"], listed[made["id"]]["state"]) == ("A1B", "revoked")
    assert "openssl" in said(capsys, machine, "credentials", "revoke", "--serial", "me", status=1)
    for words in ((), ("ff", "--serial", "1")):
        with pytest.raises(SystemExit):
            main(["--root", str(machine.root), "credentials", "revoke", *words])


def test_every_order_that_gives_or_takes_access_is_left_for_the_history(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    link = said(capsys, machine, "credentials", "link", "--name", "night shift", "--role", "Admin")
    said(capsys, machine, "credentials", "revoke", link["id"])
    said(capsys, machine, "credentials", "revoke", "--serial", "A1B")
    admission = said(capsys, machine, "pair", "admit")
    monkeypatch.setattr("sys.stdin", io.StringIO("sv=1&sig=new\n"))
    said(capsys, machine, "configure", "--witness-sas", "-")
    left = [path.read_text() for path in machine.files.orders.iterdir()]
    secret = link["url"].rpartition("_")[2]
    assert not any(word in text for word in (secret, admission["secret"], "sig=new") for text in left)
    orders.record(machine.files, machine.log)
    told = [fields for kind, fields in machine.log.events if kind == "pair.ordered"]
    assert [fields["order"] for fields in told] == [
        "credentials link",
        "credentials revoke",
        "credentials revoke",
        "pair admit",
        "configure",
    ]
    assert {fields["by"] for fields in told} == {"ann (sudo)"}
    assert (told[0]["name"], told[0]["role"]) == ("night shift", "Admin")
    assert told[4]["changed"] == "witness signature"


def test_nobody_is_given_access_while_no_agent_takes_the_orders(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "MAX_WAITING", 1)
    said(capsys, machine, "credentials", "link", "--name", "somebody")
    assert "is the agent running" in said(capsys, machine, "credentials", "link", "--name", "somebody", status=1)


def test_a_file_that_is_not_there_is_named(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.txt"
    told = said(capsys, machine, "configure", "--witness-sas", str(missing), status=1)
    assert told == f"mirrorctl: {missing}: No such file or directory\n"


def test_a_terminal_is_prompted_and_shows_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    prompts: list[str] = []

    def hidden(prompt: str) -> str:
        prompts.append(prompt)
        return "sv=1&sig=typed"

    monkeypatch.setattr("sys.stdin", Terminal("must not be read"))
    monkeypatch.setattr("getpass.getpass", hidden)
    said(capsys, machine, "configure", "--witness-sas", "-")
    assert configured(machine).witness.sas == "sv=1&sig=typed"
    assert len(prompts) == 1


def test_admitting_makes_a_secret_that_only_this_answer_shows(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    made = said(capsys, machine, "pair", "admit")
    admission = load_admission(machine.files)
    assert admission is not None
    assert (made["node"], made["secret"]) == ("b", admission.secret)
    assert made["secret"] != SECRET, "the old one is nobody's any more"


def test_the_machine_that_replaces_a_node_takes_the_secret_from_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Machine(tmp_path)
    fresh.paths.state_dir.mkdir(parents=True)
    boot = {"wheelName": "x.whl", "pair": facts("a").model_dump(by_alias=True, mode="json")}
    fresh.paths.bootstrap_file.write_text(json.dumps(boot))
    monkeypatch.setattr("sys.stdin", io.StringIO("0123456789abcdef0123456789abcdef\n"))
    assert said(capsys, fresh, "pair", "secret")["node"] == "a"
    told = load_facts(fresh.paths.bootstrap_file)
    assert (told.join, told.secret) == (True, "0123456789abcdef0123456789abcdef")
    assert json.loads(fresh.paths.bootstrap_file.read_text())["wheelName"] == "x.whl"
    assert fresh.paths.bootstrap_file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert "pair.secret" in said(capsys, fresh, "pair", "secret", status=1)
    assert load_facts(fresh.paths.bootstrap_file) == told, "what was there stays"


def test_a_new_module_is_kept_for_the_next_start(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new-module.json"
    changed = MODULE.model_dump(by_alias=True, mode="json") | {"failover": False}
    file.write_text(json.dumps(changed))
    before = configured(machine)
    assert said(capsys, machine, "configure", "--file", str(file))["version"] == before.version + 1
    after = configured(machine)
    assert (after.failover, after.witness, after.peer) == (False, before.witness, before.peer)
    file.write_text(json.dumps(changed | {"surprise": 1}))
    assert "surprise" in said(capsys, machine, "configure", "--file", str(file), status=1)
    assert configured(machine) == after
    assert "nothing to change" in said(capsys, machine, "configure", status=1)


def test_a_new_signature_for_the_witness(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("?sv=1&tn=witness&sig=new\n"))
    answer = said(capsys, machine, "configure", "--witness-sas", "-")
    assert "new" not in answer.values()
    assert configured(machine).witness.sas == "sv=1&tn=witness&sig=new"
    monkeypatch.setattr("sys.stdin", io.StringIO("no signature\n"))
    assert "sig=" in said(capsys, machine, "configure", "--witness-sas", "-", status=1)


@pytest.mark.parametrize("words", [("credentials", "list"), ("pair", "admit"), ("configure",)])
def test_a_node_with_a_control_plane_is_left_alone(
    machine: Machine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    agent = AgentFile(control_plane_url="https://plane.example.net", configuration=configured(machine))
    machine.paths.agent_file.write_text(agent.model_dump_json(by_alias=True))
    assert "https://plane.example.net" in said(capsys, machine, *words, status=1)


def test_a_misspelt_word_is_met_with_the_nearest(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["--root", str(machine.root), "credentials", "lnik"])
    assert wrong.value.code == 2
    assert "link" in capsys.readouterr().err

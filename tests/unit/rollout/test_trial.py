"""A change of the agent at the service's start: tried, kept, or taken back, whatever is killed in between."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mirror_agent.contract import RolloutStage
from mirror_agent.node.environments import MARKER, forget_others, in_use
from mirror_agent.node.rollout_note import RolloutNote, load_note, store_note, trial_under_way
from mirror_agent.paths import Paths

SCRIPT = Path(__file__).parents[3] / "infra" / "vm" / "linux" / "bootstrap.py"
OLD, NEW = "aaaa", "bbbb"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("node_bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Node:
    """A root with two complete environments, the old one in use, and an order that was taken."""

    def __init__(self, root: Path, bootstrap: ModuleType) -> None:
        self.paths = Paths(root)
        self.bootstrap = bootstrap
        self.at_boot: Any = bootstrap.Node(root)
        for name in (OLD, NEW):
            place = self.paths.environments / name
            place.mkdir(parents=True)
            (place / MARKER).write_text(name)
        bootstrap.put_in_place(self.at_boot, self.paths.environments / OLD)
        self.store(RolloutStage.RESTARTING)

    def store(self, stage: RolloutStage, **changes: Any) -> None:
        note = RolloutNote(
            order="op-1",
            stage=stage,
            version="0.1.0",
            candidate=str(self.paths.environments / NEW),
            previous=str(self.paths.environments / OLD),
        )
        store_note(self.paths, note.model_copy(update=changes))

    def start(self) -> None:
        self.bootstrap.settle_trial(self.at_boot)

    @property
    def note(self) -> RolloutNote:
        return load_note(self.paths, _no_log)

    @property
    def environment(self) -> str:
        found = in_use(self.paths)
        return "" if found is None else found.name


@pytest.fixture
def node(tmp_path: Path, bootstrap: ModuleType) -> Node:
    return Node(tmp_path, bootstrap)


def _no_log(kind: str, /, **fields: object) -> None:
    raise AssertionError(f"{kind}: {fields}")


def test_the_candidate_is_put_in_place_by_the_start(node: Node) -> None:
    assert node.environment == OLD
    node.start()
    assert (node.environment, node.note.stage, node.note.starts) == (NEW, RolloutStage.PROVING, 1)
    assert trial_under_way(node.paths, _no_log)


def test_one_that_keeps_dying_is_taken_back_after_three_starts(node: Node) -> None:
    for number in (1, 2, 3):
        node.start()
        assert (node.environment, node.note.starts) == (NEW, number)
    node.start()
    assert (node.environment, node.note.stage) == (OLD, RolloutStage.RETURNED)
    assert "0.1.0" in node.note.reason
    assert "3 starts" in node.note.reason
    node.start()
    assert node.environment == OLD
    assert not trial_under_way(node.paths, _no_log)


def test_one_that_says_it_failed_is_taken_back_at_once(node: Node) -> None:
    node.start()
    node.store(RolloutStage.PROVING, failed=True, reason="not in sync in 180 s")
    node.start()
    assert (node.environment, node.note.reason) == (OLD, "not in sync in 180 s")


def test_one_that_has_proven_itself_stays(node: Node) -> None:
    node.start()
    node.store(RolloutStage.DONE)
    for _ in range(5):
        node.start()
    assert (node.environment, node.note.stage) == (NEW, RolloutStage.DONE)


def test_killed_between_link_and_note_it_goes_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path, text: str) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(node.bootstrap, "write_durably", killed)
        with pytest.raises(Killed):
            node.start()
    assert (node.environment, node.note.stage) == (NEW, RolloutStage.RESTARTING)
    node.start()
    assert (node.environment, node.note.stage, node.note.starts) == (NEW, RolloutStage.PROVING, 1)


def test_an_incomplete_environment_is_not_put_in_place(node: Node) -> None:
    (node.paths.environments / NEW / MARKER).unlink()
    node.start()
    assert (node.environment, node.note.stage) == (OLD, RolloutStage.RETURNED)


def test_only_a_configuration_leaves_the_environment(node: Node) -> None:
    node.store(RolloutStage.RESTARTING, candidate="", previous="")
    node.start()
    assert (node.environment, node.note.stage) == (OLD, RolloutStage.RESTARTING)
    assert not trial_under_way(node.paths, _no_log)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "restarting"}'])
def test_a_damaged_note_stops_no_start(node: Node, content: str) -> None:
    node.paths.rollout_note.write_text(content)
    node.start()
    assert node.environment == OLD


def test_a_note_of_a_later_release_is_understood(node: Node) -> None:
    document = json.loads(node.paths.rollout_note.read_text()) | {"more": 1}
    node.paths.rollout_note.write_text(json.dumps(document))
    assert node.note.order == "op-1"


def test_the_link_may_be_moved_with_its_root_and_is_never_missing(node: Node) -> None:
    assert not os.path.isabs(node.paths.environment.readlink())


def test_what_is_neither_used_nor_kept_goes(node: Node) -> None:
    (node.paths.environments / "cccc").mkdir()
    assert forget_others(node.paths, {node.paths.environments / NEW}) == ["cccc"]
    assert sorted(place.name for place in node.paths.environments.iterdir()) == [OLD, NEW]


@pytest.mark.parametrize("stage", ["restarting", "proving"])
def test_a_disk_that_refuses_keeps_no_agent_from_starting(
    node: Node, stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_path: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    node.store(RolloutStage(stage))
    monkeypatch.setattr(node.bootstrap, "write_durably", full)
    node.start()
    assert "No space left on device" in "".join(capsys.readouterr())
    assert node.note.stage == stage, "the step is repeated at the next start"


@pytest.mark.parametrize("starts", ['"many"', "null", "[]"])
def test_nor_does_a_count_that_is_no_number(node: Node, starts: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = node.paths.rollout_note
    place.write_text(f'{{"stage": "proving", "candidate": "x", "previous": "y", "starts": {starts}}}')
    node.start()
    assert "the agent is started as it is" in "".join(capsys.readouterr())
    assert node.environment == OLD


@pytest.mark.parametrize(("enrolled", "status"), [(True, 0), (False, 1)])
def test_a_disk_that_cannot_be_written_at_all_is_said_and_an_enrolled_node_starts(
    tmp_path: Path, bootstrap: ModuleType, enrolled: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path)
    if enrolled:
        paths.agent_file.parent.mkdir(parents=True)
        paths.agent_file.write_text("{}")
    paths.state_dir.parent.mkdir(parents=True)
    paths.state_dir.write_text("where a directory should be")
    monkeypatch.setattr("sys.argv", ["bootstrap.py", "--root", str(tmp_path)])
    assert bootstrap.main() == status

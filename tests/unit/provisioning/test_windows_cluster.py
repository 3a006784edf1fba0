"""A cluster of Windows nodes in the reconciler: its extension, its passwords, its repair; nothing of it in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.azure.resources import ResourceRef, ResourceType
from shared.model.operation import OperationKind, OperationStatus
from shared.provisioning.images import IMAGES
from shared.provisioning.plan import Owner
from shared.provisioning.records import plan_of
from shared.provisioning.specs.cluster import cluster_specs
from shared.provisioning.specs.extension import extension
from shared.provisioning.specs.spec import ImmutableProperty, NotOwned
from shared.provisioning.windows_artifacts import GATE, WindowsArtifacts, read_windows
from shared.remediation.drift import deviation
from tests.control_plane_samples import record
from tests.unit.provisioning.memory_arm import SUBSCRIPTION
from tests.unit.provisioning.test_specs import returned
from tests.unit.provisioning.world import Fuse, World, settings_of
from tests.unit.windows.boot_samples import PARAMETERS

COMPUTE = {"os": "windows", "image": "windows-2025"}
WINDOWS: dict[str, Any] = {
    "compute": COMPUTE,
    "application__replicatedPaths": [{"path": "M:\\ledger"}],
    "application__startPrim": "start ledger.exe\r\n",
}
FARM: dict[str, Any] = {
    "kind": "farm",
    "compute": {**COMPUTE, "nodes": 2},
    "application__startPrim": "start web.exe\r\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror_agent-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def windows_world(wheel: Path, **more: Any) -> World:
    return World(wheel, windows=PARAMETERS.artifacts, **{**WINDOWS, **more})


async def created(world: World) -> World:
    operation_id = await world.request(OperationKind.CREATE)
    await world.drive()
    assert (await world.operation_now(operation_id)).status is OperationStatus.SUCCEEDED
    return world


async def test_each_node_is_booted_by_its_own_extension_once(wheel: Path) -> None:
    world = await created(windows_world(wheel))
    assert {"pay-a/bootstrap", "pay-b/bootstrap"} < world.arm.names()
    assert set(world.arm.puts.values()) == {1}
    told = {node: settings_of(world.arm.commands[f"pay-{node}"][0]) for node in "ab"}
    assert [told[node]["node"] for node in "ab"] == ["a", "b"]
    assert told["a"]["enrolmentToken"] != told["b"]["enrolmentToken"]
    assert told["a"]["dataDriveLetter"] == "M"
    passwords = [password for kept in world.arm.passwords.values() for password in kept]
    assert len(set(passwords)) == 2
    everything = world.rows.everything()
    for secret in (*passwords, told["a"]["enrolmentToken"], told["b"]["enrolmentToken"]):
        assert secret not in everything


async def test_a_farm_is_made_the_same_way(wheel: Path) -> None:
    world = await created(World(wheel, windows=PARAMETERS.artifacts, **FARM))
    assert {"pay-a/bootstrap", "pay-b/bootstrap"} < world.arm.names()


async def test_an_update_does_not_boot_anything_again(wheel: Path) -> None:
    world = await created(windows_world(wheel))

    def tagged(current: Any) -> Any:
        return current.model_copy(update={"spec": current.spec.model_copy(update={"tags": {"team": "other"}})})

    await world.request(OperationKind.UPDATE, tagged)
    await world.drive()
    assert world.arm.puts["pay-a"] == 2
    assert world.arm.puts["pay-a/bootstrap"] == 1


async def test_a_lost_vm_comes_back_with_a_new_password_and_a_new_token(wheel: Path) -> None:
    world = await created(windows_world(wheel))
    await world.arm.delete(ResourceRef(ResourceType.VIRTUAL_MACHINE, "mirrorplane-pay", "pay-b"))
    world.clock.advance(world.arm.latency_s)
    assert await world.arm.get(ResourceRef(ResourceType.VIRTUAL_MACHINE, "mirrorplane-pay", "pay-b")) is None
    assert "pay-b/bootstrap" not in world.arm.names()
    await world.request(OperationKind.UPDATE)
    await world.drive()
    assert len(set(world.arm.passwords["pay-b"])) == 2
    tokens = [settings_of(command)["enrolmentToken"] for command in world.arm.commands["pay-b"]]
    assert len(set(tokens)) == 2
    assert len(world.arm.commands["pay-a"]) == 1


async def test_a_boot_that_failed_is_run_again_with_a_new_token(wheel: Path) -> None:
    world = windows_world(wheel)
    world.arm.fail_operation("pay-a/bootstrap", "VMExtensionProvisioningError", "exit code 1", times=2)
    await created(world)
    tokens = [settings_of(command)["enrolmentToken"] for command in world.arm.commands["pay-a"]]
    assert len(set(tokens)) == 3


async def test_a_boot_that_always_fails_ends_with_the_words_of_azure(wheel: Path) -> None:
    world = windows_world(wheel)
    world.arm.fail_operation("pay-a/bootstrap", "VMExtensionProvisioningError", "exit code 1", times=99)
    operation_id = await world.request(OperationKind.CREATE)
    await world.drive()
    operation = await world.operation_now(operation_id)
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error.code == "VMExtensionProvisioningError"
    assert "enrolmentToken" not in json.dumps(operation.model_dump(mode="json"))


@pytest.mark.parametrize("after", [False, True])
async def test_killed_anywhere_it_is_made_all_the_same(wheel: Path, after: bool) -> None:
    calls = windows_world(wheel)
    await created(calls)
    for at in range(1, calls.fuse.calls, 23):
        world = await created(windows_world(wheel, fuse=Fuse(at, after=after)))
        assert {"pay-a/bootstrap", "pay-b/bootstrap"} < world.arm.names()


async def test_deleting_leaves_nothing_and_asks_no_extension_to_go(wheel: Path) -> None:
    world = await created(windows_world(wheel))
    await world.request(OperationKind.DELETE)
    await world.drive()
    assert world.arm.names() == set()
    assert not [name for name in world.arm.deletes if name.endswith("/bootstrap")]


async def test_without_the_setting_no_vm_is_made(wheel: Path) -> None:
    world = World(wheel, **WINDOWS)
    operation_id = await world.request(OperationKind.CREATE)
    await world.drive()
    operation = await world.operation_now(operation_id)
    assert operation.error is not None
    assert (operation.error.code, operation.error.target) == ("UnsupportedOperatingSystem", GATE)
    assert "pay-a" not in world.arm.names()


class TestDrift:
    plan = plan_of(record("pay", **WINDOWS), subscription_id=SUBSCRIPTION)
    wanted = extension(plan, "a", None)
    there = returned(extension(plan, "a", "boot a"))

    def test_nothing_is_compared_that_azure_does_not_show(self) -> None:
        assert "protectedSettings" not in self.there["properties"]
        assert deviation(self.plan, self.wanted, self.there) is None

    def test_a_missing_one_is_noticed(self) -> None:
        found = deviation(self.plan, self.wanted, None)
        assert found is not None
        assert found.repairable

    def test_another_extension_of_that_name_is_left_untouched(self) -> None:
        other = {**self.there, "properties": {**self.there["properties"], "publisher": "Somebody.Else"}}
        with pytest.raises(ImmutableProperty, match=r"Somebody\.Else"):
            self.wanted.parameters(other)
        with pytest.raises(NotOwned):
            self.wanted.parameters({**self.there, "tags": Owner("pay", "another").tags})

    def test_linux_nodes_have_none(self) -> None:
        linux = plan_of(record("pay"), subscription_id=SUBSCRIPTION)
        assert not [spec for spec in cluster_specs(linux) if spec.ref.type is ResourceType.VM_EXTENSION]
        assert IMAGES["debian-12"].os == "linux"


ARTIFACT = {"url": "https://example.net/a", "sha256": "0" * 64}
NAMED = json.dumps({"python": ARTIFACT, "pip": ARTIFACT, "winfsp": ARTIFACT})


@pytest.mark.parametrize(
    ("gate", "artifacts", "words"),
    [
        ("on", NAMED, "valid: 'preview'"),
        ("preview", "", "must name what the nodes download"),
        ("preview", "{", "it looks like"),
        ("preview", "[]", "exactly python, pip, winfsp"),
        ("preview", json.dumps({"python": ARTIFACT}), "exactly python, pip, winfsp"),
        ("preview", NAMED.replace("sha256", "sha"), "an object of url and sha256"),
        ("preview", NAMED.replace("https", "http"), "not https"),
        ("preview", NAMED.replace("0" * 64, "0"), "no SHA-256"),
        ("preview", NAMED.replace("/a", "/'a"), "%XX"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(gate: str, artifacts: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_windows({"MIRRORPLANE_WINDOWS": gate, "MIRRORPLANE_WINDOWS_ARTIFACTS": artifacts})


def test_by_default_windows_is_refused_whatever_is_named() -> None:
    assert read_windows({}) is None
    assert read_windows({"MIRRORPLANE_WINDOWS_ARTIFACTS": NAMED}) is None
    found = read_windows({"MIRRORPLANE_WINDOWS": "preview", "MIRRORPLANE_WINDOWS_ARTIFACTS": NAMED})
    assert isinstance(found, WindowsArtifacts)

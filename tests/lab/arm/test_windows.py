"""Windows VMs and their extension at the lab's ARM endpoint, through Microsoft's unmodified client."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.lab.arm import bodies
from tests.lab.arm.bodies import GROUP, LOCATION
from tests.lab.arm.conftest import Lab

PASSWORD = "One-time-Pa55word"
WINDOWS: dict[str, Any] = {"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer"}


def windows_vm(**profile: Any) -> dict[str, Any]:
    body = bodies.vm("demo-a-nic")
    image = {**WINDOWS, "sku": "2025-datacenter-azure-edition", "version": "latest"}
    body["properties"]["storageProfile"]["imageReference"] = image
    body["properties"]["osProfile"] = {
        "computerName": "demo-a",
        "adminUsername": "azureuser",
        "adminPassword": PASSWORD,
        "customData": base64.b64encode(b"$Needed = @('node')").decode(),
        "windowsConfiguration": {"patchSettings": {"patchMode": "Manual"}},
        **profile,
    }
    return body


def extension(**properties: Any) -> dict[str, Any]:
    wanted = {
        "publisher": "Microsoft.Compute",
        "type": "CustomScriptExtension",
        "typeHandlerVersion": "1.10",
        "protectedSettings": {"commandToExecute": "cmd /c secret"},
    }
    return {"location": LOCATION, "properties": {**wanted, **properties}}


async def made(lab: Lab) -> Lab:
    for operations, name, body in (
        (lab.network.virtual_networks, "demo-vnet", bodies.vnet()),
        (lab.network.network_interfaces, "demo-a-nic", bodies.nic()),
        (lab.compute.virtual_machines, "demo-a", windows_vm()),
    ):
        await (await operations.begin_create_or_update(GROUP, name, body)).result()
    return lab


async def put(lab: Lab, name: str, body: dict[str, Any]) -> dict[str, Any]:
    extensions = lab.compute.virtual_machine_extensions
    done = await (await extensions.begin_create_or_update(GROUP, "demo-a", name, body)).result()
    found: dict[str, Any] = done.as_dict()
    return found


async def test_an_extension_runs_its_command_and_never_shows_it(lab: Lab) -> None:
    await made(lab)
    shown = await put(lab, "bootstrap", extension())
    assert lab.provider.scripts == ["cmd /c secret"]
    assert shown["properties"]["provisioningState"] == "Succeeded"
    assert "secret" not in str(shown)
    read = await lab.compute.virtual_machine_extensions.get(GROUP, "demo-a", "bootstrap")
    assert "secret" not in str(read.as_dict())
    machine = await lab.compute.virtual_machines.get(GROUP, "demo-a")
    assert PASSWORD not in str(machine.as_dict())
    listed = [row.name async for row in lab.resources.resources.list_by_resource_group(GROUP)]
    assert "demo-a/bootstrap" in listed


async def test_it_goes_with_its_vm(lab: Lab) -> None:
    await made(lab)
    await put(lab, "bootstrap", extension())
    await (await lab.compute.virtual_machines.begin_delete(GROUP, "demo-a")).result()
    with pytest.raises(ResourceNotFoundError):
        await lab.compute.virtual_machine_extensions.get(GROUP, "demo-a", "bootstrap")


async def test_a_command_that_fails_fails_the_extension_and_can_be_given_again(lab: Lab) -> None:
    await made(lab)
    lab.provider.extension_exit_code = 7
    with pytest.raises(HttpResponseError, match='non-zero exit code of: "7"') as caught:
        await put(lab, "bootstrap", extension())
    assert caught.value.error is not None
    assert caught.value.error.code == "VMExtensionProvisioningError"
    assert "secret" not in str(caught.value)
    read = await lab.compute.virtual_machine_extensions.get(GROUP, "demo-a", "bootstrap")
    assert read.provisioning_state == "Failed"
    lab.provider.extension_exit_code = 0
    assert (await put(lab, "bootstrap", extension()))["properties"]["provisioningState"] == "Succeeded"


@pytest.mark.parametrize(
    ("name", "properties", "status", "code"),
    [
        ("other", {}, 400, "BadRequest"),
        ("bootstrap", {"type": "DSC"}, 400, "NotModelledByTheLab"),
        ("bootstrap", {"typeHandlerVersion": "1"}, 400, "InvalidParameter"),
        ("bootstrap", {"settings": {"fileUris": ["https://example.net/x"]}}, 400, "NotModelledByTheLab"),
        ("bootstrap", {"protectedSettings": {"commandtoexecute": "x"}}, 400, "NotModelledByTheLab"),
        ("bootstrap", {"settings": {"commandToExecute": "x"}}, 409, "VMExtensionProvisioningError"),
        ("bootstrap", {"protectedSettings": {}}, 409, "VMExtensionProvisioningError"),
        ("bootstrap", {"protectedSetting": {}}, 400, "BadRequest"),
    ],
)
async def test_what_an_extension_cannot_be(
    lab: Lab, name: str, properties: dict[str, Any], status: int, code: str
) -> None:
    await made(lab)
    await put(lab, "bootstrap", extension())
    with pytest.raises(HttpResponseError) as caught:
        await put(lab, name, extension(**properties))
    assert caught.value.error is not None
    assert caught.value.error.code == code
    assert caught.value.status_code in (status, 200)  # the failure of an operation is read from its state


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"computerName": "sixteen-letters-a"}, "15 characters"),
        ({"computerName": "123"}, "entirely numeric"),
        ({"adminUsername": "Administrator"}, "not allowed"),
        ({"adminUsername": "a" * 21}, "at most 20"),
        ({"adminPassword": "alllowercase"}, "complexity"),
        ({"adminPassword": "P@ssw0rd"}, "complexity"),
        ({"adminPassword": None}, "adminPassword"),
        ({"linuxConfiguration": {"disablePasswordAuthentication": False}}, "linuxConfiguration"),
        (
            {"windowsConfiguration": {"patchSettings": {"patchMode": "Manual", "enableHotpatching": True}}},
            "enableHotpatching",
        ),
    ],
)
async def test_what_azure_refuses_of_a_windows_profile(lab: Lab, profile: dict[str, Any], words: str) -> None:
    await (await lab.network.virtual_networks.begin_create_or_update(GROUP, "demo-vnet", bodies.vnet())).result()
    await (await lab.network.network_interfaces.begin_create_or_update(GROUP, "demo-a-nic", bodies.nic())).result()
    with pytest.raises(HttpResponseError, match=words):
        await (
            await lab.compute.virtual_machines.begin_create_or_update(GROUP, "demo-a", windows_vm(**profile))
        ).result()


async def test_a_vm_that_does_not_run_takes_no_extension(lab: Lab) -> None:
    await made(lab)
    await (await lab.compute.virtual_machines.begin_power_off(GROUP, "demo-a")).result()
    with pytest.raises(HttpResponseError, match="not running"):
        await put(lab, "bootstrap", extension())

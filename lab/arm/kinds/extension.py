"""Extensions of virtual machines: the Custom Script extension for Windows, which is the only one the lab can stand for.

What a client may see is what Azure shows: public settings, state, and never the protected settings. Checked as Azure
does: the parent, publisher and type, the version, one extension per handler. What only the handler finds (no command,
a command in both places) is the failure of the operation, as on Azure: `lab.arm.extensions`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lab.arm.errors import ArmError, compute_parameter, not_modelled
from lab.arm.ids import ResourceId, same
from lab.arm.kinds.base import Kind
from lab.arm.state import Resource, State

HANDLER = ("Microsoft.Compute", "CustomScriptExtension")
PROTECTED = "protectedSettings"
# Of the handler's schema (Microsoft Learn, "Custom Script Extension for Windows"); the others fetch files from storage.
_SETTINGS = frozenset({"commandToExecute", "timestamp"})
_VERSION = re.compile(r"^[0-9]+\.[0-9]+$")


class VmExtension(Kind):
    type = "Microsoft.Compute/virtualMachines/extensions"
    module = "azure.mgmt.compute"
    model = "VirtualMachineExtension"
    not_modelled = frozenset({"protectedSettingsFromKeyVault", "provisionAfterExtensions"})
    etag = False

    def reduce_references(self, wish: dict[str, Any]) -> None:
        """Settings are the handler's own: nothing in them is a reference."""

    def complete(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        properties.setdefault("autoUpgradeMinorVersion", False)
        properties.setdefault("suppressFailures", False)
        properties.setdefault("settings", {})

    def validate(self, rid: ResourceId, wish: dict[str, Any], old: Resource | None, state: State) -> None:
        properties = wish["properties"]
        vm = state.find(str(rid.parent))
        if vm is None:
            raise ArmError(
                404,
                "ParentResourceNotFound",
                "Failed to perform 'write' on resource(s) of type 'virtualMachines/extensions', because the parent "
                f"resource '{rid.parent}' could not be found.",
            )
        for name in ("publisher", "type", "typeHandlerVersion"):
            if not properties.get(name):
                raise compute_parameter(f"Required parameter '{name}' is missing (null).", name)
        profile = vm.properties["osProfile"]
        if not profile["allowExtensionOperations"]:
            raise ArmError(
                409,
                "OperationNotAllowed",
                "This operation cannot be performed when extension operations are disallowed. To allow, please ensure "
                "VM Agent is installed on the VM and the osProfile.allowExtensionOperations property is true.",
            )
        if (properties["publisher"], properties["type"]) != HANDLER or "windowsConfiguration" not in profile:
            raise not_modelled(f"Extension {properties['publisher']}/{properties['type']} on this VM", "type")
        if not _VERSION.match(properties["typeHandlerVersion"]):
            raise compute_parameter(
                f"The value '{properties['typeHandlerVersion']}' of parameter 'typeHandlerVersion' is invalid.",
                "typeHandlerVersion",
            )
        if not same(wish["location"], vm.location):
            raise compute_parameter(f"The extension has to be in '{vm.location}', as its VM is.", "location")
        for place in ("settings", PROTECTED):
            for name in properties.get(place) or {}:
                if name not in _SETTINGS:
                    raise not_modelled(f"Setting '{name}' of the Custom Script extension", f"properties.{place}.{name}")
        for other in state.of_type(self.type):
            if same(str(other.rid.parent), str(rid.parent)) and not same(other.rid.name, rid.name):
                raise ArmError(
                    400,
                    "BadRequest",
                    f"Multiple VMExtensions per handler not supported for OS type 'Windows'. VMExtension "
                    f"'{other.rid.name}' with handler '{'.'.join(HANDLER)}' already added or specified in input.",
                )
        if old is not None and [old.properties[k] for k in ("publisher", "type")] != list(HANDLER):
            raise ArmError(409, "PropertyChangeNotAllowed", "Changing property 'type' is not allowed.", target="type")

    def bare(self, wish: dict[str, Any]) -> dict[str, Any]:
        properties = {key: value for key, value in wish["properties"].items() if key != PROTECTED}
        return {**wish, "properties": properties}

    def assign(self, resource: Resource, state: State) -> None:
        """Protected settings are encrypted for the VM and never come back; every write brings its own."""
        resource.secrets[PROTECTED] = json.dumps(resource.properties.pop(PROTECTED, {}))


def command_of(resource: Resource) -> str:
    """What the VM is to run. Raises ArmError as the handler does."""
    public = resource.properties["settings"].get("commandToExecute")
    protected = json.loads(resource.secrets[PROTECTED]).get("commandToExecute")
    if (public is None) == (protected is None):
        reason = "must be specified" if public is None else "is in both settings and protectedSettings"
        raise failed(resource, f"Invalid configuration - commandToExecute {reason}")
    command = public if protected is None else protected
    if not isinstance(command, str) or not command.strip():
        raise failed(resource, "Invalid configuration - commandToExecute is not a text")
    return command


def failed(resource: Resource, reason: str) -> ArmError:
    return ArmError(
        409,
        "VMExtensionProvisioningError",
        f"VM '{resource.rid.parent.name}' has reported a failure when processing extension '{resource.rid.name}' "
        f"(publisher '{HANDLER[0]}' and type '{HANDLER[1]}'). Error message: '{reason}'.",
    )

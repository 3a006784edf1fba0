"""The Custom Script extension that boots a Windows node.

Azure runs the command of an extension again whenever it is written with other settings, and the command carries a
single-use token; ARM never shows protected settings. So the extension is written once: one that is there is compared
by what it is (publisher, type, owner), never by what it was told, and is written anew only after it has failed or with
a new VM. A change of tags does not reach it. It goes with its VM: deleting it alone would ask an agent of Azure that
may be dead, and wait for it.
"""

from __future__ import annotations

from mirror_agent.contract import NodeName

from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec


def extension(plan: ClusterPlan, node: NodeName, command: str | None) -> Spec:
    """`command`: what the VM runs, with a fresh token in it; None when the extension is there already."""
    return Spec(
        ref=plan.boot_extension(node),
        owner=plan.owner,
        wanted={
            "location": plan.location,
            "tags": plan.all_tags,
            "properties": {
                "publisher": "Microsoft.Compute",
                "type": "CustomScriptExtension",
                "typeHandlerVersion": "1.10",
                "autoUpgradeMinorVersion": True,
                "suppressFailures": False,
                "settings": {},
                "protectedSettings": None if command is None else {"commandToExecute": command},
            },
        },
        needs=frozenset({plan.machine(node)}),
        creatable=command is not None,
        once=True,
        immutable=(("location",), ("properties", "publisher"), ("properties", "type")),
    )

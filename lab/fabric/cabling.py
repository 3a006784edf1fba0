"""The network of one VM for one boot: a namespace with one device per interface, plugged into the VM's router.

A new namespace at each boot, because a kernel keeps a dead machine's half-closed connections and would go on talking
for it; an empty one is what a booting machine has.
"""

from __future__ import annotations

from lab.arm.provider import Interface
from lab.fabric import namespaces
from lab.fabric.router import Router


class VmCabling:
    """Implements `lab.vm.machine.Cabling`."""

    def __init__(self, namespace: str, router: Router, interfaces: tuple[Interface, ...]) -> None:
        self.namespace = namespace
        self._router = router
        self._interfaces = interfaces

    def set_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        """From the next boot on."""
        self._interfaces = interfaces

    async def plug(self) -> None:
        await namespaces.create(self.namespace)
        for number, interface in enumerate(self._interfaces):
            await self._router.plug(interface, self.namespace, f"eth{number}")

    async def unplug(self) -> None:
        for interface in self._interfaces:
            await self._router.unplug(interface)

    async def remove(self) -> None:
        await namespaces.delete(self.namespace)

"""What boots a node, made when it is needed: boot document, single-use token, one-time password.

Linux: the VM's custom data is the boot document, with the token in it. Windows: the custom data is the bootstrap script
without any secret, and the Custom Script extension that runs it carries the token in its protected settings; a password
is made up for the PUT of the VM and forgotten with it. Each call makes a new token, and earlier ones stay good for an
hour, so that a lost answer locks nobody out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mirror_agent.contract import NodeName

from shared.model.cluster import ClusterRecord
from shared.model.cluster_network import Proxy
from shared.provisioning.cloudinit import BootDocumentTooLarge, BootParameters, ProxySettings, render
from shared.provisioning.context import AgentWheel, AgentWheelMissing, Context
from shared.provisioning.plan import ClusterPlan
from shared.provisioning.specs.spec import Spec, SpecError
from shared.provisioning.specs.virtual_machine import virtual_machine
from shared.provisioning.windows_artifacts import GATE, REFUSED
from shared.provisioning.windows_boot import (
    WindowsBootParameters,
    boot_extension,
    one_time_password,
    windows_custom_data,
)
from shared.security.enrolment import create_enrolment_token

# Never through a proxy: the metadata service, the platform's own address, and the node itself.
_ALWAYS_DIRECT: Final = ("localhost", "127.0.0.1", "169.254.169.254", "168.63.129.16")


def proxy_settings(proxy: Proxy, plan: ClusterPlan) -> ProxySettings:
    nodes = (plan.private_address(node) for node in plan.nodes)
    return ProxySettings(proxy.url, (*_ALWAYS_DIRECT, *nodes, *proxy.no_proxy))


async def booted_machine(
    context: Context, record: ClusterRecord, plan: ClusterPlan, node: NodeName, now: datetime
) -> Spec:
    """The VM, ready to be made. Raises SpecError, StoreError, OSError if a script is missing from the deployment."""
    if plan.image.os == "windows":
        _wheel(context)  # a VM that could not be booted later is not made
        if context.windows is None:
            raise SpecError("UnsupportedOperatingSystem", GATE, REFUSED)
        return virtual_machine(replace(plan, admin_password=one_time_password()), node, windows_custom_data())
    start = await _start(context, record, plan, node, now)
    parameters = BootParameters(
        cluster=record.name,
        cluster_id=record.id,
        node=node,
        control_plane_url=start.control_plane_url,
        enrolment_token=start.token,
        wheel_name=start.wheel_name,
        wheel_sha256=start.wheel_sha256,
        packages=(*plan.image.packages, *record.spec.application.packages),
        proxy=start.proxy,
    )
    try:
        return virtual_machine(plan, node, render(parameters))
    except BootDocumentTooLarge as error:
        raise _too_large(plan, node, error) from error


async def booted_extension(
    context: Context, record: ClusterRecord, plan: ClusterPlan, node: NodeName, now: datetime
) -> Spec:
    """The extension that boots a Windows VM, ready to be made. Raises SpecError, StoreError."""
    if context.windows is None:
        raise SpecError("UnsupportedOperatingSystem", GATE, REFUSED)
    start = await _start(context, record, plan, node, now)
    parameters = WindowsBootParameters(
        node=node,
        control_plane_url=start.control_plane_url,
        enrolment_token=start.token,
        wheel_name=start.wheel_name,
        wheel_sha256=start.wheel_sha256,
        artifacts=context.windows,
        proxy=start.proxy,
    )
    try:
        return boot_extension(plan, parameters)
    except BootDocumentTooLarge as error:
        raise _too_large(plan, node, error) from error


def _too_large(plan: ClusterPlan, node: NodeName, error: BootDocumentTooLarge) -> SpecError:
    return SpecError("BootDocumentTooLarge", str(plan.machine(node)), str(error))


@dataclass(frozen=True, slots=True)
class _Start:
    """What a node of either system is told."""

    control_plane_url: str
    token: str = field(repr=False)
    wheel_name: str
    wheel_sha256: str
    proxy: ProxySettings | None


async def _start(context: Context, record: ClusterRecord, plan: ClusterPlan, node: NodeName, now: datetime) -> _Start:
    name, sha256 = _wheel(context)
    token = await create_enrolment_token(
        context.store.credentials, cluster=record.name, cluster_id=record.id, node=node, now=now
    )
    network = record.spec.network
    return _Start(
        control_plane_url=network.control_plane_url or context.public_url,
        token=token,
        wheel_name=name,
        wheel_sha256=sha256,
        proxy=None if network.proxy is None else proxy_settings(network.proxy, plan),
    )


def _wheel(context: Context) -> tuple[str, str]:
    """Name and SHA-256 of the agent's wheel."""
    path = context.agent_wheel
    if path is None:
        raise SpecError("AgentWheelMissing", "MIRRORPLANE_AGENT_WHEEL", "the app setting is missing; no node boots")
    try:
        return path.name, AgentWheel(path).sha256
    except AgentWheelMissing as error:
        raise SpecError("AgentWheelMissing", str(path), str(error)) from error

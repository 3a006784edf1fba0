"""VMs: cloud-init once per instance, services, power, and what is left after a power-off."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import pytest

from lab.arm.provider import PowerState, ProviderFailure
from lab.fabric import namespaces
from lab.operations import Operations, ServicePorts
from tests.lab.fabric.conftest import Fabric, eventually, http_get

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]


def host_mounts() -> str:
    return Path("/proc/self/mounts").read_text()


async def test_guest_is_a_machine_of_its_own(fabric: Fabric) -> None:
    seen = await fabric.run("a", "hostname; cat /etc/machine-id; ls -A /root /home /srv; readlink /proc/1/exe; echo $$")
    assert seen.startswith("demo-a\n" + fabric.vm("a").uuid.replace("-", "") + "\n")
    assert "/usr/bin/python3" in seen
    inside = await fabric.run("a", "findmnt -no PROPAGATION /; mountpoint /data; touch /data/x; ls /")
    assert "private" in inside
    assert "/data is a mountpoint" in inside
    assert Path.cwd().parts[1] not in inside.split() or Path.cwd().parts[1] in {"root", "home", "srv", "opt", "tmp"}


async def test_service_restarts_and_systemctl_refuses_what_it_cannot(fabric: Fabric) -> None:
    before = await fabric.run("a", "systemctl is-active web && systemctl status web | grep PID")
    assert before.startswith("active")
    await fabric.run("a", "pkill -KILL -f /opt/web.py")

    async def again() -> bool:
        return (await fabric.run("a", "systemctl is-active web")).strip() == "active" and before != await fabric.run(
            "a", "systemctl is-active web && systemctl status web | grep PID"
        )

    await eventually(again, "web.service is restarted")
    refused = await fabric.run("a", "systemctl isolate rescue.target; echo $?; systemctl mask web; echo $?")
    assert "not .target" in refused or "isolate is not supported" in refused
    assert "mask is not supported by the lab's init" in refused


async def test_power_off_leaves_no_process_and_no_namespace_and_boot_is_not_a_new_instance(fabric: Fabric) -> None:
    provider, vm_id = fabric.provider, fabric.vm_id("b")
    node = provider.machines.get(vm_id)
    boot_id = await fabric.run("b", "cat /proc/sys/kernel/random/boot_id")
    await fabric.run("b", "setsid nohup sleep 1000 >/dev/null 2>&1 & echo started")
    assert len(node.machine.group.pids()) > 2
    await provider.power_off_vm(vm_id, skip_shutdown=True)
    assert node.machine.group.pids() == []
    assert node.machine.spec.namespace not in namespaces.of_lab(provider.lab_id)
    assert await provider.vm_power_state(vm_id) is PowerState.STOPPED
    assert str(node.machine.spec.os_disk) not in host_mounts()
    assert await http_get(fabric.addresses["b"], 8080, timeout_s=0.3) is None

    await provider.start_vm(vm_id)
    assert await provider.vm_power_state(vm_id) is PowerState.RUNNING

    async def answers() -> bool:
        return await http_get(fabric.addresses["b"], 8080) is not None

    await eventually(answers, "the enabled service is back after boot")
    assert await fabric.run("b", "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert (await fabric.run("b", "wc -l < /data/first-boots")).strip() == "1"


async def test_powered_off_peer_is_silent(fabric: Fabric) -> None:
    """No FIN, no RST: a machine without power says nothing, so peers must notice by themselves."""
    reader, writer = await asyncio.open_connection(fabric.addresses["b"], 8080)
    await fabric.provider.power_off_vm(fabric.vm_id("b"), skip_shutdown=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)
    await fabric.provider.start_vm(fabric.vm_id("b"))
    writer.close()


async def test_a_frozen_machine_is_unheard_until_it_goes_on_or_boots_anew(fabric: Fabric) -> None:
    operations = Operations(fabric.provider, ServicePorts("198.18.0.1", (), None))

    async def heard() -> bool:
        return await http_get(fabric.addresses["b"], 8080, timeout_s=0.5) is not None

    async def unheard() -> bool:
        return not await heard()

    name = fabric.vm("b").name
    await operations.freeze(name)
    await operations.heal()
    await eventually(unheard, "it stands still; healing partitions does not change that")
    await operations.thaw(name)
    await eventually(heard, "it goes on")
    await operations.freeze(name)
    await fabric.provider.restart_vm(fabric.vm_id("b"))
    await eventually(heard, "a restart gives it its network back")


async def test_guest_reboots_and_powers_off_itself(fabric: Fabric) -> None:
    boot_id = await fabric.run("b", "cat /proc/sys/kernel/random/boot_id")
    await fabric.run("b", "systemctl reboot")

    async def rebooted() -> bool:
        try:
            now = await fabric.run("b", "cat /proc/sys/kernel/random/boot_id")
        except RuntimeError:
            return False
        return len(now) == len(boot_id) and now != boot_id

    await eventually(rebooted, "the guest came back with a new boot id")
    await fabric.run("b", "systemctl poweroff")

    async def stopped() -> bool:
        return await fabric.provider.vm_power_state(fabric.vm_id("b")) is PowerState.STOPPED

    await eventually(stopped, "the guest powered itself off")
    await fabric.provider.start_vm(fabric.vm_id("b"))


async def test_fuse_mount_lives_in_the_guest_and_goes_with_it(fabric: Fabric) -> None:
    program = base64.b64encode(FUSE_MOUNT.encode()).decode()
    await fabric.run("b", f"echo {program} | base64 -d > /opt/fuse.py")
    await fabric.run("b", "setsid nohup python3 /opt/fuse.py >/opt/fuse.log 2>&1 & echo started")

    async def mounted() -> bool:
        return "fuse" in await fabric.run("b", "findmnt -no FSTYPE /srv; ls /sys/fs/fuse/connections")

    await eventually(mounted, "the guest has a FUSE mount")
    assert "/srv fuse" not in host_mounts()
    # A process that waits for an answer of the file system must not keep the VM alive.
    await fabric.run("b", "setsid nohup ls /srv >/dev/null 2>&1 & echo started")
    node = fabric.provider.machines.get(fabric.vm_id("b"))
    await fabric.provider.power_off_vm(fabric.vm_id("b"), skip_shutdown=True)
    assert node.machine.group.pids() == []
    await fabric.provider.start_vm(fabric.vm_id("b"))
    assert "fuse" not in await fabric.run("b", "findmnt -no FSTYPE /srv")


async def test_orders_cloud_init_cannot_carry_out_fail_the_vm_with_a_name(fabric: Fabric) -> None:
    strange = replace(fabric.vm("a"), id=fabric.vm_id("a") + "x", custom_data=b"#cloud-config\nusers: [x]\n")
    with pytest.raises(ProviderFailure, match="cloud-init key 'users' is not supported in the lab"):
        await fabric.provider.create_vm(strange)
    missing = replace(strange, custom_data=b"#cloud-config\npackages: [surely-not-a-package]\n")
    with pytest.raises(ProviderFailure, match="apt-get install surely-not-a-package"):
        await fabric.provider.create_vm(missing)


FUSE_MOUNT = """
import ctypes, os, sys, time
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"test", b"/srv", b"fuse.test", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
time.sleep(1000)  # never answers
"""

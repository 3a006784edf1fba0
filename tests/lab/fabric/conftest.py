"""A fabric without ARM: resources as the provider gets them, on a lab id of its own, gone after each module."""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from lab import registry
from lab.arm.provider import (
    AttachedDisk,
    Disk,
    Interface,
    LbBackend,
    LbFrontend,
    LbPool,
    LbProbe,
    LbRule,
    LoadBalancer,
    Network,
    SecurityGroup,
    SecurityRule,
    Subnet,
    VmDefinition,
)
from lab.fabric.internet import claim_lab_id
from lab.fabric.provider import FabricProvider
from lab.prerequisites import missing_for_lab
from lab.wheelhouse import wheelhouse

GROUP = "/subscriptions/s/resourceGroups/g/providers"
VNET = f"{GROUP}/Microsoft.Network/virtualNetworks/net"
NSG = f"{GROUP}/Microsoft.Network/networkSecurityGroups/nsg"
BALANCER = f"{GROUP}/Microsoft.Network/loadBalancers/lb"
CLOUD_INIT = """#cloud-config
write_files:
- path: /opt/web.py
  content: |
    import http.server, os, socketserver, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            healthy = self.path != "/health" or os.path.exists("/run/healthy")
            body = f"{os.uname().nodename} {self.client_address[0]}\\n".encode()
            self.send_response(200 if healthy else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *arguments):
            pass
    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        allow_reuse_address = True
    Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
- path: /etc/systemd/system/web.service
  permissions: '0644'
  content: |
    [Service]
    ExecStart=/usr/bin/python3 /opt/web.py 8080
    Restart=always
    RestartSec=100ms
    [Install]
    WantedBy=multi-user.target
mounts:
- [/dev/disk/azure/scsi1/lun0-part1, /data, ext4, "defaults,nofail", "0", "2"]
runcmd:
- [systemctl, enable, --now, web.service]
- [touch, /run/healthy]
- [sh, -c, "date +%s%N >> /data/first-boots"]
"""


async def eventually(fact: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 30.0) -> None:
    """Wait for a fact, at most `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not await fact():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        await asyncio.sleep(0.05)


async def http_get(address: str, port: int, path: str = "/", timeout_s: float = 1.0) -> str | None:
    """The body of an answer with status 200; None for anything else."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), timeout_s)
    except (OSError, TimeoutError):
        return None
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), timeout_s)).decode()
    except (OSError, TimeoutError):
        return None
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return body if " 200 " in head.splitlines()[0] + " " and head else None


def rule(name: str, priority: int, access: str, source: str, port: str, protocol: str = "Tcp") -> SecurityRule:
    return SecurityRule(name, priority, "Inbound", access, protocol, (source,), ("*",), ("*",), (port,))


DEFAULT_RULES = (
    rule("AllowVnetInBound", 65000, "Allow", "VirtualNetwork", "*", "*"),
    rule("AllowAzureLoadBalancerInBound", 65001, "Allow", "AzureLoadBalancer", "*", "*"),
    rule("DenyAllInBound", 65500, "Deny", "*", "*", "*"),
    replace(rule("AllowAllOutBound", 65001, "Allow", "*", "*", "*"), direction="Outbound"),
)


@dataclass
class Fabric:
    """The provider and the resources of one small cluster: two VMs, a security group, a load balancer."""

    provider: FabricProvider
    directory: Path
    addresses: dict[str, str]

    def group(self, *rules: SecurityRule) -> SecurityGroup:
        return SecurityGroup(NSG, "nsg", (*rules, *DEFAULT_RULES), {})

    def interface(self, node: str) -> Interface:
        last = {"a": 4, "b": 5}[node]
        return Interface(
            nic_id=f"{GROUP}/Microsoft.Network/networkInterfaces/{node}-nic",
            name=f"{node}-nic",
            private_address=f"10.7.0.{last}",
            mac=f"02:00:00:00:00:0{last}",
            subnet_id=f"{VNET}/subnets/nodes",
            subnet_prefix="10.7.0.0/24",
            vnet_id=VNET,
            security_group_ids=(NSG,),
            public_address=self.addresses[node],
            vm_id=self.vm_id(node),
        )

    def vm_id(self, node: str) -> str:
        return f"{GROUP}/Microsoft.Compute/virtualMachines/demo-{node}"

    def vm(self, node: str) -> VmDefinition:
        disks = f"{GROUP}/Microsoft.Compute/disks/{node}"
        return VmDefinition(
            id=self.vm_id(node),
            uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, node)),
            name=f"demo-{node}",
            computer_name=f"demo-{node}",
            resource_group="g",
            subscription_id="s",
            location="westeurope",
            zone="1",
            size="Standard_D2s_v5",
            image="Debian:debian-12:12:latest",
            admin_user="azureuser",
            ssh_public_keys=(),
            os_type="Linux",
            custom_data=CLOUD_INIT.encode(),
            os_disk=Disk(f"{disks}-os", "os", 30, "1", "debian-12"),
            data_disks=(AttachedDisk(0, Disk(f"{disks}-data", "data", 8, "1")),),
            nics=(self.interface(node),),
            tags={},
            body={},
        )

    def balancer(self, *, port: int = 80, interval_s: int = 1) -> LoadBalancer:
        members = tuple(
            LbBackend(self.interface(n).nic_id, self.vm_id(n), self.interface(n).private_address) for n in "ab"
        )
        return LoadBalancer(
            id=BALANCER,
            name="lb",
            location="westeurope",
            vnet_id=VNET,
            frontends=(LbFrontend("front", "front", self.addresses["vip"], True, None),),
            pools=(LbPool("pool", "pool", members),),
            probes=(LbProbe("probe", "probe", "Http", 8080, "/health", interval_s, 1),),
            rules=(LbRule("web", "Tcp", "front", port, 8080, ("pool",), "probe", False, 4, True, "Default"),),
            body={},
        )

    async def run(self, node: str, command: str) -> str:
        done = await self.provider.machines.get(self.vm_id(node)).machine.run(["sh", "-c", command], timeout_s=30)
        return done.stdout + done.stderr

    async def boot(self, node: str) -> None:
        await self.provider.apply_interface(self.interface(node))
        for disk in (self.vm(node).os_disk, *(attached.disk for attached in self.vm(node).data_disks)):
            await self.provider.create_disk(disk)
        await self.provider.create_vm(self.vm(node))
        await eventually(lambda: self.first_boot_done(node), f"cloud-init of {node} finished")
        await eventually(lambda: self.serves(node), f"the web server of {node} answers")

    async def serves(self, node: str) -> bool:
        return "demo" in await self.run(node, "curl -s -m 2 http://127.0.0.1:8080/")

    async def first_boot_done(self, node: str) -> bool:
        return "yes" in await self.run(node, "test -e /var/lib/cloud/instance/boot-finished && echo yes")


async def make_fabric(directory: Path) -> Fabric:
    lab_id = await asyncio.to_thread(claim_lab_id)
    registry.register(lab_id, directory)
    group = registry.group_of(lab_id)
    group.create()
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=test"]
    made = await asyncio.to_thread(subprocess.run, key, capture_output=True, text=True, check=True)
    provider = FabricProvider(
        lab_id=lab_id,
        directory=directory,
        runtime=registry.runtime_directory(lab_id),
        group=group,
        ca_pem=made.stdout,
        wheelhouse=await asyncio.to_thread(wheelhouse),
    )
    await provider.open()
    addresses = {name: await provider.allocate_public_address(name) for name in ("a", "b", "vip", "nat")}
    fabric = Fabric(provider, directory, addresses)
    await provider.apply_security_group(fabric.group(rule("web", 100, "Allow", "Internet", "8080")))
    subnet = Subnet(f"{VNET}/subnets/nodes", "nodes", "10.7.0.0/24", NSG, "nat", (addresses["nat"],), False)
    await provider.apply_network(Network(VNET, "net", "westeurope", ("10.7.0.0/16",), (subnet,), {}))
    return fabric


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fabric(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    """Both VMs run, cloud-init is done. After the module nothing of it exists."""
    if reasons := missing_for_lab():
        pytest.skip("; ".join(reasons))
    made = await make_fabric(tmp_path_factory.mktemp("fabric"))
    lab_id = made.provider.lab_id
    try:
        await asyncio.gather(made.boot("a"), made.boot("b"))
        yield made
        await made.provider.close()
    finally:
        left = await asyncio.to_thread(registry.remove_traces, lab_id, made.directory)
    assert registry.traces(lab_id) == []
    assert [line for line in left if not line.startswith("directory")] == []


async def boot_and_wait(directory: str) -> None:
    """For a process that will be killed: one VM, its lab id on standard output, then nothing."""
    made = await make_fabric(Path(directory))
    await made.boot("a")
    print(made.provider.lab_id, flush=True)
    await asyncio.Event().wait()

"""A whole Azure for one machine: storage, ARM, identity, Event Grid, metadata, fabric and the Functions host.

`Cloud` starts them in order on the service address of a fresh lab id and writes `lab.json` when all answer; `close`
takes everything away again. If the process dies instead, its children die with it (PR_SET_PDEATHSIG), and the next `up`
or `down` removes namespaces, links and files by the lab's registration.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import secrets
import ssl
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lab import registry
from lab.arm.server import serve_arm
from lab.arm.service import ArmService
from lab.artifacts import GATE, artifact_settings, artifacts_app
from lab.authority import Authority
from lab.azurite.server import Azurite
from lab.control import serve_control
from lab.eventgrid.broker import Broker, Retry
from lab.eventgrid.model import Schema, Subscription, Topic
from lab.eventgrid.platform import maintenance_notice
from lab.eventgrid.server import serve_event_grid
from lab.fabric.internet import claim_lab_id, service_address
from lab.fabric.provider import FabricProvider, Stop
from lab.functions_child import FunctionsChild
from lab.functions_host.keys import Keys
from lab.identity import IdentityEndpoint, TokenIssuer, serve_identity
from lab.imds import ScheduledEvents, find_machine
from lab.inbox import PATH, Inbox
from lab.info import TOKENS, LabInfo, LabTokens, write_info, write_tokens
from lab.maintenance import Maintenance
from lab.metadata import serve_metadata
from lab.monitor.outages import Outages
from lab.monitor.recorder import Recorder
from lab.monitor.server import MonitorServer, serve_monitor
from lab.operations import Operations, ServicePorts
from lab.serve import serve_app
from lab.wheelhouse import wheelhouse
from lab.wheels import offered_wheel

TOPIC: Final = "azure-subscription"
ALERT_TOPIC: Final = "mirrorplane-alerts"
EVENT_FUNCTION: Final = "platform_event"
EVENT_RETRY_SCALE: Final = 0.1  # the first retry after a second, as a lab's clients restart in seconds
CONTROL_SOCKET: Final = "control.sock"
logger = logging.getLogger(__name__)
Say = Callable[[str], None]


class Cloud:
    """`async with Cloud(state, say=print) as cloud:`; `with_functions=False` leaves the Functions host out."""

    def __init__(self, state: Path, *, say: Say = logger.info, with_functions: bool = True) -> None:
        self._state = state
        self._say = say
        self._with_functions = with_functions
        self._stack = AsyncExitStack()
        self.stop_wanted = asyncio.Event()
        self.subscription_id = str(uuid.uuid4())
        self.scheduled_events = ScheduledEvents()
        self.functions: FunctionsChild | None = None
        self._operations: Operations | None = None
        self.info: LabInfo
        self.provider: FabricProvider
        self.arm: ArmService
        self.storage: Azurite
        self.outages = Outages()
        self.inbox: Inbox

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- start -------------------------------------------------------------------------------------------------------
    async def _start(self) -> None:
        await asyncio.to_thread(self._clean_the_dead)
        wheel, wheels = await asyncio.gather(asyncio.to_thread(offered_wheel), asyncio.to_thread(wheelhouse))
        self.lab_id = await asyncio.to_thread(claim_lab_id)
        self.directory = self._state / self.lab_id
        self._stack.callback(registry.remove_traces, self.lab_id, self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        registry.register(self.lab_id, self.directory)
        self.inbox = Inbox(self.directory / "notices.jsonl")
        self._group = registry.group_of(self.lab_id)
        self._services = self._group.below("services")
        self._services.create()
        self.address = service_address(self.lab_id)
        authority = Authority.create(self.directory, self.lab_id)
        self.provider = FabricProvider(
            lab_id=self.lab_id,
            directory=self.directory,
            runtime=registry.runtime_directory(self.lab_id),
            group=self._services,
            ca_pem=authority.pem,
            wheelhouse=wheels,
            metadata=self._serve_metadata,
        )
        self._say(f"network 198.18.{self.lab_id}.0/24, service address {self.address}")
        await self.provider.open()
        self._stack.push_async_callback(self.provider.close)
        await self._start_storage()
        tokens = await self._start_arm(authority)
        if self._with_functions:
            await self._start_functions(authority, tokens, wheel)
        self.info = self._describe(authority)
        write_tokens(self.info.tokens, tokens)
        await self._serve_control()
        write_info(self.info)
        self._stack.callback((self.directory / "lab.json").unlink, missing_ok=True)
        self._say(f"lab {self.lab_id} is up; its files: {self.directory}")

    def _clean_the_dead(self) -> None:
        for owner in registry.owners():
            if not owner.alive:
                removed = ", ".join(registry.clean(owner)) or "nothing but its name"
                self._say(f"removed what the dead lab {owner.lab_id} left: {removed}")

    async def _start_storage(self) -> None:
        self.storage = Azurite(self.address, directory=self.directory, also=self._services.join)
        await self.storage.start()
        self._stack.push_async_callback(self.storage.stop)
        self._say(f"storage: {self.storage.table_endpoint} (Azurite, process {self.storage.pid})")

    async def _start_arm(self, authority: Authority) -> LabTokens:
        issuer = self._issuer = TokenIssuer.from_file(self.directory / "identity.key")
        header, lab_key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        endpoint = IdentityEndpoint(issuer, header=header, client_ids=frozenset(), system_client_id=str(uuid.uuid4()))
        identity, identity_url = await serve_identity(endpoint, "127.0.0.1", 0)
        self._stack.push_async_callback(identity.cleanup)
        self.broker = await self._stack.enter_async_context(
            Broker(
                dead_letters=self.directory / "dead-letters.jsonl",
                retry=Retry(scale=EVENT_RETRY_SCALE),
                ssl=ssl.create_default_context(cafile=str(authority.path)),
            )
        )
        self.broker.add_topic(Topic(TOPIC, f"/subscriptions/{self.subscription_id}", Schema.EVENT_GRID))
        self.arm = ArmService(
            subscription_id=self.subscription_id,
            provider=self.provider,
            state_file=None,
            emit=self.broker.publish_resource_event(TOPIC),
        )
        self._stack.push_async_callback(self.arm.close)
        context = self._server_tls(authority, "arm")
        runner, self.arm_url = await serve_arm(self.arm, self.address, 0, context, issuer=issuer, lab_key=lab_key)
        self._stack.push_async_callback(runner.cleanup)
        self._say(f"Azure Resource Manager: {self.arm_url}, subscription {self.subscription_id}")
        return LabTokens(
            admin=f"mp_admin_{secrets.token_urlsafe(24)}",
            lab_key=lab_key,
            identity_header=header,
            identity_endpoint=identity_url,
            storage=self.storage.connection_string,
            function_keys=self.directory / "functions" / "keys.json",
        )

    async def _serve_metadata(self, namespace: str, vnet_id: str) -> Stop:
        return await serve_metadata(
            namespace, lambda address: find_machine(self.arm.state, vnet_id, address), self.scheduled_events
        )

    async def _start_functions(self, authority: Authority, tokens: LabTokens, wheel: Path) -> None:
        child = FunctionsChild(
            address=self.address,
            certificate=authority.issue("functions", self.address),
            authority=authority.path,
            state=self.directory / "functions",
            log=self.directory / "functions.log",
            also=self._services.join,
        )
        self.functions = child
        self._stack.push_async_callback(child.stop)
        more = await self._start_alert_channels(authority) | await self._start_monitor(authority)
        more |= await self._start_artifacts(authority)
        await child.start(self._app_settings(child, authority, tokens, wheel) | more)
        keys = Keys.model_validate_json(child.keys.read_text())
        webhook = (
            f"{child.url}/runtime/webhooks/eventgrid?functionName={EVENT_FUNCTION}&code={keys.eventgrid_extension}"
        )
        await self.broker.subscribe(Subscription(name="platform-events", topic=TOPIC, webhook=webhook))
        own = Subscription(name="own-alerts", topic=ALERT_TOPIC, webhook=webhook, schema=Schema.CLOUD_EVENTS)
        await self.broker.subscribe(own)
        self._say(f"control plane: {child.url}/api (Functions host, process {child.pid})")

    async def _start_monitor(self, authority: Authority) -> dict[str, str]:
        """Azure Monitor's data planes over what the load balancers really say; the settings that name them."""
        recorder = Recorder(self.provider.balancers, self.provider.probe_health)
        recording = asyncio.create_task(recorder.run(), name="monitor")
        self._stack.push_async_callback(_ended, recording)
        server = MonitorServer(recorder, self._issuer, self.outages)
        runner, url = await serve_monitor(server, self.address, 0, self._server_tls(authority, "monitor"))
        self._stack.push_async_callback(runner.cleanup)
        return {"MIRRORPLANE_METRICS_ENDPOINT": url, "MIRRORPLANE_LOGS_ENDPOINT": f"{url}/v1"}

    async def _start_artifacts(self, authority: Authority) -> dict[str, str]:
        """What Windows nodes download; nothing where this lab's environment does not allow them."""
        gate = os.environ.get(GATE, "")
        if not gate:
            return {}
        runner, url = await serve_app(artifacts_app(), self.address, 0, self._server_tls(authority, "artifacts"))
        self._stack.push_async_callback(runner.cleanup)
        self._say(f"{GATE}={gate}: VMs of Windows images are made, and are Linux VMs that stand in for them")
        return artifact_settings(url, gate)

    def _server_tls(self, authority: Authority, name: str) -> ssl.SSLContext:
        certificate = authority.issue(name, self.address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        return context

    async def _start_alert_channels(self, authority: Authority) -> dict[str, str]:
        """A custom topic and a webhook receiver; the settings that name them to the app."""
        key = secrets.token_urlsafe(32)
        topic = f"/subscriptions/{self.subscription_id}/resourceGroups/control/providers/Microsoft.EventGrid/topics"
        self.broker.add_topic(Topic(ALERT_TOPIC, f"{topic}/{ALERT_TOPIC}", Schema.CLOUD_EVENTS, key))
        context = self._server_tls(authority, "alerts")
        grid, grid_url = await serve_event_grid(self.broker, self.address, 0, context)
        self._stack.push_async_callback(grid.cleanup)
        receiver, inbox_url = await serve_app(self.inbox.app(), self.address, 0, context)
        self._stack.push_async_callback(receiver.cleanup)
        hook = {"name": "on-call", "url": f"{inbox_url}{PATH}", "secret": self.inbox.secret}
        return {
            "MIRRORPLANE_ALERT_TOPIC_ENDPOINT": f"{grid_url}/{ALERT_TOPIC}/api/events",
            "MIRRORPLANE_ALERT_TOPIC_KEY": key,
            "MIRRORPLANE_ALERT_WEBHOOKS": json.dumps([hook]),
        }

    def _app_settings(
        self, child: FunctionsChild, authority: Authority, tokens: LabTokens, wheel: Path
    ) -> dict[str, str]:
        """What infra/ sets on Azure; the app cannot tell the difference."""
        return {
            "AzureWebJobsStorage": tokens.storage,
            "MIRRORPLANE_WITNESS_STORAGE": tokens.storage,
            "MIRRORPLANE_SUBSCRIPTION_ID": self.subscription_id,
            "MIRRORPLANE_ARM_ENDPOINT": self.arm_url,
            "MIRRORPLANE_PUBLIC_URL": child.url,
            "MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256": hashlib.sha256(tokens.admin.encode()).hexdigest(),
            "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(os.urandom(32)).decode(),
            "MIRRORPLANE_AGENT_WHEEL": str(wheel),
            "MIRRORPLANE_CONTROL_PLANE_ADDRESSES": f"{self.address}/32",
            "IDENTITY_ENDPOINT": tokens.identity_endpoint,
            "IDENTITY_HEADER": tokens.identity_header,
            "REQUESTS_CA_BUNDLE": str(authority.trust),
            "SSL_CERT_FILE": str(authority.trust),
        }

    # --- what others see ---------------------------------------------------------------------------------------------
    def _describe(self, authority: Authority) -> LabInfo:
        logs = {"azurite": self.directory / "azurite.log", "daemon": self.directory / "daemon.log"}
        if self.functions is not None:
            logs["functions"] = self.directory / "functions.log"
        return LabInfo(
            id=self.lab_id,
            pid=os.getpid(),
            directory=self.directory,
            control_socket=registry.runtime_directory(self.lab_id) / CONTROL_SOCKET,
            service_address=self.address,
            control_plane_url=None if self.functions is None else self.functions.url,
            arm_url=self.arm_url,
            table_url=self.storage.table_endpoint,
            queue_url=self.storage.queue_endpoint,
            subscription_id=self.subscription_id,
            ca=authority.path,
            tokens=self.directory / TOKENS,
            logs=logs,
        )

    async def _serve_control(self) -> None:
        ports = ServicePorts(
            address=self.address,
            storage=(self.storage.table_port, self.storage.queue_port, self.storage.blob_port),
            control_plane=None if self.functions is None else self.functions.port,
        )
        operations = Operations(self.provider, ports)
        maintenance = Maintenance(self.scheduled_events, operations, self._tell_of_maintenance)
        self._stack.push_async_callback(maintenance.close)
        commands: dict[str, Callable[..., Awaitable[Any]]] = {
            **operations.commands(),
            **maintenance.commands(),
            **self.inbox.commands(),
            **self.outages.commands(),
            "restart-host": self._restart_host,
            "stop": self._stop,
            "processes": self._processes,
        }
        server = await serve_control(self.info.control_socket, commands)

        async def close() -> None:
            server.close()

        self._stack.push_async_callback(close)

    def _tell_of_maintenance(self, vm_id: str, shown: dict[str, Any], status: str) -> None:
        topic = self.broker.topic(TOPIC)
        assert topic is not None, "made before ARM was"
        self.broker.publish(topic, maintenance_notice(self.subscription_id, vm_id, shown, status))

    async def _restart_host(self, kill: bool = True) -> str:
        if self.functions is None:
            return "this lab runs without the Functions host"
        await self.functions.restart(kill=kill)
        return f"the Functions host is process {self.functions.pid} now"

    async def _stop(self) -> str:
        self.stop_wanted.set()
        return "stopping"

    async def _processes(self) -> dict[str, int | None]:
        functions = None if self.functions is None else self.functions.pid
        return {"daemon": os.getpid(), "azurite": self.storage.pid, "functions": functions}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

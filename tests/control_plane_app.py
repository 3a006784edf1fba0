"""The control plane's functions over a store in memory, called as the worker calls them."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mirror_agent.contract import Heartbeat, NodeName

import function_app
from shared.api.endpoints import ENDPOINTS
from shared.api.plane import ControlPlane
from shared.api.probe import Probed
from shared.composition import installed
from shared.model.cluster import ClusterRecord, ObservedNode, ObservedResources, ProvisioningState, settled
from shared.model.node_state import ProbeOutcome
from shared.model.operation import OperationStatus, finished
from shared.model.principal import AccessRole
from shared.security.access import create_token
from shared.security.enrolment import create_enrolment_token
from shared.security.secret import hashed
from shared.settings import Settings
from shared.store.connect import memory_store
from shared.store.memory_rows import MemoryRows
from shared.store.queue import MemoryReconcileQueue
from tests.control_plane_samples import Clock, cluster_body, heartbeat

VERSION: Final = "2026-11-01"
PUBLIC_URL: Final = "https://control.example.org"
BOOTSTRAP: Final = "bootstrap-token-of-the-tests"
WRAPPING_KEY: Final = bytes(range(32))


@cache
def functions() -> Mapping[str, func.decorators.function_app.Function]:
    """The function index, built once: a FunctionApp refuses to be indexed twice."""
    return {str(entry.get_function_name()): entry for entry in function_app.app.get_functions()}


class ScriptedProber:
    """Answers by address; an address without an answer is refused."""

    def __init__(self) -> None:
        self.answers: dict[str, Probed] = {}
        self.asked: list[str] = []

    async def probe(self, address: str) -> Probed:
        self.asked.append(address)
        return self.answers.get(address, Probed(ProbeOutcome.REFUSED, reason=f"{address}: Connection refused"))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The error code; header and body must agree."""
        code = str(self.body["error"]["code"])
        assert self.headers["x-ms-error-code"] == code
        return code

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])

    @property
    def target(self) -> str | None:
        return self.body["error"].get("target")  # type: ignore[no-any-return]


@dataclass
class App:
    plane: ControlPlane
    rows: MemoryRows
    queue: MemoryReconcileQueue
    clock: Clock
    prober: ScriptedProber
    tokens: dict[str, str] = field(default_factory=dict)

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = BOOTSTRAP,
        headers: Mapping[str, str] | None = None,
        version: str | None = VERSION,
    ) -> Reply:
        """`path` is below /api and may carry a query; a `body` of bytes goes as it is."""
        parts = urlsplit(f"/{path}")  # without the slash "clusters:estimate" reads like a scheme
        below = parts.path[1:]
        query = dict(parse_qsl(parts.query))
        if version is not None:
            query.setdefault("api-version", version)
        name, route = _route(method, below)
        sent = dict(headers or {})
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = func.HttpRequest(
            method=method,
            url=f"{PUBLIC_URL}/api/{below}",
            headers=sent,
            params=query,
            route_params=route,
            body=content,
        )
        handler: Callable[[func.HttpRequest], Awaitable[func.HttpResponse]] = functions()[name].get_user_function()
        answer = await handler(request)
        headers_out = {key.lower(): value for key, value in answer.headers.items()}
        return Reply(answer.status_code, headers_out, answer.get_body())

    async def fire(self, name: str, *arguments: object) -> None:
        """Run a timer or event function."""
        await functions()[name].get_user_function()(*arguments)

    async def put(self, name: str = "pay", **changes: Any) -> Reply:
        return await self.send("PUT", f"clusters/{name}", cluster_body(**changes))

    async def record(self, name: str = "pay") -> ClusterRecord:
        found = await self.plane.store.clusters.get(name)
        assert found is not None
        return found.value

    async def provisioned(self, name: str = "pay", **changes: Any) -> ClusterRecord:
        """A cluster as the reconciler leaves it at the end."""
        assert (await self.put(name, **changes)).status == 201
        return await self.settle(name)

    async def settle(self, name: str = "pay", state: ProvisioningState = ProvisioningState.SUCCEEDED) -> ClusterRecord:
        found = await self.plane.store.clusters.get(name)
        assert found is not None
        operation = await self.plane.store.operations.get(found.value.operation.id)
        assert operation is not None
        ended = OperationStatus.SUCCEEDED if state is ProvisioningState.SUCCEEDED else OperationStatus.FAILED
        await self.plane.store.operations.replace(finished(operation.value, ended, self.clock()), operation.etag)
        nodes = {
            node: ObservedNode(private_address=f"10.0.0.{host}", public_address=f"198.51.100.{host}")
            for host, node in enumerate(found.value.nodes, 4)
        }
        seen = settled(found.value, state, self.clock()).model_copy(
            update={"resources": ObservedResources(virtual_ip_address="198.51.100.9", nodes=nodes)}
        )
        self.queue.take()
        return (await self.plane.store.clusters.replace(seen, found.etag)).value

    async def token(self, role: AccessRole) -> str:
        if role.value not in self.tokens:
            _, text = await create_token(
                self.plane.store.tokens,
                name=role.value,
                role=role,
                created_by="test",
                now=self.clock(),
                expires_at=None,
            )
            self.tokens[role.value] = text
        return self.tokens[role.value]

    async def enrolment_token(self, node: NodeName = "a", name: str = "pay") -> str:
        record = await self.record(name)
        return await create_enrolment_token(
            self.plane.store.credentials, cluster=name, cluster_id=record.id, node=node, now=self.clock()
        )

    async def enrolled(self, node: NodeName = "a", name: str = "pay") -> str:
        """The credential of a node that has just enrolled."""
        reply = await self.send("POST", "nodes/enrol", enrol_body(csr()), token=await self.enrolment_token(node, name))
        assert reply.status == 200, reply.content
        return str(reply.body["nodeCredential"])

    async def beat(self, credential: str, *beats: Heartbeat, **changes: Any) -> Reply:
        body = {
            "agentVersion": "0.1.0",
            "configurationVersion": 0,
            "heartbeats": [beat.model_dump(mode="json", by_alias=True) for beat in beats or (heartbeat(),)],
        }
        return await self.send("POST", "nodes/heartbeat", {**body, **changes}, token=credential, version=None)

    def reconfigured(self, **changes: Any) -> App:
        return replace(self, plane=replace(self.plane, settings=replace(self.plane.settings, **changes)))


@contextmanager
def running_app(wheel: Path | None = None) -> Iterator[App]:
    clock, rows, prober = Clock(), MemoryRows(), ScriptedProber()
    queue = MemoryReconcileQueue(clock)
    numbers = itertools.count(1)
    plane = ControlPlane(
        settings=Settings(
            public_url=PUBLIC_URL,
            subscription_id="00000000-0000-0000-0000-000000000001",
            arm_endpoint="https://management.example.org",
            wrapping_key=WRAPPING_KEY,
            bootstrap_token_sha256=hashed(BOOTSTRAP),
            easy_auth=False,
            agent_wheel=wheel,
            control_plane_addresses=(),
        ),
        store=memory_store(rows, queue),
        clock=clock,
        new_id=lambda: str(uuid.UUID(int=next(numbers))),
        prober=prober,
    )
    with installed(plane):
        yield App(plane, rows, queue, clock, prober)


def _route(method: str, path: str) -> tuple[str, dict[str, str]]:
    for endpoint in ENDPOINTS.values():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(endpoint.route))
        found = re.fullmatch(pattern, path)
        if endpoint.method == method and found is not None:
            return endpoint.name, found.groupdict()
    raise LookupError(f"no endpoint for {method} {path}")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: ec.EllipticCurvePrivateKey | None = None, *, common_name: str = "anything") -> str:
    """A certificate request that also asks for a name it must not get."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    wanted = x509.SubjectAlternativeName([x509.DNSName("bank.example.org")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(wanted, critical=False)
    return request.sign(key or new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def enrol_body(csr_pem: str) -> dict[str, str]:
    return {"csrPem": csr_pem, "agentVersion": "0.1.0", "bootId": "boot-1"}


def later(clock: Callable[[], datetime], seconds: float) -> str:
    return (clock() + timedelta(seconds=seconds)).isoformat()

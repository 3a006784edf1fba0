"""The function app on Microsoft's worker library and Azurite: what handler tests in memory cannot see.

One walk through the API over real HTTP: routing (two functions on one route, a colon in the path), headers, binary
bodies, timers through the admin endpoint, events through the webhook, a hard kill of the host in between, and a log
without secrets. Provisioning itself is tested elsewhere; here no trigger runs by itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from azure.core.credentials_async import AsyncTokenCredential

from lab.azurite.server import Azurite
from shared.model.cluster import ClusterRecord, ProvisioningState, settled
from shared.model.operation import OperationStatus, finished
from shared.security.enrolment import create_enrolment_token
from shared.security.secret import hashed
from shared.store.connect import connect
from tests.control_plane_app import BOOTSTRAP, csr, enrol_body
from tests.control_plane_samples import cluster_body, heartbeat
from tests.lab.functions_host.process import REPOSITORY, Answer, HostProcess, wait_for

pytestmark = pytest.mark.azurite
VERSION: Final = "api-version=2026-11-01"


class Subject:
    def __init__(self, directory: Path, storage: Azurite) -> None:
        wheel = directory / "mirror_agent-0.1.0-py3-none-any.whl"
        wheel.write_bytes(bytes(range(256)))
        self._directory = directory
        self.settings = {
            "AzureWebJobsStorage": storage.connection_string,
            "MIRRORPLANE_WITNESS_STORAGE": storage.connection_string,
            "MIRRORPLANE_SUBSCRIPTION_ID": str(uuid.uuid4()),
            "MIRRORPLANE_PUBLIC_URL": "https://control.example.org",
            "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(bytes(32)).decode(),
            "MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256": hashed(BOOTSTRAP),
            "MIRRORPLANE_AGENT_WHEEL": str(wheel),
        }
        self.host = self.start()

    def start(self) -> HostProcess:
        self.host = HostProcess(self._directory, REPOSITORY, self.settings, "--no-triggers")
        return self.host.ready()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = BOOTSTRAP,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        separator = "&" if "?" in path else "?"
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}
        content = None if body is None else json.dumps(body).encode()
        return self.host.call(method, f"/api/{path}{separator}{VERSION}", content, sent)

    def fire(self, function: str) -> Answer:
        key = {"x-functions-key": self.host.keys["master"], "Content-Type": "application/json"}
        return self.host.call("POST", f"/admin/functions/{function}", b'{"input": ""}', key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def azurite() -> AsyncIterator[Azurite]:
    """A storage account of its own: the control plane's rows of other tests would be this one's past."""
    async with Azurite() as storage:
        yield storage


@pytest.fixture
def subject(tmp_path: Path, azurite: Azurite) -> Iterator[Subject]:
    made = Subject(tmp_path, azurite)
    yield made
    made.host.kill()


def _no_credential(client_id: str | None) -> AsyncTokenCredential:
    raise AssertionError("a connection string needs no credential")


async def _settle_and_invite(settings: Mapping[str, str], name: str) -> tuple[ClusterRecord, str]:
    """What the reconciler does: ends the operation, and gives node a its enrolment token."""
    connection = connect(settings, _no_credential)
    try:
        store, now = connection.store, datetime.now(UTC)
        found = await store.clusters.get(name)
        assert found is not None
        operation = await store.operations.get(found.value.operation.id)
        assert operation is not None
        await store.operations.replace(finished(operation.value, OperationStatus.SUCCEEDED, now), operation.etag)
        record = settled(found.value, ProvisioningState.SUCCEEDED, now)
        await store.clusters.replace(record, found.etag)
        token = await create_enrolment_token(store.credentials, cluster=name, cluster_id=record.id, node="a", now=now)
        return record, token
    finally:
        await connection.close()


def _json(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_a_walk_through_the_api(subject: Subject) -> None:
    name = f"c{uuid.uuid4().hex[:12]}"
    created = subject.send("PUT", f"clusters/{name}", cluster_body(), headers={"If-None-Match": "*"})
    assert created.status == 201, created.body
    assert created.headers["ETag"] == _json(created)["etag"]
    assert created.headers["Operation-Location"].startswith("https://control.example.org/api/operations/")
    assert subject.send("PUT", f"clusters/{name}", cluster_body(), headers={"If-None-Match": "*"}).status == 412
    operation_id = created.headers["Operation-Id"]
    assert _json(subject.send("GET", f"operations/{operation_id}"))["status"] == "NotStarted"

    subject.host.kill()
    subject.start()
    assert _json(subject.send("GET", f"clusters/{name}"))["provisioningState"] == "Creating"
    record, token = asyncio.run(_settle_and_invite(subject.settings, name))

    wheel = subject.send("GET", "nodes/agent-wheel", token=token)
    assert (wheel.status, wheel.body) == (200, bytes(range(256)))
    enrolled = subject.send("POST", "nodes/enrol", enrol_body(csr()), token=token)
    assert enrolled.status == 200, enrolled.body
    credential = _json(enrolled)["nodeCredential"]
    post = {
        "agentVersion": "0.1.0",
        "configurationVersion": _json(enrolled)["configuration"]["version"],
        "heartbeats": [heartbeat("a").model_dump(mode="json", by_alias=True)],
    }
    beat = subject.send("POST", "nodes/heartbeat", post, token=credential)
    assert (beat.status, _json(beat)["configuration"]) == (200, None)

    action = subject.send("POST", f"clusters/{name}:swap", {"reason": "test"})
    assert action.status == 202, action.body
    post["heartbeats"] = [heartbeat("a", sequence=2).model_dump(mode="json", by_alias=True)]
    [command] = _json(subject.send("POST", "nodes/heartbeat", post, token=credential))["commands"]
    done = {**post, "commandResults": [{"id": command["id"], "status": "succeeded"}]}
    assert _json(subject.send("POST", "nodes/heartbeat", done, token=credential))["confirmedResults"] == [command["id"]]
    assert _json(subject.send("GET", f"operations/{_json(action)['id']}"))["status"] == "Succeeded"
    listed = _json(subject.send("GET", f"clusters/{name}/heartbeats?node=a"))["value"]
    assert [entry["sequence"] for entry in listed] == [2, 1]

    assert subject.fire("health_audit").status == 202
    probes = wait_for(
        lambda: _json(subject.send("GET", f"clusters/{name}/probes?node=a"))["value"] or None, "the audit's own probe"
    )
    assert probes[0]["outcome"] == "impossible"

    deleted = subject.send("DELETE", f"clusters/{name}", headers={"If-Match": created.headers["ETag"]})
    assert (deleted.status, _json(deleted)["kind"]) == (202, "delete")
    assert _json(subject.send("GET", f"clusters/{name}"))["provisioningState"] == "Deleting"

    log = subject.host.log()
    assert '\\"event\\": \\"request\\"' in log or '"event": "request"' in log
    for secret in (BOOTSTRAP, token, credential, _json(enrolled)["configuration"]["witness"]["sas"]):
        assert secret.rpartition("_")[2] not in log
    assert record.id not in subject.settings.values()


def test_refusals_keep_their_shape_over_http(subject: Subject) -> None:
    refused = subject.host.call("GET", f"/api/clusters?{VERSION}")
    assert refused.status == 401
    assert refused.headers["x-ms-error-code"] == _json(refused)["error"]["code"] == "Unauthenticated"
    assert {key.lower(): value for key, value in refused.headers.items()}["content-type"] == "application/json"
    assert refused.headers["x-ms-request-id"]
    # Healthy is who audited lately; how long the tests before this one took must not decide it.
    assert subject.fire("health_audit").status == 202
    healthy = wait_for(lambda: subject.host.call("GET", "/api/health").status == 200 or None, "an audit that ended")
    assert healthy
    assert subject.host.call("GET", "/api/health").body == b'{"status":"ok"}'
    assert _json(subject.send("GET", "openapi.json"))["openapi"] == "3.1.0"
    assert subject.send("DELETE", "clusters/none-at-all").status == 204
    large = subject.send("PUT", "clusters/large", cluster_body(application__startPrim="x" * 1024 * 1024))
    assert large.status == 413


@pytest.mark.parametrize("cloud", [True, False], ids=["CloudEvents", "Event Grid schema"])
def test_events_through_the_webhook(subject: Subject, cloud: bool) -> None:
    identity = str(uuid.uuid4())
    event: dict[str, Any] = (
        {"specversion": "1.0", "id": identity, "source": "/s", "type": "T", "data": {"k": 1}}
        if cloud
        else {"id": identity, "topic": "/s", "subject": "x", "eventType": "T", "eventTime": "2026-11-22T12:00:00Z"}
    )
    malformed = {"specversion": "1.0", "id": identity} if cloud else {"id": identity, "subject": "x"}
    headers = {
        "aeg-event-type": "Notification",
        "Content-Type": "application/cloudevents-batch+json" if cloud else "application/json",
    }
    path = f"/runtime/webhooks/eventgrid?functionName=platform_event&code={subject.host.keys['master']}"
    for _ in range(2):
        content = json.dumps([event, event, malformed]).encode()
        assert subject.host.call("POST", path, content, headers).status in (200, 202)
    listed = _json(subject.send("GET", "events?top=100"))["value"]
    assert [entry["type"] for entry in listed if entry["id"] == identity] == ["T"]
    kept = [entry for entry in listed if entry["malformed"] and identity in entry["data"]["text"]]
    assert len(kept) == 1

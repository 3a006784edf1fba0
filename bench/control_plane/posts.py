"""Requests to the tables of one heartbeat post, counted on the production code over Azurite."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from bench.control_plane.audits import plane_over
from bench.control_plane.fleet import beat, fill
from bench.control_plane.storage import on_azurite
from lab.azurite.server import Azurite
from shared.api.call import Call
from shared.api.endpoint import serve
from shared.api.endpoints import ENDPOINTS
from shared.model.principal import NodeCredential
from shared.security.secret import hashed, new_secret
from tests.control_plane_samples import Clock

POSTS: Final = 20


async def operations_per_post(storage: Azurite) -> float:
    clock = Clock(datetime.now(UTC))
    async with on_azurite(storage) as bench:
        plane = plane_over(bench, clock)
        [made] = await fill(bench, ["counted"], clock())
        secret = new_secret()
        credential = NodeCredential(
            cluster_id=made.id,
            cluster=made.name,
            node="a",
            enrolment_id="bench",
            secret_sha256=hashed(secret),
            enrolled_at=clock(),
        )
        await bench.store.credentials.put_credential(credential, None)
        before = 0
        for number in range(POSTS + 1):
            if number == 1:  # the first one makes tables
                before = 0 if bench.counted is None else bench.counted.total
            clock.advance(5)
            body = {
                "agentVersion": "0.1.0",
                "configurationVersion": 1,
                "heartbeats": [beat("a", 2 + number).model_dump(mode="json", by_alias=True)],
            }
            headers = {"authorization": f"Bearer mpn_{made.id}_a_{secret}", "content-type": "application/json"}
            call = Call("POST", "/api/nodes/heartbeat", headers, {}, {}, json.dumps(body).encode())
            answer = await serve(lambda: plane, ENDPOINTS["node_heartbeat"], call)
            if answer.status != 200:
                raise RuntimeError(f"the post was answered {answer.status}: {answer.body!r}")
        return ((0 if bench.counted is None else bench.counted.total) - before) / POSTS

"""Changes of a running cluster as cases of the fault matrix: its clients write, its judge counts what is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from lab.demo.api import ControlPlane
from lab.faults.scene import CaseBroken, Scene
from lab.faults.stage import Stage

DEADLINE_S: Final = 2400.0
POLL_S: Final = 1.0
Fault = Callable[[Scene], Awaitable[None]]


def api_of(stage: Stage) -> ControlPlane:
    assert stage.info.control_plane_url is not None
    return ControlPlane(stage.info.control_plane_url, stage.info.read_tokens().admin, str(stage.info.ca))


async def ended(api: ControlPlane, headers: dict[str, str]) -> dict[str, Any]:
    """The operation at its end, whatever that is."""
    operation = next(value for name, value in headers.items() if name.lower() == "operation-id")
    limit = time.monotonic() + DEADLINE_S
    shown = ""
    while True:
        _, document, _ = await api.call("GET", f"/operations/{operation}")
        said = "; ".join(f"{step['name']}: {step.get('message', '')}" for step in document["steps"])
        if said != shown:
            print(f"    {document['percentComplete']} %  {said}"[:300], flush=True)
            shown = said
        if document["status"] in ("Succeeded", "Failed", "Canceled"):
            return document
        if time.monotonic() > limit:
            raise CaseBroken(f"operation {operation} is still {document['status']}: {said}")
        await asyncio.sleep(POLL_S)


class Change:
    """One change as the accident of a case; `operation` is what became of it."""

    def __init__(self, method: str, path: str, body: Callable[[], Any]) -> None:
        self._method = method
        self._path = path
        self._body = body
        self.operation: dict[str, Any] = {}

    async def __call__(self, scene: Scene) -> None:
        stage = scene.stage
        async with api_of(stage) as api:
            path = self._path.format(name=stage.cluster)
            _, _, headers = await api.call(self._method, path, self._body())
            self.operation = await ended(api, headers)


def upgrade(version: str) -> Change:
    return Change("POST", "/clusters/{name}:upgrade", lambda: {"version": version, "reason": "the test"})


def swap() -> Change:
    return Change("POST", "/clusters/{name}:swap", lambda: {"reason": "the measure of the others"})


def configuration(spec: dict[str, Any]) -> Change:
    return Change("PUT", "/clusters/{name}", lambda: spec)


def other_application(spec: dict[str, Any]) -> dict[str, Any]:
    """Another environment of the application and a longer promise: both need a new beginning."""
    application = spec["application"] | {"environment": {"LEDGER_NOTE": "changed"}}
    return spec | {"application": application, "timing": spec["timing"] | {"promiseS": 5.0}}


def other_checkers(spec: dict[str, Any]) -> dict[str, Any]:
    """Another threshold: taken at once."""
    application = spec["application"]
    checkers = [checker | {"threshold": checker.get("threshold", 2) + 1} for checker in application["checkers"]]
    return spec | {"application": application | {"checkers": checkers}}

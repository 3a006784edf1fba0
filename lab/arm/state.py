"""What the ARM endpoint remembers: resource groups, resources, operations; in memory, mirrored to one JSON file.

A resource keeps its *wish* (the checked body), what the service *assigned* (addresses, GUIDs) and its *secrets* (custom
data, never rendered). The file is replaced atomically and private (0600), because secrets are in it. After a restart of
the lab, operations that were under way are failed, not forgotten: their resources show `Failed`, and a repeated PUT
repairs them, as a client of Azure has to be able to do anyway.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.arm.ids import ResourceId, parse_resource_id

FORMAT = 1
ENDED_OPERATIONS_KEPT = 500
_ETAG_NAMESPACE = uuid.UUID("6d6972f2-0000-4000-8000-706c616e6500")

SUCCEEDED, FAILED, IN_PROGRESS = "Succeeded", "Failed", "InProgress"
CREATING, UPDATING, DELETING = "Creating", "Updating", "Deleting"


@dataclass(slots=True)
class Group:
    subscription: str
    name: str
    location: str
    tags: dict[str, str]
    managed_by: str | None = None
    state: str = SUCCEEDED
    operation: str | None = None

    @property
    def id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.name}"


@dataclass(slots=True)
class Resource:
    id: str
    wish: dict[str, Any]  # location, tags, sku, zones, properties… as checked and completed with defaults
    created_at: str
    assigned: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    state: str = SUCCEEDED
    generation: int = 0
    operation: str | None = None
    error: dict[str, Any] | None = None

    @property
    def rid(self) -> ResourceId:
        return parse_resource_id(self.id)

    @property
    def properties(self) -> dict[str, Any]:
        found: dict[str, Any] = self.wish["properties"]
        return found

    @property
    def location(self) -> str:
        return str(self.wish["location"])

    def etag_of(self, rendered: dict[str, Any]) -> str:
        """Changes with every write of the resource and with everything a reader can see of it (back references)."""
        text = f"{self.id}\n{self.generation}\n{json.dumps(rendered, sort_keys=True)}"
        return str(uuid.uuid5(_ETAG_NAMESPACE, text))


@dataclass(slots=True)
class Operation:
    """A long-running operation. `lost` = its status URL answers 404 although the work goes on (a fault)."""

    id: str
    subscription: str
    namespace: str
    location: str
    verb: str  # "write", "delete" or the action's name
    resource_id: str
    started_at: str
    status: str = IN_PROGRESS
    ended_at: str | None = None
    error: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    lost: bool = False


@dataclass(slots=True)
class State:
    groups: dict[str, Group] = field(default_factory=dict)  # key: lower-case name
    resources: dict[str, Resource] = field(default_factory=dict)  # key: lower-case id
    operations: dict[str, Operation] = field(default_factory=dict)

    def find(self, id_text: str) -> Resource | None:
        return self.resources.get(id_text.lower())

    def in_group(self, group: str) -> list[Resource]:
        return [r for r in self.resources.values() if r.rid.group.lower() == group.lower()]

    def of_type(self, type_name: str) -> Iterator[Resource]:
        wanted = type_name.lower()
        return (r for r in list(self.resources.values()) if r.rid.type.lower() == wanted)

    def forget_old_operations(self) -> None:
        ended = [o.id for o in self.operations.values() if o.status != IN_PROGRESS]
        for id_text in ended[:-ENDED_OPERATIONS_KEPT]:
            del self.operations[id_text]


class StateFile:
    """Where the state survives a restart of the lab. `path` None: nowhere (tests)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self, now: str) -> State:
        """Raises ValueError for a file of another format; a missing file is an empty state."""
        if self._path is None or not self._path.exists():
            return State()
        document = json.loads(self._path.read_text())
        if document.get("format") != FORMAT:
            raise ValueError(
                f"{self._path} has format {document.get('format')!r}, not {FORMAT}; remove the lab's state"
            )
        state = State(
            groups={key: Group(**value) for key, value in document["groups"].items()},
            resources={key: Resource(**value) for key, value in document["resources"].items()},
            operations={key: Operation(**value) for key, value in document["operations"].items()},
        )
        _fail_interrupted(state, now)
        return state

    def save(self, state: State) -> None:
        if self._path is None:
            return
        state.forget_old_operations()
        document = {"format": FORMAT, **dataclasses.asdict(state)}
        scratch = self._path.with_suffix(".new")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file)
        scratch.replace(self._path)


def _fail_interrupted(state: State, now: str) -> None:
    error = {
        "code": "InternalOperationError",
        "message": "The lab was stopped while this operation ran; repeat the request.",
        "details": [],
    }
    for operation in state.operations.values():
        if operation.status == IN_PROGRESS:
            operation.status, operation.error, operation.ended_at = FAILED, error, now
    for resource in state.resources.values():
        if resource.operation is not None:
            resource.operation, resource.state, resource.error = None, FAILED, error
    for group in state.groups.values():
        group.operation, group.state = None, SUCCEEDED

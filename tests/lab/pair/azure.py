"""The template deployed for real in a lab: what the lab's ARM knows is PUT there, one resource after another, with the
very bodies that Azure would get; the storage account is the lab's emulator, which also signs.

The answers of ARM (addresses, names) go back into the template, as in a deployment. Blocking: for a thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import requests
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import TableServiceClient, generate_table_sas

from lab.azurite.server import ACCOUNT, KEY
from lab.cloud import Cloud
from tests.unit.infra.arm_deployment import Resource

GROUP: Final = "just-the-pair"
DEADLINE_S: Final = 300.0
POLL_S: Final = 0.5
DISKS: Final = "Microsoft.Compute/disks"
DISKS_VERSION: Final = "2026-03-02"
STORAGE: Final = "Microsoft.Storage/"
# What the emulator's signature is made of; it speaks no TLS, so the protocol is left out there.
_SIGNED: Final = {"startPk": "start_pk", "endPk": "end_pk", "startRk": "start_rk", "endRk": "end_rk"}


def session_for(token: str, ca: Path) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # REQUESTS_CA_BUNDLE and a proxy of this machine are not meant
    session.headers["Authorization"] = f"Bearer {token}"
    session.verify = str(ca)
    return session


@dataclass
class LabAzure:
    """`storage`: the emulator's connection string and the address of its tables."""

    arm_url: str
    subscription_id: str
    session: requests.Session
    storage: tuple[str, str] | None
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, cloud: Cloud) -> LabAzure:
        tokens = cloud.info.read_tokens()
        query = {"resource": "https://management.azure.com/", "api-version": "2019-08-01"}
        headers = {"X-IDENTITY-HEADER": tokens.identity_header}
        token = requests.get(tokens.identity_endpoint, params=query, headers=headers, timeout=30).json()["access_token"]
        storage = cloud.storage.connection_string, cloud.storage.table_endpoint
        return cls(cloud.arm_url, cloud.subscription_id, session_for(token, cloud.info.ca), storage)

    def group(self) -> None:
        self._ask("PUT", self._group, "2025-04-01", {"location": "westeurope"})

    def put(self, resource: Resource) -> dict[str, Any]:
        """The properties Azure would show, once it is provisioned."""
        if resource.type.startswith(STORAGE):
            return self._storage(resource)
        path = f"{self._group}/providers/{resource.type}/{resource.name}"
        self._ask("PUT", path, resource.api_version, resource.body)
        limit = time.monotonic() + DEADLINE_S
        while True:
            document = self._ask("GET", path, resource.api_version, None)
            state = document["properties"]["provisioningState"]
            if state == "Succeeded":
                self.shown[resource.name] = document
                properties: dict[str, Any] = document["properties"]
                return properties
            assert state in ("Creating", "Updating"), f"{resource.name}: {document}"
            assert time.monotonic() < limit, f"{resource.name} is not there within {DEADLINE_S:g} s"
            time.sleep(POLL_S)

    def replace(self, resource: Resource) -> None:
        """The machine is deleted, its system disk with it, and made again from the same body."""
        path = f"{self._group}/providers/{resource.type}/{resource.name}"
        self._ask("DELETE", path, resource.api_version, None)
        self._until_gone(path, resource.api_version)
        # The system disk goes after its machine, and a new one gets its name.
        self._until_gone(f"{self._group}/providers/{DISKS}/{resource.name}-os", DISKS_VERSION)
        self.put(resource)

    def _until_gone(self, path: str, version: str) -> None:
        limit = time.monotonic() + DEADLINE_S
        while self.session.get(f"{self.arm_url}{path}?api-version={version}", timeout=60).ok:
            assert time.monotonic() < limit, f"{path} is not gone within {DEADLINE_S:g} s"
            time.sleep(POLL_S)

    def sas(self, resource_id: str, version: str, body: Mapping[str, str]) -> dict[str, str]:
        service, account, table = body["canonicalizedResource"].strip("/").split("/")
        assert (service, account) == ("table", resource_id.rpartition("/")[2])
        signed = generate_table_sas(
            AzureNamedKeyCredential(ACCOUNT, KEY),
            table,
            permission=body["signedPermission"],
            expiry=datetime.fromisoformat(body["signedExpiry"]),
            **{ours: body[name] for name, ours in _SIGNED.items()},
        )
        return {"serviceSasToken": signed}

    def address(self, name: str) -> str:
        address: str = self.shown[name]["properties"]["ipAddress"]
        return address

    def names(self) -> dict[str, str]:
        """Host name → address, as Azure's DNS would say."""
        return {
            document["properties"]["dnsSettings"]["fqdn"]: document["properties"]["ipAddress"]
            for document in self.shown.values()
            if "dnsSettings" in document["properties"] and "ipAddress" in document["properties"]
        }

    def _storage(self, resource: Resource) -> dict[str, Any]:
        connection, endpoint = self.storage or ("", "https://witness.invalid")
        if connection and resource.type.endswith("/tables"):
            with TableServiceClient.from_connection_string(connection) as tables:
                tables.create_table(resource.name.rpartition("/")[2])
        return {"primaryEndpoints": {"table": f"{endpoint}/"}}

    @property
    def _group(self) -> str:
        return f"/subscriptions/{self.subscription_id}/resourceGroups/{GROUP}"

    def _ask(self, method: str, path: str, version: str, body: Any) -> dict[str, Any]:
        url = f"{self.arm_url}{path}?api-version={version}"
        answer = self.session.request(method, url, json=body, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document

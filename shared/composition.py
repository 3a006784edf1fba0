"""The composition root: the one place where the parts of the control plane are put together.

A function app has no main(): handlers ask `control_plane()`, which builds everything from the app settings at the
first call of the process and keeps it (clients and their connections are reused by all invocations). A test puts its
own parts together and installs them with `installed(...)`; nothing is patched.
"""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from azure.core.credentials_async import AsyncTokenCredential

from shared.alert_channels import read_courier
from shared.api.plane import ControlPlane as ControlPlane
from shared.api.probe import HttpProber
from shared.audit.platform import Platform
from shared.azure.arm import AzureArm, AzureMachines
from shared.azure.observe import AzurePlatform, monitor_endpoints
from shared.azure.session import AzureSession
from shared.azure.settings import AzureSettings
from shared.settings import SettingInvalid, Settings, read_settings
from shared.store.connect import SettingMissing, connect

_current: ControlPlane | None = None


def control_plane() -> ControlPlane:
    """The control plane of this process. Raises SettingInvalid when the app settings do not allow one."""
    global _current
    if _current is None:
        _current = build(os.environ)
        # What was imported stays as long as the process: a full collection that walks over all of it costs 120 ms, and
        # a page of 10,000 clusters sets one off.
        gc.freeze()
    return _current


def build(environment: Mapping[str, str]) -> ControlPlane:
    settings = read_settings(environment)
    try:
        connection = connect(environment, _managed_identity)
    except SettingMissing as error:
        raise SettingInvalid(str(error)) from error
    azure = AzureSettings(settings.subscription_id, settings.arm_endpoint, environment.get("AZURE_CLIENT_ID"))
    session = AzureSession(azure)  # makes its clients at first use
    return ControlPlane(
        settings=settings,
        store=connection.store,
        clock=_utc_now,
        new_id=_new_id,
        prober=HttpProber(),
        arm=AzureArm(session),
        platform=_platform(session, settings, environment),
        courier=read_courier(environment, _utc_now),
    )


@contextmanager
def installed(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Handlers use `plane` inside the block."""
    global _current
    before, _current = _current, plane
    try:
        yield plane
    finally:
        _current = before


def _managed_identity(client_id: str | None) -> AsyncTokenCredential:
    # Imported only where storage is reached by identity: it costs 0.3 s of every cold start.
    from azure.identity.aio import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id)


def _platform(session: AzureSession, settings: Settings, environment: Mapping[str, str]) -> Platform:
    return AzurePlatform(session, AzureMachines(session), monitor_endpoints(settings.arm_endpoint, environment))


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid.uuid4())

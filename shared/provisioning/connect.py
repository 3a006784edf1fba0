"""The reconciler's context of a control plane, made once per process: its ARM clients are shared by all ticks."""

from __future__ import annotations

import weakref
from typing import Final

from shared.api.plane import ControlPlane
from shared.provisioning.context import Context
from shared.store.ports import Store

_contexts: Final[weakref.WeakKeyDictionary[Store, Context]] = weakref.WeakKeyDictionary()


def provisioning_context(plane: ControlPlane) -> Context:
    """The context of a control plane; its ARM clients are made at first use and shared by all ticks of the process."""
    settings = plane.settings
    found = _contexts.get(plane.store)
    if found is None:
        found = Context(
            store=plane.store,
            arm=plane.arm,
            subscription_id=settings.subscription_id,
            public_url=settings.public_url,
            control_plane_addresses=settings.control_plane_addresses,
            agent_wheel=settings.agent_wheel,
            clock=plane.clock,
            windows=settings.windows,
        )
        _contexts[plane.store] = found
    return found

"""Whether this control plane may make a cluster of Windows nodes; see `shared.provisioning.windows_artifacts`."""

from __future__ import annotations

from shared.api.problem import Problem
from shared.model.cluster_spec import ClusterSpec
from shared.provisioning.windows_artifacts import REFUSED
from shared.settings import Settings


def require_system(settings: Settings, spec: ClusterSpec) -> None:
    """Of a cluster that is about to be made; one that exists is kept up whatever the setting says. Raises Problem."""
    if spec.compute.os == "windows" and settings.windows is None:
        raise Problem("UnsupportedOperatingSystem", REFUSED, "compute.os")

"""A Windows node's boot, invented; `.invalid` names nothing."""

from __future__ import annotations

from typing import Final

from shared.provisioning.windows_artifacts import Artifact, WindowsArtifacts
from shared.provisioning.windows_boot import WindowsBootParameters

TOKEN: Final = "mp_enrol_once_and_never_again"
PARAMETERS: Final = WindowsBootParameters(
    node="a",
    control_plane_url="https://plane.example.invalid",
    enrolment_token=TOKEN,
    wheel_name="mirror_agent-0.1.0-py3-none-any.whl",
    wheel_sha256="1" * 64,
    artifacts=WindowsArtifacts(
        python=Artifact("https://artifacts.example.invalid/python-embed-amd64.zip", "2" * 64),
        pip=Artifact("https://artifacts.example.invalid/pip-py3-none-any.whl", "3" * 64),
        winfsp=Artifact("https://artifacts.example.invalid/winfsp.msi", "4" * 64),
    ),
)

"""What the control plane told a node, as its console shows it: without secrets and without the files' contents."""

from __future__ import annotations

from mirror_agent.contract import Configuration
from mirror_agent.redaction import HIDDEN


def shown_configuration(configuration: Configuration) -> dict[str, object]:
    """Of the environment the names only: applications get their passwords there."""
    document = configuration.model_dump(mode="json", by_alias=True, exclude={"witness": {"sas"}})
    application = document["application"]
    application["environment"] = dict.fromkeys(application["environment"], HIDDEN)
    application["files"] = [
        {"path": file.path, "mode": file.mode, "bytes": len(file.content.encode())}
        for file in configuration.application.files
    ]
    return document

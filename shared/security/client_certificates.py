"""Certificates for people; the code is the agent's, because a pair without a control plane makes them on its nodes."""

from __future__ import annotations

from mirror_agent.client_certificates import ClientFile, make_client_file

__all__ = ["ClientFile", "make_client_file"]

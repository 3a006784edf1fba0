"""Signing in; API tokens; credential links for the nodes."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import Namespace
from typing import Final

from mirrorplane_cli.api import ControlPlane
from mirrorplane_cli.profile import Profile, checked_url, save
from mirrorplane_cli.session import Session
from mirrorplane_cli.show import Screen

ME: Final = {"name": "name", "kind": "kind", "role": "role"}
TOKENS: Final = {"ID": "id", "NAME": "name", "ROLE": "role", "BY": "createdBy", "EXPIRES": "expiresAt"}
CREDENTIALS: Final = {
    "ID": "id",
    "WHO": "name",
    "ROLE": "role",
    "STATE": "state",
    "UNTIL": "certificateExpiresAt",
    "BY": "createdBy",
}


def login(screen: Screen, given: Namespace) -> None:
    """The token is read from the environment, a pipe or the keyboard: never from the command line, which others see."""
    token = os.environ.get("MIRRORPLANE_TOKEN")
    if not token:
        token = getpass.getpass("API token: ") if sys.stdin.isatty() else sys.stdin.readline()
    profile = Profile(checked_url(given.url), token.strip(), given.ca)
    me = ControlPlane(profile).get("me")
    file = save(profile, os.environ)
    screen.line(f"signed in as {me['name']} ({me['role']}); kept in {file}")


def whoami(session: Session, given: Namespace) -> None:
    session.screen.facts(session.api.get("me"), ME)


def token_list(session: Session, given: Namespace) -> None:
    session.screen.rows(session.api.every("tokens", top="100"), TOKENS)


def token_create(session: Session, given: Namespace) -> None:
    body = {"name": given.name, "role": given.role, "expiresAt": given.expires}
    made = session.api.send("POST", "tokens", body).body
    session.screen.facts(made, {"id": "id", "role": "role", "expires": "expiresAt", "token (shown once)": "token"})


def token_delete(session: Session, given: Namespace) -> None:
    session.api.send("DELETE", f"tokens/{given.id}")
    session.screen.line(f"token {given.id} is removed")


def credential_list(session: Session, given: Namespace) -> None:
    session.screen.rows(session.api.get(f"clusters/{given.cluster}/credentials")["value"], CREDENTIALS)


def credential_create(session: Session, given: Namespace) -> None:
    body = {"name": given.who, "role": given.role, "validDays": given.days}
    made = session.api.send("POST", f"clusters/{given.cluster}/credentials", body).body
    session.screen.facts(
        made, {"id": "id", "for": "name", "role": "role", "works until": "linkExpiresAt", "one-time link": "url"}
    )


def credential_revoke(session: Session, given: Namespace) -> None:
    gone = session.api.send("DELETE", f"clusters/{given.cluster}/credentials/{given.id}").body
    session.screen.facts(gone, {"id": "id", "for": "name", "state": "state"})

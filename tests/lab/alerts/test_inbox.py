"""The lab's webhook receiver takes what the production sender signs, once, and nothing else."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from lab.inbox import PATH, Inbox
from lab.serve import serve_app
from shared.alerts.courier import Failed, Refused, Sent
from shared.alerts.webhook import WebhookChannel
from tests.unit.alerts.test_channels import notice

pytestmark = pytest.mark.lab


@pytest_asyncio.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[tuple[Inbox, str]]:
    made = Inbox(tmp_path / "notices.jsonl")
    runner, base = await serve_app(made.app(), "127.0.0.1", 0)
    yield made, f"{base}{PATH}"
    await runner.cleanup()


def channel(inbox: Inbox, url: str, *, late: timedelta = timedelta(0), secret: bytes | None = None) -> WebhookChannel:
    own = base64.b64decode(inbox.secret.removeprefix("whsec_"))
    return WebhookChannel(url, own if secret is None else secret, lambda: datetime.now(UTC) - late)


async def test_a_notice_is_kept_once(inbox: tuple[Inbox, str]) -> None:
    receiver, url = inbox
    sent = notice()
    for _ in range(2):
        assert await channel(receiver, url).send(sent) == Sent()
    (kept,) = await receiver.notices()
    assert kept["id"] == sent.id


async def test_what_is_not_genuine_is_refused(inbox: tuple[Inbox, str]) -> None:
    receiver, url = inbox
    assert isinstance(await channel(receiver, url, secret=bytes(32)).send(notice()), Refused)
    assert isinstance(await channel(receiver, url, late=timedelta(minutes=6)).send(notice()), Refused)
    assert await receiver.notices() == []


async def test_it_can_be_away(inbox: tuple[Inbox, str]) -> None:
    receiver, url = inbox
    await receiver.refuse(on=True)
    assert isinstance(await channel(receiver, url).send(notice()), Failed)
    await receiver.refuse(on=False)
    assert await channel(receiver, url).send(notice()) == Sent()

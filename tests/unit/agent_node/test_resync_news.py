"""The control plane hears of a resync while it goes on, and not more often than it should."""

from __future__ import annotations

from mirror_agent.node.resync_news import EVERY_S, ResyncNews

from tests.agent_samples import FakeClock


def test_a_resync_is_told_now_and_then() -> None:
    clock = FakeClock()
    pokes: list[float] = []

    def seen(link: str, after_s: float) -> int:
        clock.now += after_s
        news.observe(link)
        return len(pokes)

    news = ResyncNews(lambda: pokes.append(clock.now), clock)
    assert seen("live", 100) == 0
    assert seen("resync", 0.2) == 1
    assert seen("resync", EVERY_S / 2) == 1
    assert seen("resync", EVERY_S / 2) == 2
    assert seen("live", EVERY_S) == 2

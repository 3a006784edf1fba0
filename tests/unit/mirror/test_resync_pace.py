"""A resync leaves the time to an application that works, keeps below its cap, and never waits for nothing."""

from __future__ import annotations

from mirror_agent.mirror.resync_pace import BACKLOG_BYTES_MAX, REST_FACTOR, Pace


class World:
    """A clock that only work and sleep move."""

    def __init__(self, max_bytes_s: int = 0) -> None:
        self.now_s = 0.0
        self.slept_s = 0.0
        self.operations = 0
        self.backlog_bytes = 0
        self.pace = Pace(
            max_bytes_s,
            lambda: self.operations,
            lambda: self.backlog_bytes,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept_s += seconds
        self.backlog_bytes = max(0, self.backlog_bytes - 1024 * 1024)

    def work(self, seconds: float, size_bytes: int = 0, *, operations: int = 0) -> None:
        self.now_s += seconds
        self.operations += operations
        self.pace.spent(size_bytes)


def test_an_idle_application_costs_nothing() -> None:
    world = World()
    for _ in range(100):
        world.work(0.01, 1 << 20)
    assert world.slept_s == 0


def test_a_busy_application_gets_most_of_the_time() -> None:
    world = World()
    for _ in range(100):
        world.work(0.01, 1 << 20, operations=1)
    assert abs(world.slept_s - REST_FACTOR * 100 * 0.01) < 1e-6


def test_short_pieces_of_work_add_up() -> None:
    world = World()
    for _ in range(1000):
        world.work(0.0001, operations=1)
    assert world.slept_s > 0.8 * REST_FACTOR * 0.1


def test_a_slow_disk_is_not_followed_by_an_endless_rest() -> None:
    world = World()
    world.work(60.0, operations=1)
    assert world.slept_s < 1.0


def test_the_cap_holds() -> None:
    world = World(10 << 20)
    for _ in range(200):
        world.work(0.001, 1 << 20)
    assert world.now_s >= 200 / 10 - 0.5


def test_what_is_not_applied_yet_is_waited_for() -> None:
    world = World()
    world.backlog_bytes = BACKLOG_BYTES_MAX + (10 << 20)
    world.work(0.0001)
    assert world.backlog_bytes <= BACKLOG_BYTES_MAX

"""The tester without an engine: on an ordinary directory nothing may differ, or the model is wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.lab.mirror.pair import eventually
from tests.lab.torture.drivers import Driver, Promises
from tests.lab.torture.judge import demand_equal


async def on_plain_directory(directory: Path, seed: int, operations: int) -> None:
    """Raises `Difference`."""
    await asyncio.to_thread(directory.mkdir, 0o755)
    drivers: list[Driver] = []
    driver = Driver(0, seed, directory, Promises(1), drivers)
    drivers.append(driver)
    driver.start()
    try:
        driver.run_to(operations)
        await eventually(lambda: driver.still, 600)
        if driver.failure is not None:
            raise driver.failure
        await asyncio.to_thread(demand_equal, driver.model, directory, "the plain directory")
    finally:
        driver.end()
        await asyncio.to_thread(driver.join, 30)

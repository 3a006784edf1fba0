"""The simulator still finds what it is there to find: a few of the mutants; `python -m tests.sim.mutants` hunts all."""

from __future__ import annotations

import pytest

from tests.sim.mutants import NOT_FOUND, hunt, known_seeds, mutated
from tests.sim.mutations import MUTANTS, Mutant

SEEDS = 200  # for a mutant that is not found any more by what has found it before
QUICK = [mutant for mutant in MUTANTS if mutant.quick]


@pytest.mark.parametrize("mutant", QUICK, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found(mutant: Mutant) -> None:
    assert hunt(mutant, limit=SEEDS, known=known_seeds().get(mutant.name, NOT_FOUND)).found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_core_as_it_is(mutant: Mutant) -> None:
    assert mutated(mutant)


def test_something_is_known_to_find_every_mutant_and_they_are_enough() -> None:
    assert set(known_seeds()) == {mutant.name for mutant in MUTANTS}
    assert len(MUTANTS) >= 40

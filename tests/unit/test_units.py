"""Units."""

import pint

from twin_engine.units import PLAIN


def test_pint_knows_the_units_that_are_taken_without_asking_it() -> None:
    registry = pint.UnitRegistry()
    assert all(str(registry.Unit(unit)) for unit in PLAIN)

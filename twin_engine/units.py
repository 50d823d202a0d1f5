"""Units by pint, imported when first needed."""

from __future__ import annotations

from functools import cache
from typing import Any

from twin_engine.errors import DefinitionError

# pint knows these
PLAIN = frozenset(("1", "s", "Hz", "1/s", "m", "m/s", "kg", "N", "K", "degC", "Pa", "bar", "V", "A", "W", "J", "B", "percent"))


@cache
def _registry() -> Any:
    import pint  # noqa: PLC0415 - half a second that most runs do not need

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)  # pyright: ignore[reportUnknownVariableType]
    return registry


def check_unit(unit: str, place: str) -> None:
    """Raise DefinitionError when pint does not know the unit."""
    if unit in PLAIN:
        return
    try:
        _registry().Unit(unit)
    except Exception as error:
        raise DefinitionError(
            place, expected="a unit that pint knows, as in 'V', 'degC', 'm/s'", found=repr(unit), mend="'1' stands for no unit.",
        ) from error  # fmt: skip


@cache
def conversion(found: str, wanted: str) -> tuple[float, float] | None:
    """Return (scale, offset) that turn values in one unit into another, or None where they do not measure the same thing."""
    if found == wanted:
        return 1.0, 0.0
    try:
        registry = _registry()
        zero, one = (float(registry.Quantity(x, found).to(wanted).magnitude) for x in (0.0, 1.0))
    except Exception:  # noqa: BLE001 - whatever it is, the units do not fit
        return None
    return one - zero, zero

"""Times from outside that would cost much, or mean nothing, are refused."""

from __future__ import annotations

import pytest

from streams.times import from_text


@pytest.mark.parametrize("text", ["1e999999999", "-1e99999", "NaN", "Infinity", "", "yesterday"])
def test_what_is_no_time_is_refused_at_once(text: str) -> None:
    for unit in ("s", "ns", ""):
        with pytest.raises(ValueError, match=r"time|range"):
            from_text(text, unit)


def test_a_decimal_is_read_to_the_nanosecond() -> None:
    assert from_text("1658832078.000000001", "s") == 1658832078000000001
    assert from_text("1.5e9", "s") == 1_500_000_000 * 10**9

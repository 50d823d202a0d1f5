"""What the tests of codecs share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from twin_engine.records import Codec, Reading, Reason, Record, Reject

NOW = 1_700_000_000 * 10**9
NAME = st.text("abcXYZ019-_.", min_size=1, max_size=8).filter(lambda name: name[0].isalnum())
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def readings(draw, step: int = 1, names=NAME, missing: bool = True, units: bool = True):
    """Readings of one asset; times are whole multiples of ``step`` ns, strictly rising."""
    channels = tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    count = draw(st.integers(1, 5))
    start = draw(st.integers(10**18 // step, 4 * 10**18 // step))
    gaps = draw(st.lists(st.integers(1, 10**10 // step + 1), min_size=count - 1, max_size=count - 1))
    value = NUMBER | st.just(float("nan")) if missing else NUMBER
    rows = draw(st.lists(st.lists(value, min_size=count, max_size=count), min_size=len(channels), max_size=len(channels)))
    said = tuple(draw(st.sampled_from(["", "V", "m3/s"])) for _ in channels) if units else ()
    times = (start + np.concatenate([[0], np.cumsum(gaps)]).astype(np.int64)) * step
    return Reading(draw(names), channels, times, np.array(rows, float), units=said if any(said) else ())


Sample = tuple[str, str, int, float, str]


def samples(found: list[Reading | Reject]) -> list[Sample]:
    """Every finite sample, sorted; rejects are not expected."""
    out: list[Sample] = []
    for r in found:
        assert isinstance(r, Reading), r
        for i, name in enumerate(r.channels):
            finite = np.isfinite(r.values[i])
            unit = r.units[i] if r.units else ""
            out += [(r.asset, name, int(t), float(v), unit) for t, v in zip(r.times[finite], r.values[i][finite], strict=True)]
    return sorted(out)


def there_and_back(codec: Codec, reading: Reading) -> list[Sample]:
    messages = codec.encode(reading)
    assert all(len(body) <= 1 << 20 for _, body in messages)
    return samples([item for topic, body in messages for item in codec.decode(Record(body, topic, "s", 1, NOW))])


def decoded(codec: Codec, raw: bytes, subject: str = "", arrival: int = NOW) -> list[Reading | Reject]:
    items = list(codec.decode(Record(raw, subject, "mqtt://h", 5, arrival)))
    for item in items:
        assert item.position == 5
        if isinstance(item, Reading):
            assert item.arrival == arrival
        else:
            assert (item.source, item.subject) == ("mqtt://h", subject)
            assert item.detail
    return items


def told(codec: Codec, raw: bytes, subject: str = "") -> str:
    """The detail of the only thing that is said."""
    (item,) = decoded(codec, raw, subject)
    assert isinstance(item, Reject), item
    return item.detail


def reason(codec: Codec, raw: bytes, subject: str = "", arrival: int = NOW) -> Reason:
    """The reason of the only thing that is said."""
    (item,) = decoded(codec, raw, subject, arrival)
    assert isinstance(item, Reject), item
    assert not item.detail.startswith("unexpected"), item
    return item.reason

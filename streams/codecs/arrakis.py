"""LIGO's arrakis: an Arrow IPC stream of one record batch ``(time, id, data list<dtype>)`` a message.

``time`` is the GPS time in ns of the first sample, ``id`` the channel's index in the partition, ``data`` its samples of one stride. Names
and rates are not in the message: the option ``channels`` gives them, ``0=H1:GDS-CALIB_STRAIN@16384,3=H1:PEM-MIC@1024``. The part before
the first colon is the asset, the rest the channel. Indices that it lacks are left out, as arrakis's own reader does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streams.codecs.arrow_stream import batches, checked, is_number, schema_of, to_floats
from streams.codecs.base import Faults, RefusedError, named
from streams.codecs.pattern import Pattern, Topics
from streams.codecs.when import END
from streams.uri import Uri
from twin_engine.clock import NS, gps_to_ns, ns_to_gps
from twin_engine.errors import InputError
from twin_engine.ports import Float
from twin_engine.records import Reading, Reason, Record, Reject

_CHANNEL = re.compile(r"(\d+)=(?:([^:=,@]+):)?([^=,@]+)@(\d+(?:/\d+)?)")
_COLUMNS = ["time", "id", "data"]


class _Channel(NamedTuple):
    number: int
    asset: str
    name: str
    rate: Fraction


class Arrakis:
    """The format. Option: channels."""

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        self._topics = Topics(pattern)
        self._channels = {c.number: c for c in (_channel(text, asset) for text in options.names("channels"))}
        if not self._channels:
            raise InputError(
                options.text, expected="channels=0=H1:STRAIN@16384,...", found="no channels", mend="Name index, channel and rate of each."
            )

    @np.errstate(invalid="ignore")  # signalling NaNs, which are samples that are missing
    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module. Channels of one asset, time and length are one reading."""
        head, schema = schema_of(raw)
        if schema.names != _COLUMNS or not (pa.types.is_list(schema.field(2).type) and is_number(schema.field(2).type.value_type)):
            raise RefusedError(Reason.MALFORMED, f"columns {', '.join(schema.names)[:80]}; time, id, data list of numbers is meant")
        if not (pa.types.is_int64(schema.field(0).type) and pa.types.is_integer(schema.field(1).type)):
            raise RefusedError(Reason.MALFORMED, "time is not int64, or id not an integer")
        named_asset, _ = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        faults = Faults()
        rows: dict[tuple[str, int, Fraction, int], dict[str, Float]] = {}
        for batch in batches(raw, head, schema):
            time, index, data = (checked(batch.column(i)) for i in range(3))
            if time.null_count or index.null_count:
                raise RefusedError(Reason.MALFORMED, "a time or an id that is null")
            for k, (gps, number) in enumerate(zip(time.to_pylist(), index.to_pylist(), strict=True)):
                channel = self._channels.get(number)
                if channel is None or not data[k].is_valid:
                    continue
                values = np.asarray(to_floats(data[k].values), np.float64)
                row = rows.setdefault((channel.asset or named(named_asset, "asset"), gps, channel.rate, len(values)), {})
                if row.setdefault(channel.name, values) is not values:
                    faults.add(Reason.MALFORMED, f"{channel.name} twice")
        return [*self._readings(rows, record, faults), *faults.rejects(record)]

    def _readings(self, rows: dict[tuple[str, int, Fraction, int], dict[str, Float]], record: Record, faults: Faults) -> list[Reading]:
        """Return a reading for each group of channels with the same times."""
        found: list[Reading] = []
        for (asset, gps, rate, count), columns in rows.items():
            if not count:
                continue
            steps = (np.arange(count) * (rate.denominator * NS) + rate.numerator // 2) // rate.numerator
            start = gps_to_ns(gps) if 0 <= gps < END else END
            if start + int(steps[-1]) >= END:
                faults.add(Reason.MALFORMED, f"GPS time {gps} ns is out of range")
                continue
            found.append(Reading(asset, tuple(columns), start + steps, np.array(list(columns.values())), record.position, record.arrival))
        return found

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return one message of float64; the times between the first and the last are taken as the channel's rate has them."""
        subject = self._topics.pattern.format(asset=reading.asset)
        index = {c.name: c.number for c in self._channels.values() if c.asset in {"", reading.asset}}
        lacking = [name for name in reading.channels if name not in index]
        if lacking:
            raise InputError("arrakis", expected="a channel of the option channels", found=lacking[0], mend="Add it to channels.")
        gps = ns_to_gps(int(reading.times[0]))
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array([gps] * len(reading.channels), pa.int64()),
                pa.array([index[name] for name in reading.channels], pa.uint32()),
                pa.array(list(reading.values), pa.list_(pa.float64())),
            ],
            names=_COLUMNS,
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return [(subject, sink.getvalue().to_pybytes())]


def _channel(text: str, asset: str) -> _Channel:
    """Return one entry of the option; raises InputError."""
    match = _CHANNEL.fullmatch(text)
    rate = Fraction(match[4]) if match and not match[4].endswith("/0") else Fraction(0)
    if not match or rate <= 0:
        raise InputError("option channels", expected="INDEX=ASSET:CHANNEL@RATE", found=text, mend="Write 0=H1:GDS-CALIB_STRAIN@16384.")
    return _Channel(int(match[1]), match[2] or asset, match[3], rate)

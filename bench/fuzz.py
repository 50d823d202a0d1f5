"""Mutated payloads through each codec: ``python -m bench.fuzz [--payloads N] [--codec NAME] [--seed S]``.

Valid payloads are cut, flipped, spliced with each other, their lengths and types changed, N of them for each codec (default 20,000).
Nothing may be raised, no reject may lack a reason, a detail or its bytes, or be of an error that the codec did not foresee, and every
reading must be whole; what a codec reads together must be what it reads one by one. Prints a JSON line a codec and one of all: what came
out, payloads a second, us to decode one sample. With ``--keep`` the counts go to ``bench/results``.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from bench.record import write
from streams.codecs import CODECS, cbor, open_codec
from streams.codecs.when import END
from twin_engine.records import Codec, Reading, Record, Reject, Singles

NOW = 1_700_000_000 * 10**9
Message = tuple[str, bytes]
TOGETHER, RUN = {"json"}, 500  # codecs that have a way of their own for many messages, and how many they get
OPTIONS = {"arrakis": {"channels": "0=H1:h@16384,3=H1:m@16384"}}
PATTERNS = {
    "arrow": "{asset}",
    "arrakis": "{asset}",
    "json": "plant/{asset}/{channel}",
    "senml": "plant/{asset}",
    "line_protocol": "l/{asset}",
}
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_WORDS = (
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"[]", b"{}", b'""', b"\xff\xfe", b"\\u0000", b'"\\ud800"', b"-", b"9" * 40, b"1_0",
    b"\x00", b";", b",", b"=", b" ", b"\n", b'"', b"\\", b"_", b"\x9f\xff", b"\xc4\x82\x1a\x7f\xff\xff\xff\x01", b"0x10",
    b"1e-400", "\u0661".encode(),
)  # fmt: skip


def codec_of(name: str) -> Codec:
    return open_codec(name, PATTERNS.get(name, "#"), OPTIONS.get(name))


def valid(name: str) -> list[Message]:
    """Return payloads that the codec reads without a reject, one after the other."""
    times = NOW + np.arange(8) * 10**9 // 16384
    values = np.random.default_rng(1).normal(size=(2, 8))
    names = ("h", "m") if name == "arrakis" else ("flow", "p.in")
    units = () if name in {"arrakis", "line_protocol", "examon"} else ("m3/s", "")
    reading = Reading("H1", names, times, values, units=units)
    codec = codec_of(name)
    messages = [message for _ in range(3) for message in codec.encode(reading)]
    gap = Reading("H1", names, times[:1], values[:, :1], units=units)
    return [*messages, *codec.encode(gap), *(_MORE[name]() if name in _MORE else [])]


def _json() -> list[Message]:
    bodies = [
        b"21.5", b'{"ts":1700000000.123,"value":21.5,"unit":"V"}', b'{"ts":"2023-11-14T22:13:20Z","value":null}',
        b'[{"ts":1,"value":2},{"ts":2,"value":true}]', b'{"ts":[1,2,3],"value":[1,null,2.5]}',
    ]  # fmt: skip
    return [("plant/a/x", body) for body in bodies]


def _arrow() -> list[Message]:
    found: list[Message] = []
    for arrays in (
        {"time": pa.array([1, 2, None], pa.timestamp("ms")), "a": pa.array([1, None, 3])},
        {
            "time": pa.array([1, 2], pa.int64()),
            "a": pa.array([True, None]),
            "b": pa.array([1.5, 2.5], pa.float32()),
            "s": pa.array(["x", "y"]),
        },
        {"time": pa.array([1, 2], pa.int64()), "d": pa.array(["a", "b"]).dictionary_encode(), "l": pa.array([[1], [2, 3]])},
    ):
        sink = pa.BufferOutputStream()
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
            writer.write_batch(batch)
        found.append(("t", sink.getvalue().to_pybytes()))
    return found


def _lines() -> list[Message]:
    body = b'w\\ x,asset=a\\,b,r=1 v=1.5,i=-2i,u=3u,b=T,s="q \\"x\\", y" 1465839830100400200\n# c\nw,asset=b v=1e3\r\n'
    return [("l/a", body)]


def _examon() -> list[Message]:
    head = "org/antarex/cluster/testcluster/node/mabus/plugin/pmu_pub/chnl/data"
    return [(f"{head}/cpu/0/tsc", b"6514034410521054;1534429383.000"), (f"{head}/core/0/temp", b"30;1534429383.000")]


def _senml() -> list[Message]:
    head = b'[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},'
    rest = b'{"n":"current","t":-5,"v":1.2},{"n":"open","vb":false},{"n":"label","vs":"x"},{"n":"d","vd":"aGkgCg"},{"n":"e","s":4}]'
    bodies = [
        head + rest,
        cbor.dumps([{-2: "urn:dev:ow:1:", -3: 1.276020076001e09, 0: "v", 2: 1.5}, {0: "i", 6: -5, 2: 3}]),
        bytes.fromhex("82a20064766f6c7402c4822219046cbf0061780220ff"),  # a decimal fraction, a map of unknown length
    ]
    return [("plant/b", body) for body in bodies]


_MORE = {"json": _json, "arrow": _arrow, "line_protocol": _lines, "examon": _examon, "senml": _senml}


def mutated(payloads: list[bytes], rng: random.Random) -> bytes:
    """Return one of the payloads, changed in one to four places."""
    data = bytearray(rng.choice(payloads))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        match rng.choices(range(8), (4, 1, 1, 1, 3, 1, 1, 1))[0]:
            case 0 if data:
                data[place % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                del data[place : place + rng.randint(1, 16)]
            case 3:
                other = rng.choice(payloads)
                start = rng.randrange(len(other))
                data[place : place + rng.randint(0, 32)] = other[start : start + rng.randint(1, 64)]
            case 4:
                size = rng.choice(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q"))
                number = rng.choice(_NUMBERS) % (1 << 8 * struct.calcsize(size))
                data[place : place + struct.calcsize(size)] = struct.pack(size, number)
            case 5:
                data[place:place] = rng.choice(_WORDS)
            case 6:
                word = rng.choice(_WORDS)
                data[place : place + len(word)] = word
            case _:
                data[place:place] = data[place : place + rng.randint(1, 64)] * rng.randint(1, 3)
    return bytes(data)


def subjects(messages: list[Message], rng: random.Random) -> Iterator[str]:
    """Yield topics, most of them whole, some mutated."""
    topics = [topic for topic, _ in messages]
    while True:
        topic = rng.choice(topics)
        yield mutated([topic.encode() or b"x"], rng).decode(errors="replace") if rng.random() < 0.05 else topic


def checked(item: Reading | Reject, raw: bytes) -> str:
    """Return what an item is, ``bad`` where it is not whole."""
    if isinstance(item, Reject):
        foreseen = bool(item.reason) and 0 < len(item.detail) <= 300 and not item.detail.startswith("unexpected")
        whole = item.position == 7 and item.source.startswith("fuzz") and len(item.raw) <= len(raw)
        return item.reason.value if foreseen and whole else "bad"
    count, samples = item.values.shape
    named = bool(item.asset) and all(item.channels) and count == len(item.channels) == len(set(item.channels))
    shaped = item.times.shape == (samples,) and samples and len(item.units) in {0, count}
    typed = item.times.dtype == np.int64 and item.values.dtype == np.float64
    bounded = samples and int(item.times.min()) >= 0 and int(item.times.max()) < END
    return "readings" if named and shaped and typed and bounded else "bad"


def same_together(name: str, records: list[Record]) -> bool:
    """Whether ``decode_all`` says what ``decode`` says, one after the other."""
    alone, rejects = list[Any](), list[Any]()
    codec = codec_of(name)
    for record in records:
        for item in codec.decode(record):
            (rejects if isinstance(item, Reject) else alone).append(item)
    found, refused = codec_of(name).decode_all(records)
    readings = [r for item in found for r in (map(item.reading, range(len(item.times))) if isinstance(item, Singles) else [item])]
    return refused == rejects and [told(r) for r in readings] == [told(r) for r in alone]


def told(reading: Reading) -> tuple[Any, ...]:
    """Return a reading as what can be compared; its position is a batch's."""
    return reading.asset, tuple(reading.channels), reading.times.tolist(), reading.values.tobytes(), reading.arrival, tuple(reading.units)


def fuzz(name: str, payloads: int, seed: int) -> dict[str, Any]:
    """Return the counts of one codec: readings, rejects by reason, messages that say nothing (``silent``), and what is wrong (``bad``)."""
    rng = random.Random(f"{name} {seed}")
    codec, messages = codec_of(name), valid(name)
    bodies, topics = [body for _, body in messages], subjects(messages, rng)
    counts: Counter[str] = Counter(bad=0)
    spent, run = 0.0, list[Record]()
    for i in range(payloads):
        if i % 10_000 == 0:
            codec = codec_of(name)
        if i % 50 == 0:
            for topic, body in messages:  # what a codec remembers is there to be corrupted
                codec.decode(Record(body, topic, "fuzz", 7, NOW))
        record = Record(mutated(bodies, rng), next(topics), "fuzz", 7, NOW)
        start = time.perf_counter()
        items = codec.decode(record)
        spent += time.perf_counter() - start
        counts["silent"] += not items
        run.append(record)
        if name in TOGETHER and len(run) == RUN:
            counts["bad"] += not same_together(name, run)
        run = run if len(run) < RUN else []
        for item in items:
            kind = checked(item, record.raw)
            counts[kind] += 1
            if kind == "bad" and counts[kind] <= 5:
                print(f"{name} {record.subject!r} {record.raw[:200]!r}: {item!r:.600}", file=sys.stderr)
    json.dumps(codec.memory)
    return {"codec": name, "payloads": payloads, **dict(sorted(counts.items())), "per_s": round(payloads / spent), "us": cost(name)}


def cost(name: str, seconds: float = 0.2) -> float:
    """Return us to decode a message of one sample as the codec writes it, the best of several runs."""
    codec = codec_of(name)
    channel = "h" if name == "arrakis" else "flow"
    reading = Reading("H1", (channel,), np.array([NOW + 10**6]), np.array([[21.5]]))
    messages = codec.encode(reading)
    for topic, body in messages:
        codec.decode(Record(body, topic, "fuzz", 7, NOW))
    record = Record(messages[-1][1], messages[-1][0], "fuzz", 7, NOW)
    best, end = 1.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(200):
            codec.decode(record)
        best = min(best, (time.perf_counter() - start) / 200)
    return round(best * 1e6, 2)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--payloads", type=int, default=20_000)
    parser.add_argument("--codec", choices=sorted(CODECS), action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write bench/results/fuzz_CODEC.json")
    parser.add_argument("--data", help="not used")
    said = parser.parse_args()
    warnings.simplefilter("error")  # a warning is something unforeseen too
    results = []
    for name in said.codec or sorted(CODECS):
        results.append(fuzz(name, said.payloads, said.seed))
        print(json.dumps(results[-1]), flush=True)
        if said.keep:
            counts = {key: value for key, value in results[-1].items() if key not in {"codec", "payloads", "per_s", "us"}}
            taken = said.payloads - counts.pop("bad")
            write(f"fuzz_{name}", ours=taken, peer=said.payloads, unit="payloads without a fault", seed=said.seed, **counts)
    bad = sum(int(result["bad"]) for result in results)
    print(json.dumps({"name": "fuzz", "payloads": said.payloads, "codecs": len(results), "bad": bad}))
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())

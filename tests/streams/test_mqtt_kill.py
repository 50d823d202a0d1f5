"""kill -9 between the log and the acknowledgement: the files of the run that goes on equal those of an undisturbed one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.streams.mqtt_helpers import BEGIN, address, publish, source
from tests.streams.mqtt_worker import run

SAMPLES = 1700


def test_killed_and_undisturbed_are_equal(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(3).normal(size=SAMPLES)
    x[1500] += 15
    said = [msgspec.json.encode({"ts": BEGIN // 60 * 60 + 60 * i, "value": value}) for i, value in enumerate(x.tolist())]
    kept: list[bytes] = []
    for kills in ((), (500, 700)):
        prefix, folder = f"{unique}-{len(kills)}", tmp_path / str(len(kills))
        uri = address(mosquitto, f"{prefix}/{{asset}}/{{channel}}", monkeypatch)
        first = source(uri, folder)
        next(first.items(None))  # subscribes, so that the broker keeps what is published
        first.close()
        publish(mosquitto, [(f"{prefix}/a/value", raw) for raw in said])
        for kill in kills:
            command = [sys.executable, "-m", "tests.streams.mqtt_worker", str(folder), uri, str(SAMPLES), str(kill)]
            assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
        run(folder, uri, SAMPLES)
        kept.append((folder / "events.jsonl").read_bytes())
    assert kept[0].count(b"\n") >= 1
    assert kept[0] == kept[1]

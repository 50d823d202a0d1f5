"""A Kafka that takes SASL over TLS alone: worker and sink get in by their password, and nobody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiokafka")

from bench.kills import kills
from bench.trial import Trial
from compose.services import Server
from streams.kafka.client import Kafka
from streams.kafka.updates import Updates
from twin_engine.delivery import Delivery
from twin_engine.errors import InputError
from twin_engine.testing.fakes import ListSink


def test_worker_and_sink_get_in_by_their_password_alone_and_no_log_shows_it(
    own_server: Callable[..., Server], unique: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server("kafka", secure=True)
    facts = server.facts
    secured = Kafka(server.env["KAFKA_BOOTSTRAP"], facts["user"], facts["password"], tls=True, ca=Path(facts["ca"]))
    for runtime in ("aiokafka", "faust"):
        folder = tmp_path / runtime
        folder.mkdir()
        trial = Trial(secured, folder, f"{unique}-{runtime}", runtime, messages=400, assets=20)
        verdict = asyncio.run(trial.run(kills(0)))
        assert (verdict["values"], verdict["values_lost"], verdict["sink_lost"], verdict["snapshots_equal"]) == (400, 0, 0, True)
        assert facts["password"] not in trial.log() + trial.config().read_text()

    wrong = replace(secured, password="not-the-one-" + facts["password"][::-1])
    for kafka, found in ((wrong, "authentication"), (replace(secured, user=""), ""), (replace(secured, user="", tls=False), "")):
        folder = tmp_path / f"refused-{kafka.protocol}-{bool(kafka.user)}"
        folder.mkdir()
        trial = Trial(kafka, folder, unique)
        worker = trial.spawn("worker", str(trial.config()))
        assert worker.wait(60) == InputError.exit_code
        said = trial.log()
        assert "user" in said
        assert "Traceback" not in said
        assert found in said.lower()
        assert kafka.password not in said or not kafka.password
    with pytest.raises(InputError, match="password") as refused:
        asyncio.run(Delivery(Updates(wrong, "x", "x"), ListSink()).run())
    for secret in (facts["password"], wrong.password):
        assert secret not in str(refused.value) + repr(wrong) + caplog.text

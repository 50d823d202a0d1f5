"""The embedded broker: what is published through it is read, and nobody gets in without the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.streams.mqtt_helpers import messages, publish, source, take, values
from twin_engine.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of amqtt


def test_through_the_embedded_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker() as broker:
        one = source(broker.address("p/{asset}/{channel}"), tmp_path)
        with pytest.raises(InputError, match="let in"):
            next(one.items(None))
        one.close()
        monkeypatch.setenv("MQTT_PASSWORD", broker.password)
        one = source(broker.address("p/{asset}/{channel}"), tmp_path)
        items = one.items(None)
        next(items)
        sink_side = f"mqtt://{broker.user}:{broker.password}@127.0.0.1:{broker.port}"
        assert broker.password not in repr(broker)
        publish(sink_side, messages("p", 100), version=4)
        assert values(take(items, lambda f: len(f) >= 100)) == [float(i) for i in range(100)]
        one.close()

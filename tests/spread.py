"""Which worker runs which test, and when. Workers are more than cores: while tests wait, for servers and processes, others compute.

Long files come first, so that no worker is left alone with one at the end. A file stays with one worker, where what its tests share is
made once; of those whose tests share nothing, each test goes to the next worker that is free.
"""

from __future__ import annotations

from typing import Any

import pytest

# The laws are the very first: they compile nearly every kernel. Beside them begins what needs no kernel, then what needs a few.
FIRST = (
    "tests/laws/", "tests/services/test_deployment.py", "tests/system/test_wheel.py", "tests/services/test_servers.py",
    "tests/streams/test_mqtt_kill.py", "tests/kafka/test_disturbed.py", "tests/kafka/test_kills.py", "tests/system/test_kill.py",
    "tests/kafka/", "tests/streams/test_mqtt_run.py", "tests/system/test_sink_down.py", "tests/system/test_demo.py", "tests/twins/",
    "tests/streams/codecs/test_round_trip.py", "tests/system/", "tests/streams/test_mqtt",
)  # fmt: skip
APART = ("tests/kafka/", "tests/system/test_demo.py", "tests/system/test_sink_down.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first."""
    items.sort(key=lambda item: next((k for k, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files, and the tests of those that are apart, to workers in their order."""
    from xdist.scheduler import LoadFileScheduling

    class Spread(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Spread(config, log)

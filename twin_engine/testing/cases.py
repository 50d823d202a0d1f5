"""One case for each registered stage: what the law suite runs it on. A stage without a case fails the suite."""

from __future__ import annotations

from collections.abc import Callable

from twin_engine.testing.laws import Case

#: stage class name -> a function that makes its case (imports stay inside, so that this module is light)
CASES: dict[str, Callable[[], Case]] = {}

"""What holds for all tests: the same examples every time, no time limits that depend on the machine, pictures without a screen."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.plugin", "tests.spread"]

os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("seeded", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seeded")

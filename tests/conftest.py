"""What holds for all tests: the same examples every time, no time limits that depend on the machine, pictures without a screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.plugin", "tests.spread"]

os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("seeded", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seeded")


@pytest.fixture(scope="session", autouse=True)
def kernels_that_count_no_references_return_no_array() -> Iterator[None]:
    """Look at every kernel that the tests have compiled: such an array would outlive what holds it, and numba takes it in a tuple."""
    yield
    for name, module in [found for found in sys.modules.items() if found[0].startswith("twin_engine.kernels.")]:
        for kernel in vars(module).values():
            if getattr(kernel, "targetoptions", {}).get("_nrt") is False:
                for signature in kernel.nopython_signatures:
                    assert "array" not in str(signature.return_type).lower(), f"{name}.{kernel.__name__} returns {signature.return_type}"

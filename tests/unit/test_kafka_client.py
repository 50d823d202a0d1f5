"""Waiting for a client."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("aiokafka")

from streams.kafka.client import KafkaFailure, within


def test_a_client_that_cancels_itself_has_failed_and_one_that_is_cancelled_has_not() -> None:
    async def broken() -> None:
        raise asyncio.CancelledError

    async def waiting(begun: asyncio.Event) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(KafkaFailure, match="it broke off"):
            await within(9, broken(), "it")
        begun = asyncio.Event()
        task = asyncio.create_task(within(9, waiting(begun), "it"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(KafkaFailure, match=r"it took more than 0\.01 s"):
            await within(0.01, waiting(begun), "it")

    asyncio.run(main())

"""Topics for tests: the brokers make none by themselves."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic


def create(bootstrap: str, name: str, partitions: int = 1, configs: dict[str, str] | None = None, **client: Any) -> str:
    """Make a topic and return its name; `client` is what aiokafka needs to connect to a secured broker."""
    asyncio.run(_create(bootstrap, NewTopic(name, partitions, 1, topic_configs=configs or {}), client))
    return name


async def _create(bootstrap: str, topic: NewTopic, client: dict[str, Any]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **client)
    await admin.start()
    try:
        await admin.create_topics([topic])
    finally:
        await admin.close()

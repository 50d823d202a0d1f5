"""Topics: their names, which partition a key goes to, and that they are there with one number of partitions."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2

from streams.kafka.client import Kafka
from twin_engine.errors import InputError

LARGEST = 8 << 20  # bytes of a message of outputs
STAMPED = {  # an input topic: the brokers' times, not the senders'; room for the largest message that a codec takes, and its headers
    "message.timestamp.type": "LogAppendTime", "max.message.bytes": str(2 << 20),
}  # fmt: skip
_LOOKS, _LOOK = 100, 0.1  # how often a topic that was made is looked for, and after how many seconds each
_COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "600000"}


@dataclass(frozen=True)
class Names:
    """The topics of a twin under an app, besides its input."""

    app: str
    twin: str

    def of(self, what: str) -> str:
        """Return ``APP.TWIN.WHAT``."""
        return f"{self.app}.{self.twin}.{what}"

    def configs(self, retention_ms: int) -> dict[str, dict[str, str]]:
        """Return each topic with what it is configured as."""
        kept = {"retention.ms": str(retention_ms)}
        return {
            self.of("snapshots"): {**_COMPACT, "segment.bytes": str(64 << 20)},
            self.of("updates"): {**kept, "max.message.bytes": str(LARGEST)},
            self.of("events"): dict(_COMPACT),
            self.of("dead"): {**kept, "max.message.bytes": str(2 << 20)},
        }


def partition_of(key: str, partitions: int, partitioner: str = "murmur2") -> int:
    """Return where a producer puts a key: ``murmur2`` as the Java client, aiokafka and Faust do, ``crc32`` as librdkafka does."""
    if partitioner == "crc32":
        return zlib.crc32(key.encode()) % partitions
    return (int(murmur2(key.encode())) & 0x7FFFFFFF) % partitions


async def partitions(kafka: Kafka, topic: str) -> int:
    """Return a topic's number of partitions, 0 where it does not exist; raises InputError where the cluster cannot be reached."""
    admin = AIOKafkaAdminClient(**kafka.options())
    try:
        await admin.start()
        [found] = await admin.describe_topics([topic])
        return len(found["partitions"])
    except KafkaError as error:
        raise unreachable(kafka, error) from None
    finally:
        await admin.close()


async def _there(admin: Any, topics: list[str]) -> dict[str, int]:
    """Return how many partitions each topic has that is there."""
    return {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(topics) if not t["error_code"]}


async def ensure(kafka: Kafka, topics: Mapping[str, Mapping[str, str]], count: int, replication: int = 1) -> None:
    """Create what is not there, and wait for it; raises InputError where a topic has another number of partitions, or cannot be made."""
    admin = AIOKafkaAdminClient(**kafka.options())
    try:
        await admin.start()
        there = await _there(admin, list(topics))
        for topic, has in there.items():
            if has != count:
                raise InputError(
                    f"topic {topic}", expected=f"{count} partitions, as the input has", found=str(has),
                    mend="Stop the workers, let them catch up first, and run twin-engine migrate.",
                )  # fmt: skip
        new = [NewTopic(name, count, replication, topic_configs=dict(config)) for name, config in topics.items() if name not in there]
        if new:
            answer: Any = await admin.create_topics(new)
            for topic, code, *_ in answer.topic_errors:
                kind = for_code(code)
                if code and kind is not TopicAlreadyExistsError:  # another worker was quicker
                    raise InputError(
                        f"topic {topic}", expected="to create it", found=kind.__name__, mend="Create it, or give the right to."
                    )
            for _ in range(_LOOKS):  # a broker answers before it knows of them itself
                if len(await _there(admin, list(topics))) == len(topics):
                    break
                await asyncio.sleep(_LOOK)
    except KafkaError as error:
        raise unreachable(kafka, error) from None
    finally:
        await admin.close()


def unreachable(kafka: Kafka, error: Exception) -> InputError:
    """Return what is said when a cluster does not answer."""
    return InputError(
        f"Kafka at {kafka.bootstrap}", expected="a cluster that answers", found=f"{type(error).__name__}: {error}",
        mend="Is it up, and are address, user, password and TLS right? The log has what each address answered.",
    )  # fmt: skip

"""Where producers put a key."""

import pytest

pytest.importorskip("aiokafka")

from streams.kafka.topics import partition_of


def test_keys_go_where_the_clients_put_them() -> None:
    # murmur2 & 0x7fffffff as in Kafka's own UtilsTest ("21": -973932308, "foobar": -790332482); CRC-32 of "123456789" is 0xCBF43926
    assert partition_of("21", 10) == (-973932308 & 0x7FFFFFFF) % 10
    assert partition_of("foobar", 7) == (-790332482 & 0x7FFFFFFF) % 7
    assert partition_of("123456789", 11, "crc32") == 0xCBF43926 % 11

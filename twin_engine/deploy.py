"""What ``twin-engine worker`` and ``twin-engine sink`` do: a configuration put to work until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streams
from streams.context import Context
from streams.dead_letter import known
from streams.kafka.address import Topic
from streams.kafka.dead import Dead, dead_letters, settle
from streams.kafka.migrate import grow, read_all, write_all
from streams.kafka.outputs import send_command
from streams.kafka.source import KafkaSource
from streams.kafka.topics import STAMPED, Names, ensure, partition_of, partitions
from streams.kafka.updates import Updates
from twin_engine.assets import expand
from twin_engine.config import Config, read_config
from twin_engine.delivery import Delivery
from twin_engine.errors import InputError, SinkError
from twin_engine.keeper import Keeper
from twin_engine.loader import load
from twin_engine.logs import set_up
from twin_engine.metrics import Observed, served
from twin_engine.records import Command
from twin_engine.regroup import regroup
from twin_engine.snapshot import Snapshot, pack, unpack
from twin_engine.twin import Twin
from twin_engine.worker import Worker, WorkerConfig

log = logging.getLogger("twin_engine")


def worker_of(config: Config, twin: Twin, assets: list[str]) -> Worker:
    """Return the worker that a configuration describes."""
    kafka, given, how = config.kafka.cluster(), config.input, config.worker
    settings = WorkerConfig(
        config.app, given.topic, assets, given.codec, given.pattern, given.options, how.snapshot_every, how.retention, how.replication,
        given.partitioner,
    )  # fmt: skip

    def runtime() -> Any:
        if how.runtime == "faust":
            from streams.kafka.faust_runtime import FaustRuntime as Kind  # noqa: PLC0415 - it takes a second
        else:
            from streams.kafka.runtime import AiokafkaRuntime as Kind  # noqa: PLC0415
        return Kind(kafka, given.topic, config.app, member=how.member, session=how.session)

    return Worker(twin, kafka, settings, runtime)


def delivery_of(config: Config, twin: Twin, name: str) -> Delivery:
    """Return the delivery into one of the sinks of a configuration; raises InputError where there is none of that name."""
    section = config.sinks.get(name)
    if section is None:
        raise InputError(
            "sinks", expected=f"a section [sinks.{name}]", found=", ".join(config.sinks) or "none", mend="Add it, or name another."
        )
    if section.state is not None and not section.state.absolute().parent.is_dir():
        mend = "Mount a volume there, or check the path."
        raise SinkError(f"sinks.{name}.state", expected="a folder that is there", found=f"no {section.state.absolute().parent}", mend=mend)
    names = Names(config.app, twin.name)
    updates = Updates(config.kafka.cluster(), names.of("updates"), f"{config.app}.sink.{name}")
    return Delivery(updates, streams.open_sink(section.to, show=tuple(twin.show)), state=section.state)


def work(path: Path) -> None:
    """Run a worker until it is told to end: it saves everything first."""
    config = read_config(path)
    twin = load(config.twin)

    async def main() -> None:
        set_up(config.log.level, config.log.format)
        if not (assets := expand(config.assets, config.assets_file)):
            log.warning("no assets are configured: there are only those that commands add")
        worker = worker_of(config, twin, assets)
        if config.input.partitions:
            await ensure(config.kafka.cluster(), {config.input.topic: STAMPED}, config.input.partitions, config.worker.replication)
        await _observed(config, worker, worker.stop, worker.run)

    asyncio.run(main())


def bridge(path: Path, address: str | None, folder: Path, *, late: bool = False) -> None:
    """Send on what an MQTT broker has to the input topic, until told to end. address: None for that of ``[mqtt]``. late: see ``Bridge``."""
    from twin_engine.bridge import Bridge  # noqa: PLC0415 - needs the mqtt extra

    config = read_config(path)
    address = address or config.mqtt.address()
    source: Any = streams.open_source(address, folder=folder)
    if not address.startswith("mqtt"):
        raise InputError(f"bridge from {address}", expected="mqtt:// or mqtts://", found=address, mend="Name an MQTT broker.")

    async def main() -> None:
        given = config.input
        kafka, replication = config.kafka.cluster(), config.worker.replication
        job = Bridge(source, kafka, given.topic, folder, late=late, count=given.partitions, replication=replication)
        await _observed(config, job, job.stop, job.run)

    asyncio.run(main())


def deliver(path: Path, name: str) -> None:
    """Run a delivery until it is told to end."""
    config = read_config(path)
    twin = load(config.twin)

    async def main() -> None:
        delivery = delivery_of(config, twin, name)
        await _observed(config, delivery, delivery.stop, delivery.run)

    asyncio.run(main())


def keeper_of(config: Config, twin: Twin) -> Keeper:
    """Return what keeps the input of a twin as history; raises InputError where no folder is named."""
    given, folder = config.input, config.history.folder
    if folder is None:
        raise InputError("[history]", expected="a folder", found="none", mend='Write folder = "history" there.')
    topic = Topic(f"topic {given.topic}", config.kafka.cluster(), given.topic)
    codec = given.codec, given.pattern, given.options
    source = KafkaSource(topic, codec, [], Context(), f"{config.app}.history", latest=False, follow=True)
    sink = streams.open_sink(f"parquet:{quote(str(folder))}?input=yes")
    return Keeper(twin.name, source, sink, folder / "position.json", every=config.history.every)


def record(path: Path) -> None:
    """Keep the input of a twin as history until told to end."""
    config = read_config(path)
    twin = load(config.twin)

    async def main() -> None:
        keeper = keeper_of(config, twin)
        await _observed(config, keeper, keeper.stop, lambda: asyncio.to_thread(keeper.run))

    asyncio.run(main())


def migrate(path: Path, count: int) -> list[int]:
    """Raise the number of partitions of a twin's topics to ``count``; return the assets of each. All input must be in the snapshots."""
    config = read_config(path)
    twin = load(config.twin)
    names, kafka, topic = Names(config.app, twin.name), config.kafka.cluster(), config.input.topic
    place = names.of("snapshots"), f"{config.app}-{twin.name}", topic, config.app

    async def main() -> list[int]:
        has = await partitions(kafka, topic)
        if count < has:
            raise InputError(f"topic {topic}", expected=f"at least its {has} partitions", found=str(count), mend="Kafka only adds some.")
        kept = await read_all(kafka, *place, has)
        groups: list[list[str]] = [[] for _ in range(count)]
        old = [unpack(data, f"snapshot of partition {number}") for number, (_, data) in enumerate(kept) if data is not None]
        if not old or all(snapshot.document["source"]["partitions"] == count for snapshot in old):
            found = f"{count} already" if old else "none"
            raise InputError(f"snapshots of {twin.name}", expected="some of fewer partitions", found=found, mend="Nothing is to be done.")
        for name in [name for snapshot in old for name in snapshot.document["assets"]]:
            groups[partition_of(name, count, config.input.partitioner)].append(name)
        dealt = regroup(old, groups)
        offsets = [offset for offset, _ in kept] + [0] * (count - has)
        for number, (snapshot, offset) in enumerate(zip(dealt, offsets, strict=True)):
            version = max(s.document["source"]["version"] for s in old)
            gone = sorted({name for s in old for name in s.document["source"]["removed"]})
            said = {"partition": number, "partitions": count, "offset": offset, "version": version, "memory": None, "removed": gone}
            dealt[number] = Snapshot(snapshot.arrays, {**snapshot.document, "source": said})
        await grow(kafka, [topic, *names.configs(0)], count)
        about = {"definition": old[0].document["definition"], "partitions": count}
        await write_all(kafka, *place, [(offset, pack(s)) for offset, s in zip(offsets, dealt, strict=True)], about)
        return [len(snapshot.document["assets"]) for snapshot in dealt]

    return asyncio.run(main())


def command(path: Path, order: Command) -> list[int]:
    """Send a command to the partition of its asset, or to every one (``*``); return which."""
    config = read_config(path)
    kafka, topic = config.kafka.cluster(), config.input.topic

    async def main() -> list[int]:
        count = await partitions(kafka, topic)
        places = list(range(count)) if order.asset == "*" else [partition_of(order.asset, count, config.input.partitioner)]
        await send_command(kafka, topic, order, places)
        return places

    return asyncio.run(main())


def dead(path: Path, *, reason: str = "", send: bool = False, discard: bool = False) -> list[Dead]:
    """Return the dead letters of a twin that are not settled, of one reason or all; with ``send`` or ``discard`` they are then."""
    config = read_config(path)
    names, kafka = Names(config.app, load(config.twin).name), config.kafka.cluster()
    topic, group = names.of("dead"), f"{config.app}.dead"
    known(reason)
    if send and discard:
        raise InputError("--send and --discard", expected="one of them", found="both", mend="Send what is mended, then discard the rest.")

    async def main() -> list[Dead]:
        letters = [one async for one in dead_letters(kafka, topic, group)]
        found = [one for one in letters if reason in {"", one.reason}]
        if (send or discard) and found:
            kept = [one for one in letters if reason not in {"", one.reason}]
            await settle(kafka, found, kept, config.input.topic if send else None, topic, group, config.input.partitioner)
        return found

    return asyncio.run(main())


async def _observed(config: Config, job: Observed, stop: Callable[[], None], work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a job, observed as the configuration says; SIGTERM and Ctrl-C stop it in order."""
    set_up(config.log.level, config.log.format)
    _until_told(stop)
    with served(job, config.metrics.host, config.metrics.port):
        await work()


def _until_told(stop: Callable[[], None]) -> None:
    """SIGTERM and Ctrl-C stop a job in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)

"""A directory watched for new files, taken in the order of their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from streams.context import Context, Recording
from streams.registry import FILE_SUFFIXES, source_of_file
from streams.uri import Uri
from twin_engine.clock import NS, seconds
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Position, Reason, Reject

_LOOK = 0.1  # seconds between looks at the directory
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")
_HEAD = 1024  # bytes of a file that cannot be read that go to the dead letter


def open_directory(uri: Uri, context: Context) -> DirectorySource:
    """Open ``dir:DIR?pattern=*.csv&settle=2 s&watch=no&...``.

    pattern: which names are taken (not given: all whose suffix says their kind). settle: how long a file must not have changed before it
    is read (writers that rename a finished file into place can say 0). watch: ``no`` ends at the last file. Names that begin with a dot or
    end in .tmp, .part, .partial or .crdownload are never read. All other options go to the source of each file.
    """
    if not uri.file.is_dir():
        raise InputError(uri.text, expected="a directory", found="none there", mend="Check the path.")
    options = dict(uri.options)
    pattern, settle = options.pop("pattern", ""), seconds(options.pop("settle", "2 s"))
    watch = uri.choice("watch", ("yes", "no"), "yes") == "yes"
    options.pop("watch", None)

    def wanted(name: str) -> bool:
        plain = not name.startswith(".") and not name.endswith(_UNFINISHED)
        return plain and (fnmatch.fnmatch(name, pattern) if pattern else name.lower().removesuffix(".gz").endswith(tuple(FILE_SUFFIXES)))

    def opened(path: Path) -> Recording:
        return source_of_file(Uri(str(path), "", str(path), options), context)

    return DirectorySource(uri, context, wanted, opened, settle=round(settle * NS), watch=watch)


class DirectorySource:
    """The items of one file after the other. A position is ``[name, position in it]``, the latter ``"done"`` at the file's end."""

    live = False

    def __init__(
        self,
        uri: Uri,
        context: Context,
        wanted: Callable[[str], bool],
        opened: Callable[[Path], Recording],
        *,
        settle: int,
        watch: bool,
    ) -> None:
        self._uri, self._clock, self._wanted, self._opened = uri, context.clock, wanted, opened
        self._settle, self._watch = settle, watch
        self._sizes: dict[str, int] = {}

    @property
    def assets(self) -> list[str]:
        """Names of the assets in the files that are there; raises InputError where there is none."""
        found: dict[str, None] = {}
        for name in self._names():
            with suppress(InputError):
                source = self._opened(self._uri.file / name)
                found.update(dict.fromkeys(source.assets))
                source.close()
        if not found:
            raise InputError(self._uri.text, expected="files that tell the assets", found="none", mend="Name the assets with --asset.")
        return list(found)

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the items of all files after the position, and Idle while there is no new one.

        A file that appears while this runs and whose name sorts before one that has been read is rejected as late; one that cannot be read
        is rejected as malformed, and the rest goes on.
        """
        name, inner = position or ("", "done")
        passed = {n for n in self._names() if n < name}
        while True:
            late = [n for n in self._names() if n < name and n not in passed]
            for n in late:
                yield self._reject(n, Reason.LATE, f"{n} came after {name} had been read", [name, inner])
            passed.update(late)
            todo = self._next(name, inner)
            if todo is None:
                if not self._watch and not self._unsettled(name):
                    return
                self._clock.sleep(_LOOK)
                yield Idle([name, inner])
                continue
            begin = inner if todo == name else None
            passed.update([name] if todo != name else [])
            name = todo
            yield from self._file(name, begin)
            inner = "done"

    def _names(self) -> list[str]:
        """Return the names of all files that are wanted, in order."""
        return sorted(path.name for path in self._uri.file.iterdir() if self._wanted(path.name) and path.is_file())

    def _next(self, name: str, inner: Position) -> str | None:
        """Return the next file to read: the one at hand when it is not done, else the first finished one behind it."""
        if name and inner != "done":
            return name
        behind = [n for n in self._names() if n > name]
        return behind[0] if behind and self._settled(behind[0]) else None

    def _settled(self, name: str) -> bool:
        """Whether a file has come to rest: its time is old enough, and its size is what it was at the last look, if there was one."""
        stat = (self._uri.file / name).stat()
        old = self._clock.now() - stat.st_mtime_ns >= self._settle
        same = self._sizes.get(name, stat.st_size) == stat.st_size
        self._sizes = {name: stat.st_size}
        return old and same

    def _unsettled(self, name: str) -> bool:
        """Whether files are still to come to rest."""
        return any(n > name for n in self._names())

    def _file(self, name: str, inner: Position) -> Iterator[Item]:
        """Yield the items of one file, the last of them with the file done."""
        held: Item | None = None
        try:
            source = self._opened(self._uri.file / name)
            try:
                for item in source.items(inner):
                    if held is not None:
                        yield held
                    held = replace(item, position=[name, item.position])
            finally:
                source.close()
        except InputError as error:
            if held is not None:
                yield held
            held = self._reject(name, Reason.MALFORMED, str(error), None)
        yield replace(held or Idle(), position=[name, "done"])

    def _reject(self, name: str, reason: Reason, detail: str, position: Position) -> Reject:
        """Return a file that is not read as a value, with its first bytes."""
        path, head = self._uri.file / name, b""
        with suppress(OSError), path.open("rb") as file:
            head = file.read(_HEAD)
        return Reject(reason, detail, str(path), head, position)

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: the files keep themselves."""

    def close(self) -> None:
        """Nothing is held between files."""

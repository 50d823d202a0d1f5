"""Find a twin by name: the catalogue, an installed package's entry point, ``module:attribute``, or a file that is allowed."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from twin_engine.errors import DefinitionError
from twin_engine.twin import Twin

GROUP = "twin_engine.twins"
ALLOW = "TWIN_ENGINE_TWINS"  # folders, as in PATH, whose files may be loaded beside those under the current folder


def load(name: str) -> Twin:
    """Return the twin that a name means; raises DefinitionError.

    name: ``"host"`` (a module of the ``twins`` catalogue, or an entry point of the group ``twin_engine.twins``), ``"package.module"`` or
    ``"package.module:attribute"`` (the attribute is ``twin`` when left out), or ``"path/to/module.py"`` with or without an attribute.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        module = _from_file(Path(module_name))
    elif module_name in _modules():
        module = importlib.import_module(f"twins.{module_name}")
    else:
        for point in entry_points(group=GROUP, name=module_name):
            return _twin(point.load(), name)
        module = _from_module(module_name, name)
    return _twin(getattr(module, attribute or "twin", None), name)


def catalogue() -> dict[str, str]:
    """Return name -> first line of the module's docstring, for the catalogue and installed entry points."""
    found = {name: (_from_module(f"twins.{name}", name).__doc__ or "").strip().split("\n")[0] for name in _modules()}
    return found | {point.name: point.value for point in entry_points(group=GROUP)}


def _modules() -> list[str]:
    import twins  # noqa: PLC0415 - the catalogue is found when it is asked for

    return sorted(m.name for m in pkgutil.iter_modules(twins.__path__))


def _from_module(module_name: str, asked: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"twin {asked!r}", expected="its imports to be installed", found=f"no module {error.name!r}", mend=f"Install {error.name}."
            ) from error
        known = [*_modules(), *(p.name for p in entry_points(group=GROUP))]
        close = difflib.get_close_matches(asked, known, 1, 0.5)
        mend = f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(known)}; or give package.module:attribute or a .py file."
        raise DefinitionError(f"twin {asked!r}", expected="a twin of the catalogue", found="none of that name", mend=mend) from error


def _allowed() -> Iterator[Path]:
    yield Path.cwd().resolve()
    yield from (Path(p).resolve() for p in os.environ.get(ALLOW, "").split(os.pathsep) if p)


def _from_file(path: Path) -> ModuleType:
    place = path.resolve()
    if not place.is_file():
        raise DefinitionError(f"twin {str(path)!r}", expected="a Python file", found="none there")
    if not any(place.is_relative_to(folder) for folder in _allowed()):
        raise DefinitionError(
            f"twin {str(path)!r}", expected="a file under the current folder or one named in " + ALLOW, found=str(place),
            mend=f"Go to its folder, or set {ALLOW}={place.parent}.",
        )  # fmt: skip
    spec = importlib.util.spec_from_file_location(f"_twin_{place.stem}", place)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"twin {str(path)!r}", expected="a Python file", found=str(place))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, TypeError, NameError, AttributeError, ValueError) as error:
        last = traceback.extract_tb(error.__traceback__)
        line = error.lineno if isinstance(error, SyntaxError) else next((f.lineno for f in reversed(last) if f.filename == str(place)), 0)
        raise DefinitionError(f"{path}, line {line}", expected="a module that runs", found=f"{type(error).__name__}: {error}") from error
    return module


def _twin(found: object, name: str) -> Twin:
    if not isinstance(found, Twin):
        raise DefinitionError(
            f"twin {name!r}", expected="an attribute that is a Twin", found=type(found).__name__, mend="Expose it as `twin = Twin(...)`."
        )
    return found

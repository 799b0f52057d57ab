"""The public interface as text, with signatures: ``public_names.txt`` beside this file.

``python -m tests.whole.public_names`` writes it again. A change of the interface is then a diff
that a reviewer reads.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncws import __version__
from syncws.options import RawRouteOptions, RouteOptions, SessionOptions

PAGE = Path(__file__).with_name("public_names.txt")

MODULES = [
    "syncws",
    "syncws.flask",
    "syncws.django",
    "syncws.testing",
    "syncws.worker",
    "syncws.static",
    "syncws.prometheus",
]

#: The options that signatures mean by ``Unpack[…]``.
OPTIONS = [SessionOptions, RouteOptions, RawRouteOptions]

#: syncws makes these objects, not its users: their constructors may change.
MADE_BY_SYNCWS = {
    "ClientSession",
    "Codec",
    "HandshakeError",
    "Joined",
    "Peer",
    "RawSession",
    "Server",
    "Session",
    "Stats",
    "TypedSession",
}

#: gunicorn calls the methods of its worker class, and nobody else does.
ONLY_ITS_NAME = {"WebSocketWorker"}

#: Special methods that a user calls by Python's syntax.
SPECIAL = {"__call__", "__enter__", "__iter__", "__next__"}


class Text:
    """An annotation that a signature shows as it is written in the source."""

    def __init__(self, annotation: Any) -> None:
        self.text = (
            annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        )

    def __repr__(self) -> str:
        return self.text.replace('"', "'")


def signature(function: Any) -> str:
    found = inspect.signature(function)
    empty = inspect.Parameter.empty
    parameters = [
        each if each.annotation is empty else each.replace(annotation=Text(each.annotation))
        for each in found.parameters.values()
    ]
    returned = found.return_annotation
    if returned is not empty:
        returned = Text(returned)
    shown = str(found.replace(parameters=parameters, return_annotation=returned))
    return shown.replace(f"syncws/{__version__}", "syncws/VERSION")


def functions(name: str, function: Any) -> Iterator[str]:
    """A line for each signature. Python 3.10 does not know the overloaded ones."""
    if sys.version_info >= (3, 11):
        # typing files them under the module of the definition; a public function says "syncws".
        definition: Any = types.SimpleNamespace(
            __module__=inspect.unwrap(function).__globals__["__name__"],
            __qualname__=function.__qualname__,
        )
        for each in typing.get_overloads(definition):
            yield f"@overload {name}{signature(each)}"
    yield f"{name}{signature(function)}"


def members(kind: type) -> Iterator[str]:
    ours = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == "syncws"]
    annotations: dict[str, Any] = {}
    names: set[str] = set()
    for base in reversed(ours):
        annotations.update(inspect.get_annotations(base))
        names.update(vars(base))
    for name in sorted(names | set(annotations)):
        if name.startswith("_") and name not in SPECIAL:
            continue
        member = inspect.getattr_static(kind, name, None)
        if isinstance(member, property):
            assert member.fget is not None
            returned = Text(inspect.signature(member.fget).return_annotation)
            yield f"{name}: {returned}" + ("" if member.fset else "  # read-only")
        elif isinstance(member, (staticmethod, classmethod)) or inspect.isroutine(member):
            yield from functions(name, getattr(kind, name))
        elif name in annotations:
            yield f"{name}: {Text(annotations[name])}"


def lines() -> Iterator[str]:
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        yield f"{module_name}:"
        for name in sorted(module.__all__):
            public = getattr(module, name)
            if not isinstance(public, type):
                if callable(public):
                    yield from (f"    {line}" for line in functions(f"def {name}", public))
                else:
                    yield f"    {name}: {type(public).__name__}"
                continue
            bases = ", ".join(base.__name__ for base in public.__bases__ if base is not object)
            if issubclass(public, enum.Enum):
                yield f"    class {name}({bases}):"
                yield from (f"        {each.name} = {each.value}" for each in public)
                continue
            yield f"    class {name}({bases}):" if bases else f"    class {name}:"
            if name in ONLY_ITS_NAME:
                continue
            if name not in MADE_BY_SYNCWS and inspect.isfunction(public.__init__):
                yield f"        {name}{signature(public)}"
            yield from (f"        {line}" for line in members(public))
        yield ""
    for options in OPTIONS:
        yield f"{options.__name__}:"
        annotations = inspect.get_annotations(options)
        for base in getattr(options, "__orig_bases__", ()):
            annotations = {**getattr(base, "__annotations__", {}), **annotations}
        for name, annotation in sorted(annotations.items()):
            text = getattr(annotation, "__forward_arg__", annotation)
            yield f"    {name}: {Text(text)}"
        yield ""


def text() -> str:
    return "\n".join(lines())


if __name__ == "__main__":
    PAGE.write_text(text())

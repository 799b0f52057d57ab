"""Objects that are alive in this process. Their copies in the child of a fork begin anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakSet

__all__ = ["Living"]

T = TypeVar("T")


class Living(Generic[T]):
    """Every object of one kind that is alive. Any thread may call every method.

    In the child of a fork ``in_child`` is called with each of them. The child has one thread then.
    """

    def __init__(self, in_child: Callable[[T], object]) -> None:
        self._in_child = in_child
        # Guards _objects. Held for a few instructions.
        self._lock = threading.Lock()
        self._objects: WeakSet[T] = WeakSet()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._begin_in_child)

    def add(self, one: T) -> None:
        with self._lock:
            self._objects.add(one)

    def all(self) -> list[T]:
        with self._lock:
            return list(self._objects)

    def _begin_in_child(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        for one in self.all():
            self._in_child(one)

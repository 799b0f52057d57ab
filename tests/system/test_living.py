"""Objects that are alive, and what becomes of their copies in the child of a fork."""

from __future__ import annotations

import gc
import os
import sys
import warnings

import pytest

from syncws.system.living import Living


class Thing:
    begun = 0

    def begin(self) -> None:
        self.begun += 1


def test_what_is_alive() -> None:
    living: Living[Thing] = Living(Thing.begin)
    one, two = Thing(), Thing()
    living.add(one)
    living.add(two)
    assert set(living.all()) == {one, two}
    del two
    gc.collect()
    assert living.all() == [one]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork()")
def test_copies_begin_anew_in_the_child_of_a_fork() -> None:
    living: Living[Thing] = Living(Thing.begin)
    one = Thing()
    living.add(one)
    with living._lock:  # as another thread of the parent may
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of other tests' threads
            child = os.fork()
        if child == 0:
            os._exit(one.begun if living.all() == [one] else 100)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert one.begun == 0

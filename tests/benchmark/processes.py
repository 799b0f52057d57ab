"""What a process and its children use, and the core they run on. Linux only."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@contextmanager
def confined_to(*cores: int) -> Iterator[None]:
    """Processes that this thread starts meanwhile run on these cores only, with all their
    threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """A process and those that its main thread has started, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


@dataclass(frozen=True)
class Use:
    """What a process and its children have used so far."""

    #: CPU seconds in the program, and in the kernel for it.
    user: float
    system: float
    #: How often each thread that is alive has left the processor, to wait or for another thread.
    switches_of: dict[int, int]

    @classmethod
    def of(cls, pid: int) -> Use:
        user = system = 0
        switches_of = {}
        for member in family(pid):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
            for thread in Path(f"/proc/{member}/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    status = (thread / "status").read_text()
                    counts = re.findall(r"ctxt_switches:\s+(\d+)", status)
                    switches_of[int(thread.name)] = sum(map(int, counts))
        second = os.sysconf("SC_CLK_TCK")
        return cls(user / second, system / second, switches_of)

    def since(self, before: Use) -> Use:
        """What was used between two looks. A thread that has ended meanwhile took its count along,
        so the switches are those of the others."""
        switches_of = {
            thread: count - before.switches_of.get(thread, 0)
            for thread, count in self.switches_of.items()
        }
        return Use(self.user - before.user, self.system - before.system, switches_of)

    @property
    def switches(self) -> int:
        return sum(self.switches_of.values())


def memory_bytes(pid: int) -> int:
    """Memory of a process and its children; what they share counts once (the kernel's PSS)."""
    total = 0
    for member in family(pid):
        rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
        assert match is not None, rollup
        total += int(match[1]) * 1024
    return total

"""Fuzz a pure module, guided by what its code does with the bytes (atheris, libFuzzer).

    pip install -e '.[fuzz]'
    python -m tests.fuzz protocol --seconds 60
    python -m tests.fuzz handshake --seconds 60 --seed 1
    python -m tests.fuzz protocol FILE       an input that failed, again

What was interesting is kept in ``.fuzz/NAME``, and the next run begins with it;
an input that fails is written beside it, and its name is printed. An exception
is a failure, and so is more memory than the process had any use for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

# What is imported here reports which of its lines and branches are taken.
with atheris.instrument_imports(include=["syncws", "wsproto"]):
    from .targets import TARGETS

#: MiB of the whole process, the fuzzer's own included: it settles at about 100.
MEMORY = 400


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("file", nargs="?", help="run this input only")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 for a random one (it is printed)")
    arguments = parser.parse_args()

    folder = Path(__file__).parents[2] / ".fuzz"
    corpus = folder / arguments.target
    corpus.mkdir(parents=True, exist_ok=True)
    settings = [
        f"-max_total_time={arguments.seconds}",
        f"-seed={arguments.seed}",
        f"-rss_limit_mb={MEMORY}",
        "-timeout=10",
        f"-artifact_prefix={folder}/{arguments.target}-",
        arguments.file or str(corpus),
    ]
    atheris.Setup([sys.argv[0], *settings], TARGETS[arguments.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

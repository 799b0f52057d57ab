"""Run the Autobahn test suite against syncws and compare with the committed results.

python -m tests.conformance             groups 1 to 10, and a few cases of 12 and 13
python -m tests.conformance --full      all 517 cases, some ten minutes for each side
python -m tests.conformance --full --write    and commit to what comes out
python -m tests.conformance --only client     our client, and not our server
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import client, server
from .suite import Results, install

SIDES = {"server": server.run, "client": client.run}


def order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def write(path: Path, results: Results) -> None:
    lines = (f'  "{case}": {json.dumps(results[case])}' for case in sorted(results, key=order))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def compare(side: str, results: Results, expected: Results) -> bool:
    """Say what has come out; whether it is what was expected."""
    differing = [case for case in sorted(results, key=order) if results[case] != expected[case]]
    for case in differing:
        print(f"{side}, case {case}: expected {expected[case]}, got {results[case]}")
    grades = [grade for result in results.values() for grade in result]
    print(
        f"{side}: {len(results)} cases: {sum(grade == 'OK' for grade in grades) // 2} OK, "
        f"{sum(grade == 'INFORMATIONAL' for grade in grades) // 2} informational, "
        f"{len(differing)} not as expected",
        flush=True,
    )
    return not differing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--full", action="store_true", help="all cases of groups 12 and 13 too")
    parser.add_argument("--write", action="store_true", help="commit to the result")
    parser.add_argument("--only", choices=SIDES, help="one side of ours")
    arguments = parser.parse_args()
    program = install()
    good = True
    for side in [arguments.only] if arguments.only else SIDES:
        results = SIDES[side](program, full=arguments.full)
        path = Path(__file__).with_name(f"expected_{side}.json")
        if arguments.write:
            write(path, results)
        good = compare(side, results, json.loads(path.read_text())) and good
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

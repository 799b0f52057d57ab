"""Measure syncws and its peers on the same core, with the same client, and compare them.

    python -m tests.benchmark                       all cases, about twenty minutes
    python -m tests.benchmark --cases 1x32 memory --servers flask-sock --rounds 3
    python -m tests.benchmark --pythons python3.14 python3.14t --cases pythons-100x32
    python -m tests.benchmark --write               and write the report and its charts

It needs Linux, two cores that nothing else uses, gcc, libssl-dev, zlib1g-dev, nginx, and what the
extra `benchmark` installs.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

try:
    from ..support.fronts import program
    from ..support.servers import ROOT
    from . import chart, report
    from .cases import CASES, Sample
    from .contestants import CONTESTANTS, of_python
    from .programs import ClientError
    from .results import Round, Row, rows
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: pip install -e '.[benchmark]'") from error

#: Seconds. After 20 s some servers send pings, which the clients do not answer.
LONGEST = 15.0


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= LONGEST:
        raise argparse.ArgumentTypeError(f"more than 0 and at most {LONGEST:g}")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=positive, default=5, help="how often (%(default)s)")
    parser.add_argument(
        "--seconds", type=seconds, default=1.0, help="for each measurement (%(default)s)"
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=CASES,
        default=list(CASES),
        metavar="CASE",
        help=", ".join(CASES),
    )
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="SERVER",
        help="the rivals; syncws always takes part: " + ", ".join(CONTESTANTS),
    )
    parser.add_argument(
        "--pythons",
        nargs="+",
        default=[],
        metavar="PYTHON",
        help="the rivals of the cases pythons-*: interpreters that have syncws and gunicorn",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write benchmark.md and its charts into docs/topics",
    )
    return parser.parse_args()


def make_plan(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """The servers of each case, the subject first."""
    plan = {}
    for name in arguments.cases:
        case = CASES[name]
        if case.question != "pythons":
            rivals = [server for server in case.rivals if server in arguments.servers]
            plan[name] = [case.subject, *rivals]
        elif arguments.pythons:
            plan[name] = [case.subject, *arguments.pythons]
    return plan


def check(plan: dict[str, list[str]]) -> tuple[int, int]:
    """The cores for server and client; ends the program if something is missing."""
    servers = dict.fromkeys(server for servers in plan.values() for server in servers)
    missing = dict.fromkeys(name for server in servers for name in CONTESTANTS[server].missing())
    if missing:
        raise SystemExit(f"Not installed: {', '.join(missing)}. pip install -e '.[benchmark]'")
    if any(CASES[name].way == "nginx" for name in plan) and program("nginx") is None:
        raise SystemExit("Not installed: nginx.")
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        raise SystemExit("The benchmark needs two cores: one for the server, one for the client.")
    # A thousand sessions are as many files, here and in the servers.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(cores), max(cores)


def write(folder: Path, rounds: list[Round], found: list[Row], text: str) -> None:
    """The report, and the chart of each question beside it."""
    (folder / "benchmark.md").write_text(text)
    for question in report.questions(found):
        of_it = [row for row in found if row.question == question]
        (folder / report.picture(question)).write_text(chart.svg(rounds, of_it))


def main() -> None:
    arguments = parse()
    CONTESTANTS.update((python, of_python(python)) for python in arguments.pythons)
    plan = make_plan(arguments)
    server_core, client_core = check(plan)

    def measure(name: str, server_name: str) -> Sample:
        case = CASES[name]
        cores = [server_core, client_core] if case.every_core else [server_core]
        with CONTESTANTS[server_name].running(*cores, way=case.way) as server:
            return case.measure(server, client_core, arguments.seconds)

    rounds: list[Round] = []
    for number in range(arguments.rounds):
        one: Round = {}
        for case, servers in plan.items():
            samples = {}
            for server in reversed(servers) if number % 2 else servers:
                print(f"round {number + 1}: {case}, {server} ...", file=sys.stderr)
                try:
                    samples[server] = measure(case, server)
                except ClientError as error:
                    raise SystemExit(f"{case}, {server}: {error}") from error
            one[case] = {server: samples[server] for server in servers}
        rounds.append(one)

    found = rows(CASES, rounds)
    text = report.markdown(rounds, found, arguments.seconds)
    print(text, end="")
    if arguments.write:
        write(ROOT / "docs" / "topics", rounds, found, text)


if __name__ == "__main__":
    main()

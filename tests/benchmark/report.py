"""The report: tables in Markdown, which can be read on a terminal too."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import syncws

from .cases import COSTS, QUESTIONS
from .contestants import CONTESTANTS
from .results import (
    Round,
    Row,
    figure,
    ratio,
)

#: The C server is no rival; it has a table of its own.
CEILING = "ceiling"

_COSTS = ("user_us", "system_us", "switches")

_METHOD = """\
All servers run on one and the same core, each in processes of its own, one after another; the
client, a program in C with one thread, has another core to itself. Each measurement is that of a
server that has just been started. A round measures each case with all its servers, right after one
another, in turns forwards and backwards; a ratio is taken within a round. Shown is the median of
the rounds, with the least and the most of them.

Messages are binary. Limits on the size of messages are raised; everything else is as each library
has it by default. That includes keepalive: syncws, websockets and uvicorn send pings, flask-sock
and picows do not unless told to. syncws and flask-sock run under gunicorn
with one worker, syncws as plain WSGI and with 4 threads for HTTP, flask-sock on `gthread` with
1,100 threads, since each of its sessions takes one. websockets is its threaded server. uvicorn and
picows run on asyncio's own event loop; granian and gunicorn's ASGI worker run the application of
uvicorn. Flask-SocketIO is one program, under `syncws.compat.Worker`
and under `gthread`; its clients are a program in Python. "Without speedups" is syncws where the C
function of websockets for masking is not installed. An idle session has echoed one message; its
memory is the growth of the server's processes (PSS; the kernel's buffers are not in it)."""

#: What is to be said about the questions that have something of their own.
_METHODS = {
    "tls": """\
Over TLS the server itself has the certificate (an elliptic curve's), and the client is linked with
OpenSSL. Version and cipher are what both agree on by default. The handshakes are not measured.""",
    "compression": """\
For compression the client offers permessage-deflate as browsers do, and each server answers with
its own defaults. The messages are 64 different texts of JSON, which together are larger than a
window. The client has compressed them beforehand. It decompresses echoes only until the
measurement begins. picows, granian and gunicorn's ASGI worker do not compress.""",
    "nginx": """\
Behind nginx, TLS ends at nginx, with the configuration of the documentation. nginx runs on the core
of the server. What a message costs the server does not include nginx.""",
    "pythons": """\
All rows of the Pythons are syncws. "syncws" runs on the version named above, the others on that of
their name. A handler that computes adds up 2,000 squares for each message. The server then has
both cores, and the client shares one of them.""",
}

_COST = """\
What a message costs the server: CPU time in the program and in the kernel, and how often a thread
left the processor. The bare loop is a `recv()` and a `send()` in Python on a thread for each
connection, without a library: what this shape costs at least."""

_BOTTLENECK = """\
Each client reports the CPU time that it has used, and the same load is put on an echo server in C
that does nothing else (the ceiling). The headroom is the ceiling over the fastest server. With many
messages in flight a client that is busy for less than all of its time has waited for the server.
With one connection client and server take turns, so the client's part is in each round trip: there
the share of time it is busy is what a perfect client could save at most."""


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(head: list[str], body: list[list[str]]) -> str:
    """A table in Markdown with columns of even width."""
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, body)])


def row_title(row: Row) -> str:
    less = " (less is better)" if row.metric.less_is_better else ""
    return f"{row.title}: {row.metric.title}{less}"


def questions(rows: list[Row]) -> list[str]:
    """The questions that were measured, in their order."""
    return [question for question in QUESTIONS if any(row.question == question for row in rows)]


def answers(rounds: list[Round], row: Row) -> str:
    """The table of one row: a line for each server, with syncws's figure over its own."""

    def line(server: str) -> list[str]:
        found = figure(rounds, row.case, server, row.metric.key)
        cells = [CONTESTANTS[server].title, *map(number, (found.median, found.least, found.most))]
        if server == row.servers[0]:
            return [*cells, "", ""]
        ours = ratio(rounds, row.case, row.metric.key, row.servers[0], server)
        return [*cells, f"{ours.median:.2f}x", f"{ours.least:.2f} to {ours.most:.2f}"]

    return table(
        ["", "median", "least", "most", "syncws over it", "in the rounds"],
        [line(server) for server in row.servers if server != CEILING],
    )


def costs(rounds: list[Round], rows: list[Row]) -> str:
    """What a message costs the server: CPU time, and switches of threads."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        row = next(row for row in rows if row.case == case)
        for server in row.servers:
            values = [figure(rounds, case, server, key).median for key in _COSTS]
            user, system, switches = values
            lines.append(
                [
                    row.title,
                    CONTESTANTS[server].title,
                    f"{user:.1f}",
                    f"{system:.1f}",
                    f"{user + system:.1f}",
                    f"{switches:.2f}",
                ]
            )
    return table(["", "", "user µs", "system µs", "both", "switches"], lines)


def headroom(rounds: list[Round], rows: list[Row]) -> str:
    """For each rate that the ceiling was measured at too: how far from it the fastest server is."""

    def line(row: Row) -> list[str]:
        def value(server: str, key: str) -> float:
            return figure(rounds, row.case, server, key).median

        def busy(server: str) -> list[str]:
            return [f"{value(server, key):.0%}" for key in ("client_busy", "server_busy")]

        servers = [server for server in row.servers if server != CEILING]
        fastest = max(servers, key=lambda server: value(server, "rate"))
        return [
            f"{row.title}: {row.metric.title}",
            f"{CONTESTANTS[fastest].title}, {number(value(fastest, 'rate'))}",
            *busy(fastest),
            number(value(CEILING, "rate")),
            *busy(CEILING),
            f"{ratio(rounds, row.case, 'rate', CEILING, fastest).median:.2f}x",
        ]

    return table(
        [
            "",
            "fastest server",
            "client busy",
            "server busy",
            "ceiling",
            "client busy",
            "ceiling busy",
            "headroom",
        ],
        [line(row) for row in rows if CEILING in row.servers and row.metric.key == "rate"],
    )


def faults(rounds: list[Round], rows: list[Row]) -> str:
    """A line for each server that left sessions without an answer to their Close."""
    found = {}
    for row in rows:
        for server in row.servers:
            samples = [one[row.case][server] for one in rounds]
            share = max(sample.get("unanswered", 0.0) for sample in samples)
            if share > 0:
                found[row.case, server] = (
                    f"{CONTESTANTS[server].title} closed up to {share:.1%} of its sessions without "
                    f'an answer to the Close ("{row.title}"); they count all the same.'
                )
    return "\n".join(found.values())


def machine(rows: list[Row]) -> str:
    """What all this was measured on and with."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    kernel = platform.release().partition("-")[0]
    packages = {
        package
        for row in rows
        for server in row.servers
        for package in CONTESTANTS[server].packages
    }
    versions = [f"{package} {version(package)}" for package in sorted(packages, key=str.lower)]
    return (
        f"{cpu}, {os.cpu_count()} cores; {platform.system()} {kernel}; "
        f"{platform.python_implementation()} {platform.python_version()}; "
        f"syncws {syncws.__version__}, {', '.join(versions)}."
    )


def picture(question: str) -> str:
    """The name of the chart of a question; the README shows the first one."""
    return "benchmark.svg" if question == next(iter(QUESTIONS)) else f"benchmark-{question}.svg"


def markdown(rounds: list[Round], rows: list[Row], seconds: float) -> str:
    """The whole report."""
    parts = [
        "# Benchmark",
        "Written by `python -m tests.benchmark --write`, which needs gcc, libssl-dev, zlib1g-dev, "
        "nginx, two cores and `pip install -e '.[benchmark]'`. A bar is the median of the rounds, "
        "the line in it reaches from the least to the most.",
        f"{len(rounds)} rounds, {seconds:g} s for each measurement. {machine(rows)}",
    ]
    for question in questions(rows):
        parts += [f"## {QUESTIONS[question]}", f"![The same as the tables]({picture(question)})"]
        for row in rows:
            if row.question == question:
                parts += [f"**{row_title(row)}**", answers(rounds, row)]
        if question == "small":
            parts.append(_COST)
        if question in COSTS:
            parts.append(costs(rounds, [row for row in rows if row.question == question]))
    parts += [faults(rounds, rows), "## How it is measured", _METHOD]
    parts += [text for question, text in _METHODS.items() if question in questions(rows)]
    if any(CEILING in row.servers for row in rows):
        parts += ["## Is the client the bottleneck?", _BOTTLENECK, headroom(rounds, rows)]
    return "\n\n".join(part for part in parts if part) + "\n"

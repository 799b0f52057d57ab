"""The benchmark: how it summarizes figures, and that its clients measure correctly."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..benchmark import chart, programs, report
from ..benchmark.__main__ import make_plan, write
from ..benchmark.cases import (
    CASES,
    QUESTIONS,
    Case,
    Metric,
    Sample,
    echo,
    idle,
    socketio_events,
    socketio_fit,
)
from ..benchmark.contestants import CONTESTANTS, Contestant, of_python, without_source
from ..benchmark.programs import Client, ClientError
from ..benchmark.results import (
    Round,
    Summary,
    figure,
    ratio,
    rows,
)
from ..support.background import Background
from ..support.fronts import program as installed
from ..support.servers import ROOT

needs_gcc = pytest.mark.skipif(
    shutil.which("gcc") is None and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
    reason="the clients are written in C, and gcc is not installed",
)

needs_libraries = pytest.mark.skipif(
    not all(Path("/usr/include", name).exists() for name in ("zlib.h", "openssl/ssl.h"))
    and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
    reason="the clients need libssl-dev and zlib1g-dev, which are not installed",
)

needs_nginx = pytest.mark.skipif(
    installed("nginx") is None and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
    reason="nginx is not installed",
)


def busy(rate: float) -> Sample:
    return {
        "rate": rate,
        "p99_us": 1e6 / rate,
        "client_busy": 0.25,
        "server_busy": 0.5,
        "user_us": 6.25,
        "system_us": 7.5,
        "switches": 1.04,
    }


@pytest.fixture
def case() -> Case:
    metrics = [Metric("rate", "messages/s"), Metric("p99_us", "p99", less_is_better=True)]
    return Case("small", "small & quick", echo(1, 32), metrics, ["websockets", "ceiling"])


@pytest.fixture
def rounds() -> list[Round]:
    """Three rounds. In the second one the whole machine is slow."""
    return [
        {"a": {"syncws": busy(4000), "websockets": busy(1000), "ceiling": busy(8000)}},
        {"a": {"syncws": busy(2000), "websockets": busy(400), "ceiling": busy(2000)}},
        {"a": {"syncws": busy(3000), "websockets": busy(1000), "ceiling": busy(9000)}},
    ]


def test_summary_is_median_least_and_most() -> None:
    assert Summary.of([3.0, 1.0, 2.5]) == Summary(2.5, 1.0, 3.0)


def test_figures_are_those_of_one_server(rounds: list[Round]) -> None:
    assert figure(rounds, "a", "syncws", "rate") == Summary(3000, 2000, 4000)


def test_ratios_are_taken_within_a_round(rounds: list[Round]) -> None:
    # The ratio of the medians would be 3, but the median of the rounds' ratios is 4.
    assert ratio(rounds, "a", "rate", "syncws", "websockets") == Summary(4, 3, 5)


def test_a_row_for_each_metric(case: Case, rounds: list[Round]) -> None:
    found = rows({"a": case}, rounds)
    assert [row.metric.key for row in found] == ["rate", "p99_us"]
    assert found[0].servers == ["syncws", "websockets", "ceiling"]


def cells_of(table: str) -> list[list[str]]:
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_has_a_line_for_each_server_but_the_ceiling(
    case: Case, rounds: list[Round]
) -> None:
    rate, p99 = rows({"a": case}, rounds)
    cells = cells_of(report.answers(rounds, rate))
    assert cells[2:] == [
        ["syncws", "3,000", "2,000", "4,000", "", ""],
        ["websockets", "1,000", "400", "1,000", "4.00x", "3.00 to 5.00"],
    ]
    assert report.row_title(p99) == "small & quick: p99 (less is better)"


def test_a_message_costs_processor_time_and_switches(case: Case, rounds: list[Round]) -> None:
    cells = cells_of(report.costs(rounds, rows({"a": case}, rounds)))
    assert cells[2] == ["small & quick", "syncws", "6.2", "7.5", "13.8", "1.04"]
    assert [line[1] for line in cells[2:]] == ["syncws", "websockets", "ceiling"]


@pytest.mark.usefixtures("versions")
def test_a_report_has_a_picture_for_each_question_that_was_measured(
    case: Case, rounds: list[Round], tmp_path: Path
) -> None:
    for one in rounds:
        one["b"] = one["a"]
    large = Case("large", "large & slow", echo(1, 32), case.metrics, case.rivals)
    found = rows({"a": case, "b": large}, rounds)
    assert report.questions(found) == ["small", "large"]
    write(tmp_path, rounds, found, report.markdown(rounds, found, 2.0))
    text = (tmp_path / "benchmark.md").read_text()
    pictures = re.findall(r"\]\((\S+\.svg)\)", text)
    assert pictures == ["benchmark.svg", "benchmark-large.svg"]
    for name, title in zip(pictures, ["small &amp; quick", "large &amp; slow"], strict=True):
        assert (tmp_path / name).read_text().count(title) == 2, "a panel for each metric"
    # A table that is wider than a page can not be read.
    assert max(map(len, report.answers(rounds, found[0]).splitlines())) < 80


def test_headroom_is_told_with_how_busy_both_sides_are(case: Case, rounds: list[Round]) -> None:
    line = report.headroom(rounds, rows({"a": case}, rounds)).splitlines()[2]
    assert "syncws, 3,000" in line
    assert re.findall(r"\d+%", line) == ["25%", "50%", "25%", "50%"]
    assert "2.00x" in line


def test_unanswered_closes_are_told(case: Case, rounds: list[Round]) -> None:
    found = rows({"a": case}, rounds)
    assert report.faults(rounds, found) == ""
    rounds[1]["a"]["websockets"]["unanswered"] = 0.125
    assert report.faults(rounds, found).startswith("websockets closed up to 12.5% ")


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every package the same version, so that the test does not depend on installed ones."""
    monkeypatch.setattr(report, "version", lambda package: "4.7.11")


@pytest.mark.usefixtures("versions")
def test_report_names_versions_and_no_host(case: Case, rounds: list[Round]) -> None:
    text = report.markdown(rounds, rows({"a": case}, rounds), 2.0)
    assert "3 rounds, 2 s for each" in text
    assert "websockets 4.7.11" in text
    assert os.uname().nodename not in text
    assert str(ROOT) not in text


@pytest.mark.usefixtures("versions")
def test_a_question_has_its_own_costs_and_method(case: Case, rounds: list[Round]) -> None:
    tls = Case("tls", "small & secret", echo(1, 32), case.metrics[:1], case.rivals)
    text = report.markdown(rounds, rows({"a": tls}, rounds), 2.0)
    assert "\n## How many small messages, over TLS?\n" in text
    assert "| small & secret | websockets | 6.2     | 7.5       | 13.8 |" in text
    assert "\n\nOver TLS the server itself has the certificate" in text
    assert "Behind nginx" not in text, "it was not measured"
    http = Case("http", "pages", echo(1, 32), case.metrics[:1], case.rivals)
    assert "user µs" not in report.markdown(rounds, rows({"a": http}, rounds), 2.0)


@pytest.mark.usefixtures("versions")
def test_report_without_the_ceiling_has_no_table_of_it(case: Case, rounds: list[Round]) -> None:
    for one in rounds:
        del one["a"]["ceiling"]
    assert "bottleneck" not in report.markdown(rounds, rows({"a": case}, rounds), 2.0)


def test_chart_has_a_bar_for_each_server_but_the_ceiling(case: Case, rounds: list[Round]) -> None:
    image = ElementTree.fromstring(chart.svg(rounds, rows({"a": case}, rounds)))
    space = "{http://www.w3.org/2000/svg}"
    bars = [bar.attrib for bar in image.iter(f"{space}rect")]
    assert [bar["class"] for bar in bars] == ["ours", "bar"] * 2
    # The full width stands for 4,000 messages a second, the highest figure of all rounds.
    assert float(bars[0]["width"]) == pytest.approx(chart.BAR_WIDTH * 3 / 4)
    assert float(bars[1]["width"]) == pytest.approx(chart.BAR_WIDTH / 4)
    assert [bar["x"] for bar in bars] == [str(chart.NAME_WIDTH)] * 4
    panels = [group.attrib["transform"] for group in image.iter(f"{space}g")]
    below = chart.HEAD_HEIGHT + 2 * chart.BAR_STEP + chart.GAP
    assert panels == ["translate(0 0)", f"translate(0 {below})"], "no title beside another"
    texts = [text.text for text in image.iter(f"{space}text")]
    assert "small & quick" in texts
    assert "3,000" in texts


def test_every_case_is_of_known_servers() -> None:
    for case in CASES.values():
        assert set(case.servers) <= set(CONTESTANTS)
        assert case.question in QUESTIONS


@pytest.mark.parametrize("texts", ["titles", "names"])
def test_every_text_has_room_in_the_charts(texts: str) -> None:
    if texts == "titles":
        longest = max((case.title for case in CASES.values()), key=len)
        room = chart.WIDTH
    else:
        longest = max((contestant.title for contestant in CONTESTANTS.values()), key=len)
        room = chart.NAME_WIDTH - 6
    # A letter of 11 px is seldom wider than this on average.
    assert len(longest) * 6.2 < room, longest


def test_without_speedups_masks_in_python() -> None:
    code = (
        "import tests.benchmark.apps.gunicorn_settings, syncws.protocol.masking as masking;"
        "print(masking.mask is masking.mask_in_python)"
    )
    environ = CONTESTANTS["syncws-without-speedups"].environ
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


@pytest.fixture(scope="module")
def folder_of_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(autouse=True)
def compiled(folder_of_programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the programs once, into a directory that only this process uses."""
    monkeypatch.setattr(programs, "COMPILED", folder_of_programs)


@needs_gcc
@pytest.mark.load
@pytest.mark.parametrize("name", ["1x32", "100x16x32", "1x1m", "sessions", "http"])
@pytest.mark.parametrize("contestant", ["syncws", "ceiling"])
def test_clients_measure_a_rate(name: str, contestant: str) -> None:
    core = min(os.sched_getaffinity(0))
    with CONTESTANTS[contestant].running(core) as server:
        sample = CASES[name].measure(server, core, 0.1)
    assert sample["rate"] > 0
    assert sample["p99_us"] > 0
    assert sample["client_busy"] > 0
    assert sample["unanswered"] == 0


@needs_gcc
@needs_libraries
@needs_nginx
@pytest.mark.load
@pytest.mark.parametrize(
    ("name", "contestant"),
    [
        (name, contestant)
        for name in ("tls", "compression", "nginx")
        for contestant in CASES[name].servers
        if not CONTESTANTS[contestant].missing()
    ],
)
def test_each_contestant_can_do_what_it_is_measured_at(name: str, contestant: str) -> None:
    core = min(os.sched_getaffinity(0))
    with CONTESTANTS[contestant].running(core, way=CASES[name].way) as server:
        assert server.tls is (name != "compression")
        sample = CASES[name].measure(server, core, 0.1)
    assert sample["rate"] > 0
    assert sample["user_us"] + sample["system_us"] >= 0


@needs_gcc
@pytest.mark.load
def test_handlers_compute_with_another_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Another name for this one: it is not taken for the Python that runs the benchmark.
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    cores = os.sched_getaffinity(0)
    with of_python(str(other)).running(*cores) as server:
        folder = Path(os.readlink(f"/proc/{server.pid}/cwd"))
        assert [path.name for path in folder.iterdir()] == ["tests"], "no source of syncws"
        sample = CASES["pythons-computing"].measure(server, min(cores), 0.1)
    assert sample["rate"] > 0


@needs_gcc
@pytest.mark.load
@pytest.mark.parametrize("contestant", ["flask-socketio", "flask-socketio-gthread"])
def test_clients_of_socketio_measure(contestant: str) -> None:
    core = min(os.sched_getaffinity(0))
    with CONTESTANTS[contestant].running(core) as server:
        sample = socketio_events(2, 4)(server, core, 0.5)
    assert sample["rate"] > 0
    assert sample["client_busy"] > 0
    with CONTESTANTS[contestant].running(core) as server:
        fitting = socketio_fit(12)(server, core, 0.1)["clients"]
    assert 0 < fitting <= (12 if contestant == "flask-socketio" else 7)


@needs_gcc
@pytest.mark.load
def test_idle_sessions_take_memory() -> None:
    core = min(os.sched_getaffinity(0))
    with CONTESTANTS["syncws"].running(core) as server:
        sample = idle(100)(server, core, 0.1)
    assert 1 < sample["memory_kib"] < 1000


def answer_once(listener: socket.socket, response: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += connection.recv(65536)
        connection.sendall(response)


ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def deflated(text: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return b"\xc1%c" % (len(data) - 4) + data[:-4]


DEFLATE = b"HTTP/1.1 101 -\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"


@needs_gcc
@needs_libraries
@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (b"HTTP/1.1 101 -\r\n" + ACCEPT, "the server does not compress"),
        (DEFLATE + ACCEPT + b"\x81\x01a", "expected a whole compressed text"),
        (DEFLATE + ACCEPT + b"\xc1\x02\xff\xff", "not compressed as RFC 7692 says"),
        (DEFLATE + ACCEPT + b"\xc1\x7f" + bytes(8), "too large"),
        (DEFLATE + ACCEPT + deflated(b"{}"), "differs"),
        (DEFLATE + ACCEPT + deflated(b"{}") + b"\xc1", "more than an echo"),
    ],
)
def test_what_is_wrong_with_a_compressed_echo(response: bytes, complaint: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Background(answer_once, listener, response)
        client = Client("deflate", listener.getsockname()[1], "/echo", 1, 0.1, 1024)
        with client, pytest.raises(ClientError, match=complaint):
            client.finish()
        server.result()


@needs_gcc
@needs_libraries
def test_a_server_that_does_not_speak_tls() -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Background(answer, listener)
        client = Client("idle", listener.getsockname()[1], "/echo", 1, 32, tls=True)
        with client, pytest.raises(ClientError, match="the TLS handshake failed"):
            client.finish()
        server.result()


@needs_gcc
@pytest.mark.parametrize(
    ("program", "response", "complaint"),
    [
        ("echo", b"HTTP/1.1 400 Bad Request\r\n\r\n", "refused to upgrade: HTTP/1.1 400"),
        ("echo", b"HTTP/1.1 101 -\r\n\r\n", "Sec-WebSocket-Accept is wrong"),
        ("echo", b"", "no answer to the opening handshake"),
        ("echo", b"HTTP/1.1 101 -\r\n" + ACCEPT, "closed a connection|cannot send|cannot receive"),
        ("echo", b"HTTP/1.1 101 -\r\n" + ACCEPT + b"\x82\x03abc", "3 bytes instead of 4"),
        ("echo", b"HTTP/1.1 101 -\r\n" + ACCEPT + b"\x82\x04abCd", "differs"),
        ("echo", b"HTTP/1.1 101 -\r\n" + ACCEPT + b"\x89\x00", "begins with 0x89"),
        ("http", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "not a 200"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n", "not a 200 with a length"),
    ],
)
def test_a_client_says_what_a_server_did_wrong(
    program: str, response: bytes, complaint: str
) -> None:
    rest = [4, 1] if program == "echo" else []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Background(answer_once, listener, response)
        port = listener.getsockname()[1]
        client = Client(program, port, "/echo", 1, 0.1, *rest)
        with client, pytest.raises(ClientError, match=complaint):
            client.finish()
        server.result()


def test_without_a_compiler_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(programs, "COMPILED", tmp_path)
    with pytest.raises(SystemExit, match="install gcc"):
        programs.build("echo")


def test_what_is_not_installed_is_named() -> None:
    absent = Contestant("absent", [], ["pytest", "no-such-package-of-syncws"])
    assert absent.missing() == ["no-such-package-of-syncws"]


def python_that_prints(folder: Path, answer: str, status: int = 0) -> str:
    program = folder / "python"
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("answer", "title", "environ"),
    [
        ('["3.99.1", false, false]', "3.99.1", {}),
        ('["3.99.1", false, true]', "3.99.1, compiled", {}),
        ('["3.99.1", true, false]', "3.99.1 without GIL", {"PYTHON_GIL": "0"}),
    ],
)
def test_another_python_is_named_by_its_build(
    answer: str,
    title: str,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = python_that_prints(tmp_path, answer)
    monkeypatch.chdir(tmp_path)
    contestant = of_python("./python")
    assert (contestant.title, contestant.environ) == (title, environ)
    assert contestant.python == python


def test_another_python_needs_syncws(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"python: install syncws\[gunicorn,speedups\] there"):
        of_python(python_that_prints(tmp_path, "no", status=1))
    with pytest.raises(SystemExit, match="no such program"):
        of_python(str(tmp_path / "absent"))


def test_this_python_answers_what_is_asked() -> None:
    assert of_python(sys.executable).title.startswith(platform.python_version())


def test_another_python_does_not_see_the_source(tmp_path: Path) -> None:
    folder = without_source(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["tests"]
    assert (folder / "tests" / "benchmark" / "apps" / "wsgi.py").exists()


def test_cases_of_pythons_are_measured_if_there_are_pythons() -> None:
    arguments = argparse.Namespace(
        cases=["tls", "pythons-100x32"], servers=["picows", "ceiling"], pythons=[]
    )
    assert make_plan(arguments) == {"tls": ["syncws", "picows"]}
    arguments.pythons = ["python3.99"]
    assert make_plan(arguments)["pythons-100x32"] == ["syncws", "python3.99"]

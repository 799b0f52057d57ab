"""mission.md lists every capability with the tests that show it, and lists all such tests."""

from __future__ import annotations

import re

from ..support.servers import ROOT

PAGE = ROOT / "docs" / "project" / "mission.md"
ROWS = (
    [f"A{n}" for n in range(1, 12)]
    + [f"B{n}" for n in range(1, 5)]
    + [f"C{n}" for n in range(1, 18)]
    + [f"D{n}" for n in range(1, 10)]
    + [f"E{n}" for n in range(1, 3)]
)
#: Rows that are added as they land, in this order.
LATER = [f"F{n}" for n in range(1, 18)]


def listed() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([A-F]\d+) \| .* \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {row: re.findall(r"`(test_\w+)`", tests) for row, tests in rows}


def existing() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.M)}


def test_every_row_is_listed_with_a_test_of_its_name() -> None:
    rows = listed()
    landed = [row for row in LATER if row in rows]
    assert list(rows) == [*ROWS, *landed]
    for row, tests in rows.items():
        assert tests, f"{row} has no test"
        for test in tests:
            assert test.startswith(f"test_{row.lower()}_"), f"{test} is not named after {row}"


def test_every_listed_test_exists_and_every_test_is_listed() -> None:
    named = {test for test in existing() if re.match(r"test_[a-f]\d+_", test)}
    assert {test for tests in listed().values() for test in tests} == named

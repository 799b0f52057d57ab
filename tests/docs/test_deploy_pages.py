"""What the pages about deployment have besides programs: a calculator, and rules for alerts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

import syncws
from syncws.close import CloseReason
from syncws.worker import capacity

from ..support.browsers import Browser, needs_chromium
from .blocks import DOCS


@pytest.mark.load
@pytest.mark.browser
@needs_chromium
@pytest.mark.timeout(180)
def test_the_calculator(tmp_path: Path) -> None:
    page = (DOCS / "deploy/sizing.md").read_text()
    found = re.search(r"```\{raw\} html\n(.*?)```", page, re.DOTALL)
    assert found
    script = (DOCS / "_static/sizing.js").as_uri()
    html = tmp_path / "sizing.html"
    html.write_text(found[1].replace("../_static/sizing.js", script))
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(html.as_uri())
        assert results(browser)["worker_connections"] == 5000 // 4 + 2 * 8
        for name, value in {"sessions": 40_000, "workers": 2, "threads": 4}.items():
            field = browser.driver.find_element(By.NAME, name)
            field.clear()
            field.send_keys(str(value))
        assert results(browser) == {
            "worker_connections": 20_008,
            # The worker warns below this.
            "LimitNOFILE (descriptors of a worker)": (
                20_008 * capacity.PER_SESSION + capacity.PER_WORKER
            ),
            "TasksMax (threads of all workers)": 2 * (2 * 20_000 + 4 + 10),
            "vm.max_map_count": 4 * 20_000 + 5000,
            "memory, MiB": 2 * 100 + 40_000 * 80 // 1024,
            "pings and pongs a second": 4000,
        }
    finally:
        browser.driver.quit()


def results(browser: Browser) -> dict[str, int]:
    rows = browser.driver.find_elements(By.CSS_SELECTOR, "#sizing-result tr")
    cells = [[td.text for td in row.find_elements(By.TAG_NAME, "td")] for row in rows]
    return {name: int(value.replace(",", "")) for name, value in cells}


def test_the_rules_for_alerts_name_metrics_and_causes_that_exist() -> None:
    source = (Path(syncws.__file__).parent / "prometheus.py").read_text()
    metrics = set(re.findall(r'"(syncws_\w+)"', source))
    assert metrics
    for page in ("deploy/alerts.yml", "deploy/monitoring.md", "deploy/metrics.md"):
        text = (DOCS / page).read_text()
        names = set(re.findall(r"\bsyncws_\w+", text))
        assert names
        assert {re.sub("_(total|bucket)$", "", name) for name in names} <= metrics, page
        for cause in re.findall(r'cause="(\w+)"', text):
            assert str(CloseReason(cause=cause)), page

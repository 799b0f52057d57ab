"""A real browser, Chromium, for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from .pairs import PATIENCE

needs_chromium = pytest.mark.skipif(
    not os.environ.get("SYNCWS_TEST_EVERYTHING")
    and not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs Chromium: Debian's packages chromium and chromium-driver",
)


class Browser:
    """A browser window that shows the chat."""

    def __init__(self, folder: Path) -> None:
        options = ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--window-size=900,700",
            f"--user-data-dir={folder}",
        ):
            options.add_argument(argument)
        self.driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))

    def open(self, url: str) -> None:
        self.driver.get(url)

    def type(self, text: str) -> None:
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def fill(self, name: str, text: str) -> None:
        """Type into the input of this name, and send its form.

        The input may be on a page that is still on its way: chromedriver does not always wait for
        the answer to a form.
        """

        def filled(driver: Chrome) -> bool:
            driver.find_element(By.NAME, name).send_keys(text, Keys.ENTER)
            return True

        self._wait_until(filled, f"there is no input {name}")

    def wait_until_enabled(self, element: str) -> None:
        def enabled(driver: Chrome) -> bool:
            return driver.find_element(By.ID, element).is_enabled()

        self._wait_until(enabled, f"{element} is not enabled")

    def wait_for(self, element: str, text: str, timeout: float = 3 * PATIENCE) -> None:
        def shown(driver: Chrome) -> bool:
            return text in driver.find_element(By.ID, element).text

        self._wait_until(shown, f"{text!r} is not shown in {element}", timeout)

    def _wait_until(
        self, done: Callable[[Chrome], bool], otherwise: str, timeout: float = 3 * PATIENCE
    ) -> None:
        """Wait until ``done()``; an element may not be there yet, or not any more."""
        WebDriverWait(
            self.driver,
            timeout,
            poll_frequency=0.05,
            ignored_exceptions=[NoSuchElementException, StaleElementReferenceException],
        ).until(done, otherwise)


@contextlib.contextmanager
def two_browsers(folder: Path) -> Iterator[tuple[Browser, Browser]]:
    """Two browser windows that share no cookies."""
    made: list[Browser] = []
    try:
        for name in ("one", "two"):
            made.append(Browser(folder / name))
        yield made[0], made[1]
    finally:
        for browser in made:
            browser.driver.quit()

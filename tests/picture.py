"""The picture of the README: the chat in two browsers.

``python -m tests.picture`` starts the chat, lets two people talk in two real browsers, and writes
``docs/_static/chat.png``.
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import requests

from .support.browsers import Browser, two_browsers
from .support.pairs import PATIENCE
from .support.servers import ROOT, gunicorn

PICTURE = ROOT / "docs" / "_static" / "chat.png"

#: Pixels of CSS, and how many of the picture there are to each.
WIDTH, HEIGHT, SCALE = 440, 480, 1.4

BOTH = """<!doctype html><style>
body {{ margin: 0; display: flex; gap: 20px; padding: 10px; width: max-content; }}
figure {{ margin: 0; border: 1px solid #8886; border-radius: 12px; overflow: hidden; }}
figcaption {{ height: 30px; display: flex; align-items: center; gap: 7px; padding: 0 12px;
  background: #dfe1ec; color: #62688a; font: 12px system-ui, sans-serif; }}
figcaption i {{ width: 10px; height: 10px; border-radius: 50%; background: #b6bad0; }}
figcaption span {{ margin: auto; }}
.dark figcaption {{ background: #2b3047; color: #959cbc; }} .dark i {{ background: #4c5374; }}
img {{ display: block; width: {width}px; }}
</style>
<figure><figcaption><i></i><i></i><i></i><span>Ann</span></figcaption>
  <img src="data:image/png;base64,{one}"></figure>
<figure class="dark"><figcaption><i></i><i></i><i></i><span>Bob</span></figcaption>
  <img src="data:image/png;base64,{two}"></figure>
"""


def show(browser: Browser, width: int, height: int, scheme: str) -> None:
    driver = browser.driver
    metrics = {"width": width, "height": height, "deviceScaleFactor": SCALE, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def talk(ann: Browser, bob: Browser, url: str) -> None:
    ann.open(f"{url}?name=Ann")
    ann.wait_for("log", "Ann joined")
    bob.open(f"{url}?name=Bob")
    ann.wait_for("log", "Bob joined")
    for browser, text in (
        (ann, "Hello Bob! This is plain Flask."),
        (bob, "With blocking calls?"),
        (ann, "Yes, on threads of our own."),
    ):
        browser.type(text)
        for each in (ann, bob):
            each.wait_for("log", text)
    requests.post(f"{url}notify", {"text": "lunch, sent with curl"}, timeout=PATIENCE)
    for each in (ann, bob):
        each.wait_for("log", "lunch, sent with curl")
        each.wait_for("members", "2 here")


def main() -> None:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        two_browsers(Path(folder)) as (ann, bob),
        gunicorn("examples.chat:app") as server,
    ):
        show(ann, WIDTH, HEIGHT, "light")
        show(bob, WIDTH, HEIGHT, "dark")
        talk(ann, bob, server.url("/", "http"))
        one, two = (
            base64.b64encode(each.driver.get_screenshot_as_png()).decode() for each in (ann, bob)
        )
        page = Path(folder, "both.html")
        page.write_text(BOTH.format(width=WIDTH, one=one, two=two))
        show(ann, 2 * WIDTH + 44, HEIGHT + 52, "light")
        nothing = {"color": {"r": 0, "g": 0, "b": 0, "a": 0}}
        ann.driver.execute_cdp_cmd("Emulation.setDefaultBackgroundColorOverride", nothing)
        ann.open(page.as_uri())
        PICTURE.write_bytes(ann.driver.get_screenshot_as_png())
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

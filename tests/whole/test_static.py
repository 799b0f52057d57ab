"""syncws.static: the JavaScript client is in the package, and it can be served."""

from __future__ import annotations

import pytest
import requests
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import syncws
import syncws.static

from ..support.pairs import PATIENCE
from ..support.servers import ROOT


def test_it_is_served() -> None:
    with syncws.serve(syncws.static.application, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.port}"
        script = requests.get(f"{url}/syncws.js", timeout=PATIENCE)
        assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert script.content == (syncws.static.FOLDER / "syncws.js").read_bytes()
        tag = {"If-None-Match": script.headers["ETag"]}
        assert requests.get(f"{url}/syncws.js", headers=tag, timeout=PATIENCE).status_code == 304
        head = requests.head(f"{url}/syncws.d.ts", timeout=PATIENCE)
        assert (head.status_code, int(head.headers["Content-Length"]) > 0) == (200, True)
        assert requests.post(f"{url}/syncws.js", timeout=PATIENCE).status_code == 405
        for other in ["/", "/../static.py", "/syncws.py"]:
            assert requests.get(url + other, timeout=PATIENCE).status_code == 404


def test_it_is_small() -> None:
    source = (syncws.static.FOLDER / "syncws.js").read_text()
    assert len(source.splitlines()) < 200


@pytest.mark.skipif(
    not (ROOT / "syncws").is_dir(), reason="builds from the source, which an installed wheel is not"
)
def test_it_is_in_what_is_installed() -> None:
    """The builders say which files they would take."""
    for builder in (WheelBuilder(str(ROOT)), SdistBuilder(str(ROOT))):
        files = {file.distribution_path for file in builder.recurse_included_files()}
        for name in ("assets/syncws.js", "assets/syncws.d.ts", "py.typed"):
            assert any(path.endswith(f"syncws/{name}") for path in files), (builder, name)

"""Screenshots of the dashboard over a living system, for README and docs: ``python -m docs.tooling.screenshots``.

Needs Chromium on PATH. The pictures are of what really runs for a minute: examples/living.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "assets"
PAGES = {
    "overview": "/",
    "stream": "/streams/orders?group=billing&state=retrying",
    "dead": "/streams/orders/dead",
}
WARM_UP = 75.0


def main() -> None:
    """Take them."""
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        sys.exit("no Chromium on PATH")
    living = subprocess.Popen(  # noqa: S603 - our own example
        [sys.executable, str(ROOT / "examples" / "living.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert living.stdout is not None  # noqa: S101 - a pipe was asked for
        found = re.search(r"http://[\d.:]+", living.stdout.readline())
        if found is None:
            sys.exit("the living system did not start")
        time.sleep(WARM_UP)
        for name, path in PAGES.items():
            picture = FOLDER / f"dashboard-{name}.png"
            subprocess.run(  # noqa: S603 - the browser of whoever runs this
                [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,760",
                 f"--screenshot={picture}", found[0] + path],
                check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            sys.stdout.write(f"{picture}\n")
    finally:
        living.terminate()
        living.wait(30)


if __name__ == "__main__":
    main()

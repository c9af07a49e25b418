"""Wapiti against a dashboard with something of everything, as somebody who is logged in: ``make scan``.

Its crawler follows every link and fills in every form, as an admin; then the attacks run on what it found.
Its program is the first argument. Ends with 1 if it finds something.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import orjson

from streams import Pipeline, Settings
from streams.dashboard import Accounts, Dashboard, DashboardOptions
from streams.dashboard.sessions import COOKIE, Sessions
from tests.dashboard.board import ACCOUNTS, trouble
from tests.servers import BINARIES, Server
from tests.whatsapp.servers import serving

_SECRET = "of this scan"


async def main() -> int:
    """Serve, and let it try."""
    server = Server(BINARIES[0]).start()
    try:
        await trouble(server, "scan", ["one", "two"])
        options = DashboardOptions(Accounts(ACCOUNTS), secret=_SECRET)
        app = Dashboard(
            Pipeline(settings=Settings(url=server.url, namespace="scan")), options
        ).app
        session = Sessions(_SECRET, Accounts(ACCOUNTS).password_of).make("admin")
        async with serving(app) as url:
            with tempfile.TemporaryDirectory() as place:
                report = Path(place) / "report.json"
                command = (
                    sys.argv[1], "-u", f"{url}/", "--scope", "folder",
                    "--header", f"Cookie: {COOKIE}={session}", "--header", "Accept: text/html", "-x", f"{url}/logout",
                    "--flush-session", "--store-session", place, "--no-bugreport", "-f", "json", "-o", str(report),
                )  # fmt: skip
                process = await asyncio.create_subprocess_exec(*command, *sys.argv[2:])
                await process.wait()
                return told(orjson.loads(report.read_bytes()))
    finally:
        server.close()


def told(report: dict[str, dict[str, object]]) -> int:
    """Say what was found."""
    infos = report["infos"]
    print(f"{infos['crawled_pages_nbr']} pages crawled, version {infos['version']}")
    found = [
        f"{kind}: {each['method']} {each['path']}: {each['info']}"
        for part in ("vulnerabilities", "anomalies")
        for kind, rows in report[part].items()
        for each in rows  # type: ignore[attr-defined]
    ]
    print("\n".join(sorted(found)) or "nothing was found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

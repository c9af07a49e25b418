"""Schemathesis against the HTTP API over a real server: ``make api-fuzz``. Ends with its exit code.

Every operation is tried with what its document allows and with what it forbids; answers have to be those that the
document names, and nothing may be answered with a server error.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streams import Pipeline, Settings
from streams.dashboard import Dashboard
from tests.dashboard.board import trouble
from tests.servers import BINARIES, Server
from tests.whatsapp.servers import serving


async def main() -> int:
    """Serve, and let it try."""
    server = Server(BINARIES[0]).start()
    try:
        await trouble(server, "fuzz", ["one", "two"])
        app = Dashboard(Pipeline(settings=Settings(url=server.url, namespace="fuzz"))).app
        async with serving(app) as url:
            command = (str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/api/v1/openapi.json")
            process = await asyncio.create_subprocess_exec(*command, *sys.argv[1:])
            return await process.wait()
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

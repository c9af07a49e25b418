"""Schemathesis against the HTTP API over a real server: ``make api-fuzz``. Ends with its exit code.

Every operation is tried with what its document allows and with what it forbids; answers have to be those that the
document names, and nothing may be answered with a server error. A dashboard with accounts is asked with the token of an
admin that may publish, so that who may do what is in the way as it is for programs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from streams import Pipeline, Settings
from streams.dashboard import (
    Accounts,
    Dashboard,
    DashboardOptions,
    Role,
    Token,
    Tokens,
    new_token,
)
from tests.dashboard.board import ACCOUNTS, trouble
from tests.servers import BINARIES, Server
from tests.whatsapp.servers import serving


async def main() -> int:
    """Serve, and let it try."""
    server = Server(BINARIES[0]).start()
    try:
        await trouble(server, "fuzz", ["one", "two"])
        token, hashed = new_token()
        # It may come as often as it likes: its clock runs fast.
        tokens = Tokens(
            {hashed: Token("fuzz", Role.ADMIN, publishes=True)},
            lambda: time.monotonic() * 1000,
        )
        options = DashboardOptions(Accounts(ACCOUNTS), tokens)
        app = Dashboard(
            Pipeline(settings=Settings(url=server.url, namespace="fuzz")), options
        ).app
        async with serving(app) as url:
            settings = Path(__file__).with_name("schemathesis.toml")
            program = str(Path(sys.executable).parent / "schemathesis")
            command = (
                program,
                "--config-file",
                str(settings),
                "run",
                f"{url}/api/v1/openapi.json",
            )
            header = ("--header", f"Authorization: Bearer {token}")
            process = await asyncio.create_subprocess_exec(
                *command, *header, *sys.argv[1:]
            )
            return await process.wait()
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""The living system that the dashboard is tried on: it starts, has something to show, and ends without a trace."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.conftest import eventually
from tests.servers import clean_environment

ROOT = Path(__file__).parents[2]


async def test_it_lives_and_leaves_nothing_behind():
    with tempfile.TemporaryDirectory(prefix="li", dir="/tmp") as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "examples" / "living.py"), "--port", "0"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=clean_environment() | {"PYTHONPATH": str(ROOT), "TMPDIR": folder}, cwd=folder,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
            found = re.search(r"http://[\d.:]+", line)
            assert found is not None, line
            async with httpx.AsyncClient(
                base_url=found[0], headers={"Accept": "text/html"}
            ) as client:

                async def busy() -> bool:
                    page = (await client.get("/")).text
                    rows = {
                        stream
                        for stream in ("orders", "whatsapp", "whatsapp-status")
                        if f"/streams/{stream}" in page
                    }
                    return (
                        len(rows) == 3
                        and "escola" in (await client.get("/whatsapp")).text
                    )

                await eventually(
                    busy, seconds=40.0, what="a system with something to show"
                )
            process.send_signal(signal.SIGINT)
            _, errors = await asyncio.wait_for(process.communicate(), 40)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, errors.decode()
        assert errors == b""
        assert list(Path(folder).glob("lv*")) == []  # Nothing of its data.

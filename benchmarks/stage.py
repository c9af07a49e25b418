"""What every benchmark needs: a server of its own, programs in processes of their own, and the server's own figures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from tests.servers import BINARIES, Server, server_label


class Program:
    """A program of ``benchmarks.programs`` in its process, prepared and waiting for the word to begin."""

    def __init__(
        self, name: str, url: str, command: tuple[str, ...] = (), **facts: Any
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [
                *(command or (sys.executable, "-m", "benchmarks.programs")),
                name,
                url,
                json.dumps(facts),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._read()
        if line != "ready":
            raise RuntimeError(f"{name} is not ready: {line!r}")

    def tell(self) -> None:
        """Begin, or end what goes on until it is told."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self._read())
        self._process.communicate(timeout=60)
        return facts

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(10)
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}")
        return line.strip()


@dataclass(slots=True)
class Stage:
    """A running server. ``client`` is for preparing and looking."""

    server: Server
    client: redis.Redis
    _names: int = 0

    @property
    def url(self) -> str:
        return self.server.url

    def name(self) -> str:
        """A new stream's name."""
        self._names += 1
        return f"b{self._names}"

    def clear(self) -> None:
        self.client.flushall()
        self.client.config_resetstat()

    def server_us(self) -> float:
        """Microseconds of CPU that the server has used."""
        facts = self.client.info("cpu")
        return 1e6 * (facts["used_cpu_user"] + facts["used_cpu_sys"])

    def run(self, name: str, **facts: Any) -> dict[str, Any]:
        """A program from its begin to its end."""
        program = Program(name, self.url, **facts)
        program.tell()
        return program.result()

    def drain(
        self, name: str, key: str, workers: int = 1, **facts: Any
    ) -> dict[str, Any]:
        """Workers empty a stream; the time runs from the word to begin until nothing is stored."""
        programs = [
            Program(name, self.url, n=n, key=key, **facts) for n in range(workers)
        ]
        before, clock = self.server_us(), time.perf_counter()
        for program in programs:
            program.tell()
        while self.client.xlen(key):
            time.sleep(0.01)  # Each look costs the server, whose CPU is measured.
        seconds = time.perf_counter() - clock
        used = self.server_us() - before
        for program in programs:
            program.tell()
        results = [program.result() for program in programs]
        return {
            "seconds": seconds,
            "server_us": used,
            "cpu": sum(result["cpu"] for result in results),
            "peak_mib": max(result["peak_mib"] for result in results),
            "commands": sum(result.get("commands", 0) for result in results),
            "handled": [result.get("handled", 0) for result in results],
        }


@contextmanager
def stage(binary: str = "") -> Iterator[Stage]:
    """A server without persistence on a free TCP port."""
    server = Server(binary or BINARIES[0], port=True).start()
    try:
        with server.client() as client:
            yield Stage(server, client)
    finally:
        server.close()


def label(place: Stage) -> str:
    return server_label(place.server.binary)

"""Ours against the bare client library, in alternating rounds: ``python -m benchmarks.bench [ROUNDS] [N] [PART ...]``.

Each round measures the limit and ours one right after the other; a ratio is that of one round. The table has the median
of the ratios and their spread. Raw drains read 500 entries per call, acknowledge and delete them in two commands and do
nothing else; ours are whole workers with everything on that is on by default. What has no limit to be compared with
("1" in that column) is compared with its target. A whole run is kept in ``benchmarks/results/bench.json``.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis as client_library

from benchmarks.programs import BODY, KIND
from benchmarks.stage import Program, Stage, label, stage
from streams.broker.keys import Keys

RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class Row:
    """One comparison. ``target`` is what the ratio should be, ``most`` says that it is an upper bound."""

    what: str
    target: float
    most: bool = False
    ratios: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    unit: str = "/s"

    def add(self, raw: float, ours: float) -> None:
        self.raw.append(raw)
        self.ours.append(ours)
        self.ratios.append(ours / raw)

    def line(self) -> str:
        middle = statistics.median(self.ratios)
        met = middle <= self.target if self.most else middle >= self.target
        return (
            f"| {self.what} | {_figure(statistics.median(self.raw))}{self.unit} "
            f"| {_figure(statistics.median(self.ours))}{self.unit} | {middle:.2f} "
            f"| {min(self.ratios):.2f} to {max(self.ratios):.2f} | {'≤' if self.most else '≥'} {self.target:g} "
            f"| {'yes' if met else 'no'} |"
        )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


class Bench:
    """The comparisons; one method measures one round of each."""

    def __init__(self, place: Stage, count: int) -> None:
        self.place = place
        self.count = count
        self.rows: dict[str, Row] = {}

    def row(
        self, what: str, target: float, *, most: bool = False, unit: str = "/s"
    ) -> Row:
        return self.rows.setdefault(what, Row(what, target, most, unit=unit))

    def drain(self) -> None:
        raw, ours = self._drain("raw_drain"), self._drain("ours_drain")
        self.row("drain, handler that does nothing", 0.55).add(
            self.count / raw["seconds"], self.count / ours["seconds"]
        )
        self.row("the same: worker CPU per event", 2.2, most=True, unit=" µs").add(
            1e6 * raw["cpu"] / self.count, 1e6 * ours["cpu"] / self.count
        )
        waiting = self._drain("ours_drain", sleep=0.001)
        self.row("drain, handler that awaits 1 ms", 0.3).add(
            self.count / raw["seconds"], self.count / waiting["seconds"]
        )
        cases: tuple[tuple[dict[str, float], dict[str, float], str], ...] = (
            ({}, ours, "that does nothing"),
            ({"sleep": 0.001}, waiting, "that awaits 1 ms"),
        )
        for facts, one, what in cases:
            pair = self._drain("ours_drain", workers=2, **facts)
            self.row(f"drain, 2 workers against 1, handler {what}", 1.3).add(
                self.count / one["seconds"], self.count / pair["seconds"]
            )
        pair = self._drain("raw_drain", workers=2)
        self.row("for comparison: 2 bare loops against 1", 1.3).add(
            self.count / raw["seconds"], self.count / pair["seconds"]
        )

    def server(self) -> None:
        """One event's whole life on the server, in batches, and what it weighs while it waits."""
        place, stream, count = self.place, self.place.name(), self.count
        place.clear()
        before = place.server_us()
        published = place.run("ours_publish_many", stream=stream, count=count - 1)
        life = place.server_us() - before
        weight = place.client.memory_usage(Keys(stream).level(0), samples=0) / count
        drained = place.drain("ours_drain", Keys(stream).level(0), stream=stream)
        life += drained["server_us"]
        commands = (published["commands"] + drained["commands"]) / count
        bare = self._bare_weight(count)
        self.row(
            "server commands per event, its whole life", 0.05, most=True, unit=""
        ).add(1.0, commands)
        self.row(
            "server CPU per event, its whole life", 7.0, most=True, unit=" µs"
        ).add(1.0, life / count)
        self.row(
            "bytes of a waiting event against a bare XADD", 1.15, most=True, unit=" B"
        ).add(bare, weight)
        self.row("peak memory of the worker", 80.0, most=True, unit=" MiB").add(
            1.0, drained["peak_mib"]
        )

    def _bare_weight(self, count: int) -> float:
        place, stream = self.place, self.place.name()
        place.run(
            "raw_publish_many", stream=stream, key=stream, count=count // 500 * 500
        )
        return float(place.client.memory_usage(stream, samples=0)) / (
            count // 500 * 500
        )

    def sync(self) -> None:
        count = self.count // 500 * 500
        awaited = self._publish("ours_publish_many", count)
        self.row("streams.sync: publish_many against the awaited one", 0.8).add(
            awaited, self._publish("ours_publish_many_sync", count)
        )

    def publish(self) -> None:
        count = self.count // 500 * 500
        raw = self._publish("raw_publish_many", count)
        for name, what, target in (
            ("ours_publish_many", "publish_many against pipelines of 500 XADD", 2.0),
            ("ours_publish_100", "100 concurrent publish against the same", 1.0),
        ):
            self.row(what, target).add(raw, self._publish(name, count))
        one = min(count, 5000)
        self.row("one awaited publish after another, against await xadd", 0.9).add(
            self._publish("raw_publish_one", one),
            self._publish("ours_publish_one", one),
        )

    def latency(self) -> None:
        raw, ours = self._latency("raw"), self._latency("ours")
        for share, what in ((0.5, "p50"), (0.99, "p99")):
            at = int(len(raw) * share)
            self.row(
                f"idle worker, publish to handler, {what}", 1.5, most=True, unit=" ms"
            ).add(raw[at], ours[at])

    def _drain(self, name: str, workers: int = 1, **facts: float) -> dict[str, float]:
        place, stream = self.place, self.place.name()
        key = Keys(stream).level(0)
        place.clear()
        place.run("ours_publish_many", stream=stream, count=self.count - 1)
        if name.startswith("raw"):
            place.client.xgroup_create(key, "g", "0")
        return place.drain(name, key, workers, stream=stream, **facts)

    def _publish(self, name: str, count: int) -> float:
        self.place.clear()
        stream = self.place.name()
        result = self.place.run(name, stream=stream, key=stream, count=count)
        return float(count / result["seconds"])

    def _latency(self, which: str, count: int = 1000) -> list[float]:
        place, stream = self.place, self.place.name()
        place.clear()
        key = stream if which == "raw" else Keys(stream).level(0)
        place.client.xgroup_create(key, "g", "0", mkstream=True)
        reader = Program(
            f"{which}_latency", place.url, stream=stream, key=key, count=count
        )
        sender = Program(
            f"{which}_send", place.url, stream=stream, key=key, count=count, pause=0.004
        )
        reader.tell()
        sender.tell()
        sender.result()
        return sorted(wait / 1e6 for wait in reader.result()["waits"])


def ceiling(place: Stage) -> str:
    """What the server takes at most: its own benchmark program, the same fields, 500 commands to a write."""
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if program is None:
        return "no redis-benchmark here"
    body = json.dumps(BODY, separators=(",", ":"))
    command = [
        program,
        "-p",
        str(place.server.port),
        "-c",
        "1",
        "-P",
        "500",
        "-n",
        "200000",
        "-q",
    ]
    fields = ["type", KIND, "id", "0" * 26, "data", body]
    done = subprocess.run(
        [*command, "XADD", "ceiling", "*", *fields],
        capture_output=True,
        text=True,
        check=True,
    )
    rate = re.findall(r"([\d.]+) requests per second", done.stdout)[-1]
    return f"redis-benchmark -c 1 -P 500 XADD: {float(rate):,.0f}/s"


def main(rounds: int = 5, count: int = 100_000, *only: str) -> None:
    with stage() as place:
        bench = Bench(place, count)
        parts: tuple[Callable[[], None], ...] = tuple(
            getattr(bench, n)
            for n in (only or ("drain", "publish", "server", "sync", "latency"))
        )
        for n in range(rounds):
            for part in parts:
                part()
            print(f"round {n + 1} of {rounds}", file=sys.stderr)
        place.clear()
        most = ceiling(place)
        about: dict[str, object] = {
            "date": datetime.now(UTC).date().isoformat(),
            "server": label(place),
            "client": client_library.__version__,
            "python": platform.python_version(),
            "events": count,
            "rounds": rounds,
            "ceiling": most,
        }
    print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
    if not only:
        RESULTS.mkdir(exist_ok=True)
        about["rows"] = [asdict(row) for row in bench.rows.values()]
        (RESULTS / "bench.json").write_text(json.dumps(about, indent=1) + "\n")
    print(
        "| what | limit | ours | ratio | spread | target | met |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for row in bench.rows.values():
        print(row.line())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]), *sys.argv[3:])

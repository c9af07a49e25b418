"""Other projects beside ours, each in a virtual environment: ``python -m benchmarks.bench_peers [ROUNDS] [PEER ..]``.

Every peer is installed at a pinned version and configured as its own documentation recommends (see its file under
``benchmarks/peers``). Each measurement has a server of its own without persistence, reached by TCP on loopback. Rounds
alternate between the peers; figures are medians over the rounds, ratios are those of one round.
The results are written to ``benchmarks/results/peers.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.stage import Stage, label, stage

HERE = Path(__file__).parent
APPS = HERE / "peers"
RESULTS = HERE / "results"
ENVIRONMENTS = Path(os.environ.get("PEERS_DIR", HERE.parent / ".venv-peers"))
_PATIENCE = 180.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A project: what is installed, how its worker is started, and how many messages its speed allows to measure."""

    name: str
    requirements: tuple[str, ...]
    worker: tuple[str, ...]
    drain: int
    publish: int
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def app(self) -> str:
        return f"{self.name.partition('-')[0]}_app"

    @property
    def home(self) -> Path:
        return ENVIRONMENTS / self.name.partition("-")[0]


_REDIS = "redis[hiredis]==8.1.0"
_FASTSTREAM = ("faststream[redis,cli]==0.7.8", _REDIS)
PEERS = (
    Peer("streams", (), ("python", "streams_app.py", "work"), 100_000, 100_000),
    Peer("streaq", ("streaq==7.2.0",), ("streaq", "run", "streaq_app:worker"), 5_000, 10_000),
    Peer(
        "taskiq",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", _REDIS),
        ("taskiq", "worker", "taskiq_app:broker", "--workers", "1", "--max-async-tasks", "100",
         "--ack-type", "when_saved"),
        10_000,
        10_000,
    ),
    Peer("docket", ("pydocket==0.27.0", _REDIS), ("python", "docket_app.py", "work"), 5_000, 10_000),
    Peer("faststream", _FASTSTREAM, ("faststream", "run", "faststream_app:app"), 10_000, 20_000),
    Peer(
        "faststream-batch",
        _FASTSTREAM,
        ("faststream", "run", "faststream_app:app"),
        50_000,
        20_000,
        (("PEER_BATCH", "1"),),
    ),
    Peer("arq", ("arq==0.28.0", "redis[hiredis]"), ("arq", "arq_app.WorkerSettings"), 4_000, 5_000),
    Peer("saq", ("saq[hiredis]==0.26.4", "typing_extensions"), ("saq", "saq_app.settings"), 8_000, 10_000),
    Peer(
        "dramatiq",
        ("dramatiq[redis]==2.2.1", _REDIS),
        ("dramatiq", "dramatiq_app", "--processes", "1", "--threads", "32"),
        10_000,
        5_000,
    ),
    Peer(
        "celery",
        ("celery[redis]==5.7.0", "redis[hiredis]"),
        ("celery", "-A", "celery_app", "worker", "--pool", "threads", "--concurrency", "4", "--without-gossip",
         "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
        4_000,
        3_000,
    ),
    Peer("bullmq", ("bullmq==3.4.4",), ("python", "bullmq_app.py", "work"), 5_000, 20_000),
)  # fmt: skip
MODES = ("bulk", "concurrent", "one")


def install(peer: Peer) -> None:
    """Make the peer's environment, unless it is there."""
    if peer.name == "streams" or (peer.home / ".ready").exists():
        return
    print(f"installing {', '.join(peer.requirements)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", peer.home], check=True)
    subprocess.run(
        [peer.home / "bin" / "pip", "install", "--quiet", *peer.requirements],
        check=True,
    )
    (peer.home / ".ready").touch()


def measure(peer: Peer) -> dict[str, Any]:
    """One round of everything for one peer."""
    found: dict[str, Any] = {}
    for mode in MODES:
        with stage() as place:
            count = peer.publish if mode != "one" else min(peer.publish, 3_000)
            found[mode] = _publish(peer, place, mode, count)
            found[mode]["count"] = count
    with stage() as place:
        found["drain"] = _drain(peer, place)
    return found


def _publish(peer: Peer, place: Stage, mode: str, count: int) -> dict[str, Any]:
    command = [_binary(peer, "python"), f"{peer.app}.py", mode, str(count)]
    done = subprocess.run(
        command,
        cwd=APPS,
        env=_environment(peer, place),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{peer.name} {mode} ended with {done.returncode}: {done.stderr[-2000:]}"
        )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _drain(peer: Peer, place: Stage) -> dict[str, Any]:
    _publish(peer, place, "bulk", peer.drain)
    result = place.server.folder / "result.json"
    before = place.server_us()
    place.client.config_resetstat()
    with _worker(peer, place, result) as worker:
        give_up = time.monotonic() + _PATIENCE
        while not result.exists():
            if worker.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(
                    f"{peer.name}: the worker did not finish ({worker.poll()})"
                )
            time.sleep(0.02)
        facts: dict[str, Any] = json.loads(result.read_text())
        facts["server_us"] = (place.server_us() - before) / peer.drain
        return facts


@contextlib.contextmanager
def _worker(
    peer: Peer, place: Stage, result: Path
) -> Iterator[subprocess.Popen[bytes]]:
    environment = _environment(peer, place) | {
        "PEER_COUNT": str(peer.drain),
        "PEER_RESULT": str(result),
    }
    process = subprocess.Popen(
        [_binary(peer, peer.worker[0]), *peer.worker[1:]],
        cwd=APPS,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _binary(peer: Peer, name: str) -> str:
    if peer.name == "streams":
        return sys.executable
    return str(peer.home / "bin" / name)


def _environment(peer: Peer, place: Stage) -> dict[str, str]:
    paths = [str(APPS)] + ([str(HERE.parent)] if peer.name == "streams" else [])
    own = {
        "PEER_URL": place.url,
        "REDIS_URL": place.url,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return os.environ | own | dict(peer.environment)


def table(rounds: list[dict[str, dict[str, Any]]]) -> str:
    """The medians as a Markdown table; ratios are ours over theirs, within one round."""
    lines = [
        "| project | drain /s | ours ÷ | worker CPU µs | server CPU µs | peak MiB | bulk publish /s | ours ÷ "
        "| concurrent publish /s | ours ÷ | one by one /s | ours ÷ |",
        "|" + " --- |" * 12,
    ]
    for peer in rounds[0]:
        cells = [peer]
        for mode in ("drain", *MODES):
            rates = [r[peer][mode]["rate"] for r in rounds]
            ratios = [
                r["streams"][mode]["rate"] / r[peer][mode]["rate"] for r in rounds
            ]
            cells += [
                f"{statistics.median(rates):,.0f}",
                f"{statistics.median(ratios):.1f}",
            ]
            if mode == "drain":
                for figure in ("cpu_us", "server_us", "peak_mib"):
                    cells.append(
                        f"{statistics.median(r[peer]['drain'][figure] for r in rounds):,.0f}"
                    )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(rounds: int, names: list[str]) -> None:
    peers = [peer for peer in PEERS if not names or peer.name in (*names, "streams")]
    for peer in peers:
        install(peer)
    measured = []
    for n in range(rounds):
        measured.append({peer.name: _reported(peer, n) for peer in peers})
    with stage() as place:
        about = {
            "date": datetime.now(UTC).date().isoformat(),
            "server": label(place),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "versions": {peer.name: list(peer.requirements) for peer in peers},
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.json").write_text(
        json.dumps({"about": about, "rounds": measured}, indent=1)
    )
    print(table(measured))


def _reported(peer: Peer, n: int) -> dict[str, Any]:
    print(f"round {n + 1}: {peer.name}", file=sys.stderr)
    return measure(peer)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:])

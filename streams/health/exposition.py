"""The metrics of several processes as one text in the format of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?(?P<rest> \S.*)"
)


def merged(texts: Mapping[str, bytes]) -> bytes:
    """Samples of the same metric stand together, as the format asks, with the process that each is of as a label."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in texts.items():
        metric = ""
        for line in text.decode("utf-8", "replace").splitlines():
            if line.startswith("# "):
                metric = line.split(" ", 3)[2]
                if line not in heads.setdefault(metric, []):
                    heads[metric].append(line)
            elif found := _SAMPLE.fullmatch(line):
                labels = f'process="{process}"' + (
                    f",{found['labels']}" if found["labels"] else ""
                )
                samples.setdefault(metric or found["name"], []).append(
                    f"{found['name']}{{{labels}}}{found['rest']}"
                )
    lines = [
        line
        for metric, rows in samples.items()
        for line in (*heads.get(metric, ()), *rows)
    ]
    return ("\n".join(lines) + "\n").encode() if lines else b""

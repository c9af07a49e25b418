"""The metrics of several processes as one text in the format of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?(?P<rest> \S.*)"
)


def merged(texts: Mapping[str, bytes]) -> bytes:
    """Merge metrics: each sample gets its process as a label.

    The samples of a metric stay together, as the format requires.
    """
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
                name, more, rest = found.groups("")
                labels = f'process="{process}"'
                if more:
                    labels += f",{more}"

                rows = samples.setdefault(metric or name, [])
                rows.append(f"{name}{{{labels}}}{rest}")

    merged_text = ""
    for metric, rows in samples.items():
        for line in (*heads.get(metric, ()), *rows):
            merged_text += f"{line}\n"

    return merged_text.encode()

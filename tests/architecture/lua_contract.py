"""The contract of the Lua scripts, checked as text: ``python -m tests.architecture.lua_contract``.

Scripts are constant, their headers say what goes in and out, and every key that they touch is in KEYS (a key built
inside a script would lie in a slot that a cluster does not check).
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "streams"
_CALL = re.compile(r"redis\.p?call\(")
_KEYLESS = {"TIME"}
_SUBCOMMAND = {"XGROUP", "XINFO"}
_KEY_PARAMETERS = {
    "key",
    "config",
    "busy_key",
    "queue_key",
    "retry_key",
    "admissions_key",
    "leases_key",
    "workers_key",
}
"""Parameters of functions in scripts that are keys."""
_FROM_KEYS = re.compile(
    r"^\s*local\s+(?P<names>[\w, ]+?)\s*=\s*(?P<value>.*\b(?:KEYS|key_of)\b.*)$",
    re.MULTILINE,
)
_PARAMETER = re.compile(r"function\s+\w+\((?P<names>[^)]*)\)")


def check_script(name: str, text: str) -> list[str]:
    """Problems of one script."""
    problems = []
    body = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    header = (
        text[: text.index(body[0])] if body and body[0] else text.split("\n\n", 1)[0]
    )
    if not name.endswith(".inc.lua"):
        problems += [
            f"{name}: the header does not say {mark}"
            for mark in ("KEYS[", "ARGV[", "Returns")
            if mark not in header
        ]
        if "KEYS[1" in header:
            problems += _undocumented_keys(name, header, "\n".join(body))
    code = "\n".join(
        line.split("--", 1)[0] if line.lstrip().startswith("--") else line
        for line in text.splitlines()
    )
    known = {"KEYS"}
    for found in _FROM_KEYS.finditer(code):
        known |= {part.strip() for part in found["names"].split(",")}
    for found in _PARAMETER.finditer(code):
        known |= {
            part.strip()
            for part in found["names"].split(",")
            if part.strip() in _KEY_PARAMETERS
        }
    for found in _CALL.finditer(code):
        arguments = _arguments(code, found.end())
        command = arguments[0].strip("'\"")
        if not re.fullmatch(r"'[A-Z]+'", arguments[0]):
            problems.append(f"{name}: the command {arguments[0]} is not a literal")
            continue
        if command in _KEYLESS:
            continue
        at = 2 if command in _SUBCOMMAND else 1
        if command == "XREADGROUP":
            at = arguments.index("'STREAMS'") + 1
        if re.split(r"[\[ .]", arguments[at])[0] not in known:
            problems.append(
                f"{name}: {command} touches {arguments[at]}, which does not come from KEYS"
            )
    return problems


def _undocumented_keys(name: str, header: str, body: str) -> list[str]:
    documented = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", header)}
    open_from = [int(n) for n in re.findall(r"KEYS\[(\d+) \.\.", header)]
    used = {int(n) for n in re.findall(r"KEYS\[(\d+)\]", body)}
    return [
        f"{name}: KEYS[{n}] is used and not in the header"
        for n in sorted(used - documented)
        if not any(n >= first for first in open_from)
    ]


def _arguments(code: str, start: int) -> list[str]:
    """The arguments of a call whose opening bracket ends at ``start``, split at the commas of its own level."""
    depth, parts, current = 1, [], ""
    for char in code[start:]:
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            break
        if char == "," and depth == 1:
            parts.append(current.strip())
            current = ""
        else:
            current += char
    return [*parts, current.strip()]


def check_python(name: str, text: str) -> list[str]:
    """Script texts are files: no EVAL, and a script's name is a literal."""
    problems = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Script":
            literal = len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
            if not literal:
                problems.append(
                    f"{name}:{node.lineno}: Script() takes the name as a literal"
                )
        if isinstance(node, ast.Constant) and node.value in ("EVAL", "EVAL_RO"):
            problems.append(
                f"{name}:{node.lineno}: EVAL sends a script's text; put it into a .lua file"
            )
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "redis.call" in node.value
        ):
            problems.append(
                f"{name}:{node.lineno}: Lua inside Python; put it into a .lua file"
            )
    return problems


def check_all() -> list[str]:
    """Every problem of the package."""
    scripts = sorted(PACKAGE.rglob("*.lua"))
    problems = [] if scripts else ["no script was found"]
    for path in scripts:
        problems += check_script(path.name, path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py")):
        problems += check_python(
            str(path.relative_to(PACKAGE)), path.read_text("utf-8")
        )
    return problems


if __name__ == "__main__":
    found = check_all()
    sys.stdout.write("\n".join(found) + "\n" if found else "Lua contracts kept\n")
    sys.exit(bool(found))

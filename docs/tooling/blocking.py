"""Writes what type checkers see of streams.sync: ``python docs/tooling/blocking.py`` after a change."""

from __future__ import annotations

import ast
import builtins
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from streams.sync.made import SOURCES, WITHOUT
from streams.sync.mirror import class_text, mirrored

STUB = Path(__file__).parents[2] / "streams" / "sync" / "made.pyi"
_HEAD = (
    '"""Made by ``python docs/tooling/blocking.py``; a test holds it to the code."""\n'
)
_TABLES = """
SOURCES: dict[type, type]
WITHOUT: dict[type, tuple[str, ...]]
"""


def stub() -> str:
    """The stub, laid out by ruff."""
    classes = [
        _class(twin, base, WITHOUT.get(twin, ())) for twin, base in SOURCES.items()
    ]
    imports = sorted({line for _, lines in classes for line in lines})
    text = "\n".join([_HEAD, *imports, _TABLES, *(body for body, _ in classes)])
    return _ruff(["format"], _ruff(["check", "--select=I", "--fix", "--quiet"], text))


def _class(twin: type, base: type, without: tuple[str, ...]) -> tuple[str, set[str]]:
    """The class as text, and the imports that it needs."""
    imports = {f"from {base.__module__} import {base.__name__}"}
    body = [_quoted(class_text(twin, base))]
    for name, member in mirrored(twin, base, without).items():
        text, needed = _member(name, member)
        body.append(text)
        imports |= needed
    inside = textwrap.indent("\n".join(body), "    ")
    return f"class {twin.__name__}({base.__name__}):\n{inside}\n", imports


def _member(name: str, member: Any) -> tuple[str, set[str]]:
    method = inspect.unwrap(member.fget if isinstance(member, property) else member)
    node = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]
    if (
        not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or not node.returns
    ):
        raise TypeError(f"{name} is no method with a result")
    result = ast.unparse(node.returns)
    if result.startswith("AsyncIterator["):
        node.returns = ast.parse(result.removeprefix("Async"), mode="eval").body
    head = "@property\n" if isinstance(member, property) else ""
    head += f"def {name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}:\n"
    needed = set(_imports(node, method))
    return head + textwrap.indent(_quoted(method.__doc__), "    "), needed


def _imports(
    node: ast.FunctionDef | ast.AsyncFunctionDef, method: Callable[..., Any]
) -> Iterator[str]:
    """Where the names of a signature come from."""
    parts: list[ast.AST] = [node.args]
    if node.returns is not None:
        parts.append(node.returns)
    own = {twin.__name__ for twin in SOURCES}
    for part in parts:
        for name in ast.walk(part):
            if not isinstance(name, ast.Name) or name.id in own:
                continue
            if name.id == "Iterator":
                yield "from collections.abc import Iterator"
            elif not hasattr(builtins, name.id):
                place = _places(method.__module__).get(name.id, method.__module__)
                yield f"from {place} import {name.id}"


@cache
def _places(module: str) -> dict[str, str]:
    """The names that a module imports, with the modules that it has them from."""
    tree = ast.parse(Path(inspect.getsourcefile(sys.modules[module]) or "").read_text())
    return {
        alias.asname or alias.name: found.module
        for found in ast.walk(tree)
        if isinstance(found, ast.ImportFrom) and found.module
        for alias in found.names
    }


def _quoted(text: str | None) -> str:
    clean = inspect.cleandoc(text or "")
    end = "\n" if "\n" in clean else ""
    return f'"""{clean}{end}"""\n'


def _ruff(command: list[str], text: str) -> str:
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(STUB), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    STUB.write_text(stub(), "utf-8")
    sys.stdout.write(f"{STUB}\n")

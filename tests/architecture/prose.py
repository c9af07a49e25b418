"""The rules of prose, checked: ``python -m tests.architecture.prose``.

It reads Markdown pages, and of the package the docstrings, the comments, the helps of
commands, and the texts of log records and raised errors. ``prose.toml`` has the rules,
``prose_bounds.toml`` the hits that are left of the time before: a number may only go
down. ``--hits PATH`` lists the hits below a path, ``--lower`` writes the smaller numbers.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((Path(__file__).parent / "prose.toml").read_text("utf-8"))
BOUNDS = Path(__file__).parent / "prose_bounds.toml"
CODE = ("streams", "examples")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs")

_LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
_NOT_PROSE = re.compile(r"#\s*(noqa|type:|pragma|fmt:|mypy:|!|-{3,})")
_FENCE = re.compile(r"^\s*(```+|~~~+)")
_SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Attributes|Example|Note)s?:$")
_ENTRY = re.compile(r"^(?:[*-]|\d+\.|``?[\w./*]+``?:|\*?\w+(?: \(.*?\))?:)\s+")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(])")
_CODE_SPAN = re.compile(r"(``+|`)(?:.+?)\1")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_START = re.compile(
    r"^[\"'(]*(?:(?:and|but|so|then|only|also) )?(who|what)\b(?! (?:to|if|else)\b)",
    re.I,
)
_CLAUSE = re.compile(
    r"(?:; |\b(?:that|because|where|when|while|if) )(who|what)\b"
    r"|\b(?:and|or|but) (who|what)\b"
    r"(?! (?:to|it|they|you|we|the|a|an|its|each|this|these|one|there)\b)"
    r"|\b(?:for|to|from|with|by) (who)\b",
    re.I,
)
_VAGUE = re.compile(rf"\b(?:{'|'.join(RULES['vague'])})\b", re.I)
PRIVATE = {
    re.compile(rf"\b(?:{pattern})\b", re.I): term
    for pattern, term in RULES["private"].items()
}


@dataclass(frozen=True)
class Passage:
    """A paragraph, a list item, a cell, a docstring's part, a comment or a message."""

    line: int
    text: str
    label: bool = False
    """A heading or a cell: it need not be a sentence, so "What is kept" may name it."""


@dataclass(frozen=True)
class Hit:
    """One place where a rule is broken."""

    file: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}"


def faults(passage: Passage) -> Iterator[str]:
    """The rules that a passage breaks, once for each place."""
    text = plain(passage.text)
    for sentence in _END.split(text):
        words = len(re.findall(r"[\w{][\w'./{}-]*", sentence))
        if words > RULES["longest_sentence"]:
            yield f"a sentence of {words} words: {sentence[:60]}..."
        if sentence.rstrip("\"') ").endswith("?"):
            continue
        sentence_like = not passage.label or sentence.rstrip().endswith(".")
        if sentence_like and (found := _START.match(sentence)):
            yield f'"{found[1]}" as the subject: {sentence[:60]}'
        for found in _CLAUSE.finditer(sentence):
            if found[2] and not sentence_like:
                continue
            yield f'"{found[0].strip()}" begins a clause: {_around(sentence, found)}'
        for found in _VAGUE.finditer(sentence):
            yield f'"{found[0]}" does not say whom it means: {_around(sentence, found)}'
    for pattern, term in PRIVATE.items():
        for found in pattern.finditer(text):
            yield f'"{found[0]}", say "{term}": {_around(text, found)}'


def plain(text: str) -> str:
    """The text without code, links' targets and marks, in one line."""
    text = _CODE_SPAN.sub("CODE", text)
    text = _LINK.sub(r"\1", text)
    text = re.sub(r"<[^>\n]+>", "", text)
    text = re.sub(r"\*\*|__|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text)
    return " ".join(text.split())


def _around(text: str, found: re.Match[str]) -> str:
    return text[max(0, found.start() - 25) : found.end() + 25].strip()


def markdown(text: str) -> Iterator[Passage]:
    """The passages of a page: no code, no comments, no front matter."""
    text = re.sub(r"<!--.*?-->", lambda c: "\n" * c[0].count("\n"), text, flags=re.S)
    lines = text.splitlines()
    parts: list[str] = []
    first, fence = 0, ""
    for at, line in enumerate([*lines, ""], 1):
        mark = _FENCE.match(line)
        stripped = line.strip()
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
            continue
        item = re.match(r"(?:[*+-]|\d+\.)\s+|!!!|\?\?\?|>\s", stripped)
        ends = not stripped or mark or item or stripped[0] in "|#" or ":::" in line
        if ends and parts:
            yield from _paragraph(first, " ".join(parts))
            parts = []
        if mark:
            fence = mark[1]
        elif stripped.startswith("|"):
            yield from _cells(at, stripped, lines)
        elif stripped.startswith("#"):
            yield Passage(at, stripped.lstrip("# "), label=True)
        elif stripped and ":::" not in line and not stripped.startswith("!!!"):
            first = first if parts else at
            parts.append(stripped[item.end() :] if item else stripped)


def _paragraph(first: int, text: str) -> Iterator[Passage]:
    """A paragraph; what begins it in bold is its label: "**What to do.** Stop it"."""
    bold = re.match(r"\*\*([^*]+?)\.?\*\*", text)
    if bold is not None:
        yield Passage(first, bold[1], label=True)
        text = text[bold.end() :]
    yield Passage(first, text)


def _cells(at: int, row: str, lines: list[str]) -> Iterator[Passage]:
    """The cells of a table's row; not of its head."""
    below = lines[at].strip() if at < len(lines) else ""
    if re.fullmatch(r"[|:\s-]+", row) or re.fullmatch(r"\|[|:\s-]*-[|:\s-]*", below):
        return
    for cell in re.split(r"(?<!\\)\|", row.strip("|")):
        yield Passage(at, cell.strip(), label=True)


def python(text: str) -> Iterator[Passage]:
    """The docstrings, comments, messages and helps of a module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield from _docstring(node.lineno, node.value.value)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from _messages(node.exc.args)
        elif isinstance(node, ast.Call):
            if getattr(node.func, "attr", "") in _LEVELS:
                yield from _messages(node.args[:1])
            helps = [word.value for word in node.keywords if word.arg == "help"]
            yield from _messages(helps)
    yield from _comments(text)


def _docstring(first: int, text: str) -> Iterator[Passage]:
    parts: list[str] = []
    start = first
    for at, line in enumerate([*text.splitlines(), ""], first):
        stripped = line.strip()
        entry = _ENTRY.match(stripped)
        code = stripped.startswith((">>>", "...", "$ "))
        if parts and (not stripped or entry or code or _SECTION.match(stripped)):
            yield Passage(start, " ".join(parts))
            parts = []
        if not stripped or code or _SECTION.match(stripped):
            continue
        start = start if parts else at
        parts.append(stripped[entry.end() :] if entry else stripped)


def _messages(values: Iterable[ast.expr]) -> Iterator[Passage]:
    for value in values:
        text = _literal(value)
        if " " in text.strip():
            yield Passage(value.lineno, text)


def _literal(value: ast.expr) -> str:
    """The text of a string, an f-string or a sum of them; "{}" where a value goes in."""
    if isinstance(value, ast.Constant):
        return value.value if isinstance(value.value, str) else ""
    if isinstance(value, ast.JoinedStr):
        return "".join(_literal(part) or "{}" for part in value.values)
    if isinstance(value, ast.BinOp):
        return _literal(value.left) + _literal(value.right)
    return ""


def _comments(text: str) -> Iterator[Passage]:
    first, parts, last = 0, [], -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or _NOT_PROSE.match(token.string):
            continue
        at = token.start[0]
        if parts and at != last + 1:
            yield Passage(first, " ".join(parts))
            parts = []
        first, last = (first if parts else at), at
        parts.append(token.string.lstrip("# "))
    if parts:
        yield Passage(first, " ".join(parts))


def lua(text: str) -> Iterator[Passage]:
    """The comments of a script, without the entries of its contract."""
    parts: list[str] = []
    first = 0
    for at, line in enumerate([*text.splitlines(), ""], 1):
        comment = re.match(r"\s*--\s?(.*)", line)
        body = comment[1].strip() if comment else ""
        entry = re.match(r"(?:KEYS|ARGV)\[.*?\]\s+|Returns\s+", body)
        if parts and (not body or entry):
            yield Passage(first, " ".join(parts))
            parts = []
        if body:
            first = first if parts else at
            parts.append(body[entry.end() :] if entry else body)


def hits(root: Path = ROOT) -> list[Hit]:
    """Every hit of the project, in the order of its files."""
    found = []
    for path in files(root):
        read = {".md": markdown, ".py": python, ".lua": lua}[path.suffix]
        name = path.relative_to(root).as_posix()
        for passage in read(path.read_text("utf-8")):
            found += [Hit(name, passage.line, rule) for rule in faults(passage)]
    return found


def files(root: Path) -> Iterator[Path]:
    """What is checked: pages, modules and scripts."""
    skipped = {root / name for name in RULES["skipped"]}
    for place in PAGES:
        path = root / place
        found = [path] if path.is_file() else sorted(path.rglob("*.md"))
        yield from (page for page in found if page not in skipped)
    for place in CODE:
        yield from sorted((root / place).rglob("*.py"))
        yield from sorted((root / place).rglob("*.lua"))


def part_of(file: str) -> str:
    """Where a hit counts: a page by itself, a module in its package (modules move)."""
    if file.endswith(".md"):
        return file
    return "/".join(file.split("/")[:-1][:2])


def counts(found: Iterable[Hit]) -> Counter[str]:
    """Hits by page and by package."""
    return Counter(part_of(hit.file) for hit in found)


def bounds() -> dict[str, int]:
    """The hits that are allowed still."""
    return tomllib.loads(BOUNDS.read_text("utf-8"))["hits"]


def write(numbers: dict[str, int]) -> None:
    """Write the bounds; a part without hits has no line."""
    head = "# Hits that are left, by page and by package. Numbers only go down:\n"
    head += "# python -m tests.architecture.prose --lower\n\n[hits]\n"
    rows = [f'"{part}" = {numbers[part]}\n' for part in sorted(numbers)]
    BOUNDS.write_text(head + "".join(rows), "utf-8")


def main() -> int:
    """Compare with the bounds; 1 if a part has more hits than it may."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hits", metavar="PATH", help="list the hits below a path")
    options.add_argument("--lower", action="store_true", help="lower the bounds")
    chosen = options.parse_args()
    found = hits()
    if chosen.hits is not None:
        listed = [hit for hit in found if hit.file.startswith(chosen.hits)]
        sys.stdout.writelines(f"{hit}\n" for hit in listed)
        sys.stdout.write(f"{len(listed)} hits\n")
        return 0
    now, allowed = counts(found), bounds()
    worse = {part for part in now if now[part] > allowed.get(part, 0)}
    for hit in found:
        if part_of(hit.file) in worse:
            sys.stdout.write(f"{hit}\n")
    for part in sorted(worse):
        sys.stdout.write(f"{part}: {now[part]} hits, {allowed.get(part, 0)} allowed\n")
    lower = {part for part in allowed if now[part] < allowed[part]}
    if chosen.lower and lower:
        left = {part: min(now[part], allowed[part]) for part in allowed if now[part]}
        write(left)
    elif lower:
        sys.stdout.write(f"{len(lower)} parts have fewer hits now: --lower\n")
    sys.stdout.write(f"prose: {len(found)} hits, {sum(allowed.values())} allowed\n")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())

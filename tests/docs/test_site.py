"""What holds for the pages without building them: links and anchors, the navigation, the reference, the picture."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import streams
from tests.docs.blocks import ROOT, pages

REFERENCE = "\n".join(
    path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")
)
_LINK = re.compile(r"\]\((?P<target>[^)\s]*)\)")


def prose(path: Path) -> str:
    """A page without its blocks and its code."""
    text = re.sub(
        r"^(\s*)(```+|~~~+).*?^\1\2\s*$",
        "",
        path.read_text("utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[^\w]", " ", code[0]), text)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and the site make them."""
    found = re.findall(r"^#+ +(.+?)\s*$", path.read_text("utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found
    }


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in _LINK.finditer(prose(page)):
        target, _, anchor = link["target"].partition("#")
        file = (page.parent / target).resolve() if target else page
        if "://" in target or target.startswith("mailto:"):
            continue
        if not file.exists() or (
            anchor and file.suffix == ".md" and anchor not in anchors(file)
        ):
            wrong.append(link["target"])
    return wrong


@pytest.mark.parametrize(
    "page",
    [
        *pages(),
        *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    ],
    ids=lambda path: path.name,
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n\n[a](#one-two) [b](#three) [c](none.md) [d](page.md#one-two) `[e](x.md)` [f](https://x)\n"
    )
    assert broken(page) == ["#three", "none.md"]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    missing = [
        page
        for path in (ROOT / "docs").rglob("*.md")
        if (page := path.relative_to(ROOT / "docs").as_posix()) not in navigation
        and not page.startswith("adr/")
    ]
    assert missing == [], "add them to the navigation in mkdocs.yml"


def test_every_public_name_is_in_the_reference() -> None:
    missing = [
        name
        for name in streams.__all__
        if not re.search(rf"^::: streams(?:\.\w+)*\.{name}$", REFERENCE, re.MULTILINE)
        and not hasattr(streams.errors, name)
    ]
    assert missing == [], "add them to a page in docs/reference"


def test_the_picture_of_the_states_is_what_its_script_draws() -> None:
    script = ROOT / "docs" / "tooling" / "states.py"
    spec = importlib.util.spec_from_file_location("states", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text("utf-8") == module.draw(), (
        f"run python {script.relative_to(ROOT)}"
    )


def test_each_change_that_a_deployment_may_make_has_tests() -> None:
    text = (
        (ROOT / "docs" / "workers.md")
        .read_text("utf-8")
        .split("## What may change in a rolling deployment")[1]
    )
    there = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    rows = [
        line.split("|")[1:-1]
        for line in text.split("\n## ")[0].splitlines()
        if line.startswith("| ")
    ][2:]
    assert len(rows) > 10
    for what, how, _, tests in rows:
        named = re.findall(r"`(test_\w+)`", tests)
        assert named or how.strip().startswith("stop first"), what
        for name in named:
            assert f"def {name}(" in there, f"{what} names {name}"


def test_the_tests_that_pages_name_exist() -> None:
    there = set(
        re.findall(
            r"def (test_\w+)",
            "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")),
        )
    )
    for path in pages():
        for name in re.findall(r"\btest_\w+(?=,| -->)", path.read_text("utf-8")):
            assert name in there, f"{path.name} names {name}"


@pytest.mark.parametrize(
    "page",
    [
        *(path for path in pages() if path.parent.name != "adr"),
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ],
    ids=lambda path: path.name,
)
def test_the_files_that_pages_name_exist(page: Path) -> None:
    """Decisions may name files of their day."""
    named = re.findall(
        r"`((?:streams|tests|benchmarks|docs|deploy|examples)/[\w./-]+)`",
        page.read_text("utf-8"),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []

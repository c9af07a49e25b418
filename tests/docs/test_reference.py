"""The tables of options say what the code says, and what the pages have installed can be installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "tooling"))

import reference

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_INSTALL = re.compile(r"pip install (?P<what>[^\n`]+)")
_WORD = re.compile(r"""'([^']*)'|"([^"]*)"|(\S+)""")


def installs() -> list[tuple[str, str]]:
    """Page and requirement of everything that a page has installed with pip."""
    found = []
    for page in PAGES:
        for line in _INSTALL.finditer(page.read_text("utf-8")):
            words = [
                "".join(word)
                for word in _WORD.findall(line["what"].split("#")[0].split(" && ")[0])
            ]
            found += [
                (page.name, word.rstrip(")"))
                for word in words
                if not word.startswith("-")
            ]
    return found


def test_the_tables_of_options_are_those_of_the_code():
    assert reference.PAGE.read_text("utf-8") == reference.page(), (
        "run: python docs/tooling/reference.py"
    )


@pytest.mark.parametrize(
    "row", list(reference._sections()), ids=lambda section: section[0]
)
def test_every_option_is_explained(row):
    title, rows = row
    assert rows, title
    assert [option.name for option in rows if not option.meaning] == []


def test_what_pages_install_can_be_installed():
    """``.`` is this clone; what is called ``streams`` adds an extra to an environment that has the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = installs()
    assert found
    wanted = []
    for page, what in found:
        path, bracket, extras = what.partition("[")
        text = f"streams{bracket}{extras}" if path == "." else what
        requirement = Requirement(text)
        assert requirement.name == project["name"], (page, what)
        assert requirement.extras <= set(project["optional-dependencies"]), (page, what)
        wanted.append(text)
    assert (ROOT / "pyproject.toml").is_file()
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--no-index",
        "--quiet",
        *set(wanted),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=Path("/")
    )
    assert done.returncode == 0, done.stderr

"""The page on the architecture says what the packages are, and its picture is that of the imports."""

from __future__ import annotations

import importlib
import re
import sys

import pytest

from tests.docs.blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "tooling"))

import architecture

TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
_WAY, _WHAT = TEXT.split("## The way of one event")[1].split("## What is where")
STEPS = re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.[A-Z]\w+\.\w+|[a-z_]+\.[a-z_.]+)`", _WAY)
SCRIPTS = re.findall(r"`(\w+\.lua)`", _WAY)


@pytest.fixture(scope="module")
def graph():
    """Which package imports which: of all modules, read once."""
    return architecture.imports()


def test_the_picture_is_that_of_the_imports(graph):
    assert architecture.PICTURE.read_text("utf-8") == architecture.draw(graph), (
        "run: python docs/tooling/architecture.py"
    )


def test_no_packages_import_one_another_in_a_circle(graph):
    heights = architecture.levels(graph)
    assert len(heights) > 20
    assert all(
        heights[name] > heights[other] for name in graph for other in graph[name]
    )


def test_a_circle_is_named():
    with pytest.raises(ValueError, match="a -> b -> a"):
        architecture.levels({"a": {"b"}, "b": {"a"}})


def test_each_package_has_a_paragraph_of_three_sentences():
    folders = {path.parent.name for path in (ROOT / "streams").glob("*/__init__.py")}
    paragraphs = dict(re.findall(r"### (\w+)\n\n(.+?)\n\n", _WHAT, re.DOTALL))
    assert folders - set(paragraphs) == set()
    assert set(paragraphs) - folders == set()
    for name, text in paragraphs.items():
        sentences = re.findall(r"[^.]\.(?=\s|$)", text)
        assert len(sentences) == 3, name


def test_each_package_is_explained(graph):
    rooms = set(graph)
    told = set(re.findall(r"`([a-z]+)`|^### (\w+)", _WHAT, re.MULTILINE))
    told = {name for names in told for name in names}
    assert rooms - told == set()


@pytest.mark.parametrize("step", [step for step in STEPS if not step.endswith(".lua")])
def test_each_step_of_an_event_is_where_the_page_says(step):
    found = re.fullmatch(
        r"(?P<module>[a-z_.]+?)(?:\.(?P<kind>[A-Z]\w+))?\.(?P<name>\w+)", step
    )
    assert found is not None
    place = importlib.import_module(f"streams.{found['module']}")
    assert callable(
        getattr(
            getattr(place, found["kind"]) if found["kind"] else place, found["name"]
        )
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_of_an_event_is_there(script):
    assert len(list((ROOT / "streams" / "broker").rglob(script))) == 1

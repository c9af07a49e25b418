"""Whatever can be asked of the asynchronous classes can be asked of the blocking ones, in the same words."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import streams
from streams import sync
from streams.testing import BlockingHarness, Harness

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "tooling"))
import blocking as tooling

MISSING = {
    (
        "Pipeline",
        "broker",
    ): "its connections belong to the portal's event loop; `portal` leads there",
    ("Pipeline", "service"): "a worker runs `asynchronous`",
    (
        "Pipeline",
        "records",
    ): "what an application keeps for itself, inside its handlers",
    ("Pipeline", "is_open"): "it opens by itself",
    (
        "Producer",
        "store",
    ): "for the partitions of a stream; the asynchronous one leads there",
    ("Producer", "store_all"): "as store",
    ("Producer", "reach"): "as store",
    (
        "Pipeline",
        "twin",
    ): "for another event loop; a blocking pipeline is used by any thread as it is",
}
"""What the blocking form does without, each with the reason."""
MADE_BY_THE_PIPELINE = {
    "Cancellations",
    "DeadLetters",
    "Groups",
    "Limits",
    "OrderedKeys",
    "Pauses",
    "Producer",
    "Status",
    "Tracking",
}
"""Classes whose constructor takes the portal instead of the broker."""


def public(kind: type) -> dict[str, Any]:
    """The public members that are declared in the class or its bases."""
    members = {}
    for base in reversed(kind.__mro__[:-1]):
        members |= {
            name: value
            for name, value in vars(base).items()
            if not name.startswith("_")
        }
    return members


def function(member: Any) -> Callable[..., Any] | None:
    """The function behind a method, class method or property; None for anything else."""
    if isinstance(member, (classmethod, staticmethod)):
        return member.__func__
    if isinstance(member, property):
        return member.fget
    return member if inspect.isfunction(member) else None


def blocking(annotation: Any) -> str:
    """How the blocking form spells an annotation."""
    text = (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
    )
    text = re.sub(r" \| AsyncIterable\[[^\[\]]*\]", "", text)
    text = re.sub(r"^Coroutine\[Any, Any, (.*)\]$", r"\1", text)
    return text.replace("AsyncIterator", "Iterator").replace(
        "AsyncGenerator", "Generator"
    )


def shape(method: Callable[..., Any]) -> list[tuple[str, str, Any, str]]:
    """Names, kinds, defaults and annotations of the parameters, and the result, in blocking words."""
    signature = inspect.signature(method)
    rows = [
        (p.name, p.kind.name, p.default, blocking(p.annotation))
        for p in signature.parameters.values()
    ]
    return [*rows, ("return", "", None, blocking(signature.return_annotation))]


def differences(asynchronous: type, twin: type) -> list[str]:
    """What is missing in the blocking class, or has another signature."""
    found = []
    for name, member in public(asynchronous).items():
        place = f"{asynchronous.__name__}.{name}"
        wanted, given = (
            function(member),
            function(inspect.getattr_static(twin, name, None)),
        )
        if wanted is None or (asynchronous.__name__, name) in MISSING:
            continue
        if given is None:
            found.append(f"streams.sync has no {place}")
        elif isinstance(member, property) != isinstance(
            inspect.getattr_static(twin, name), property
        ):
            found.append(f"{place} is a property in one form only")
        elif shape(wanted) != shape(given):
            found.append(f"{place}: {shape(given)} is not {shape(wanted)}")
        elif inspect.iscoroutinefunction(given) or inspect.isasyncgenfunction(given):
            found.append(f"streams.sync's {place} does not block")
    if asynchronous.__name__ not in MADE_BY_THE_PIPELINE and shape(
        asynchronous.__init__
    ) != shape(twin.__init__):
        found.append(
            f"{asynchronous.__name__}(): {shape(twin.__init__)} is not {shape(asynchronous.__init__)}"
        )
    return found


def awaits(kind: type) -> bool:
    """Whether a class has anything to await."""
    methods = [function(member) for member in public(kind).values()]
    return any(
        inspect.iscoroutinefunction(m) or inspect.isasyncgenfunction(m)
        for m in methods
        if m
    )


def reachable(kind: type, found: dict[str, type] | None = None) -> dict[str, type]:
    """The class, and every class of this package with something to await that its methods hand out."""
    found = {} if found is None else found
    found[kind.__name__] = kind
    for name, member in public(kind).items():
        method = function(member)
        if method is None or (kind.__name__, name) in MISSING:
            continue
        for word in re.findall(
            r"[A-Za-z_]\w*", str(inspect.signature(method).return_annotation)
        ):
            given = method.__globals__.get(word)
            ours = inspect.isclass(given) and given.__module__.startswith("streams.")
            if ours and awaits(given) and given.__name__ not in found:
                reachable(given, found)
    return found


CLASSES = reachable(streams.Pipeline)


def test_what_is_reachable_is_found():
    assert set(CLASSES) >= {"Pipeline", "Producer", "DeadLetters", "Status"}
    assert set(CLASSES) == set(sync.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_the_blocking_class_has_it_all(name):
    assert differences(CLASSES[name], getattr(sync, name)) == []


@pytest.mark.parametrize("name", CLASSES)
def test_the_blocking_class_reads_like_the_other(name):
    """Attributes that are no methods, as far as the docstring or the constructor names them."""
    for attribute in ("stream", "group", "settings"):
        text = inspect.getsource(CLASSES[name])
        if f"self.{attribute} =" in text and not attribute.startswith("_"):
            kinds = getattr(sync, name).__mro__[1:-1]
            twin = "".join(map(inspect.getsource, kinds))
            assert f"self.{attribute} =" in twin or f"def {attribute}(" in twin


HARNESS_ONLY = {"bind", "unbind", "open", "close"}
"""Steps of ``async with``, which the blocking harness takes one by one."""


def test_the_blocking_harness_has_it_all():
    found = differences(Harness, BlockingHarness)
    assert [
        line
        for line in found
        if line.rpartition(".")[2] not in HARNESS_ONLY and "Harness():" not in line
    ] == []


def test_nothing_is_excused_that_is_not_there():
    assert all(name in public(getattr(streams, kind)) for kind, name in MISSING)


def test_the_comparison_sees_what_it_is_for():
    class Wanted:
        async def one(self, a: int, *, b: str = "") -> list[str]: ...

        async def two(self) -> AsyncIterator[int]: ...

        @property
        def three(self) -> int: ...

    class Given:
        def one(self, a: int) -> list[str]: ...

        def three(self) -> int: ...

    text = " ".join(differences(Wanted, Given))
    assert "Wanted.one: " in text
    assert "no Wanted.two" in text
    assert "Wanted.three is a property in one form only" in text


def test_the_stub_is_that_of_the_code():
    assert tooling.STUB.read_text("utf-8") == tooling.stub(), (
        "run: python docs/tooling/blocking.py"
    )


def test_help_shows_signature_and_text_of_the_asynchronous_method():
    letters = sync.DeadLetters
    assert str(inspect.signature(letters.iterate)) == (
        "(self, where: 'Filter | None' = None, *, after: 'str' = '')"
        " -> 'Iterator[DeadLetter]'"
    )
    assert letters.iterate.__doc__ == streams.DeadLetters.iterate.__doc__
    assert letters.__module__ == letters.replay.__module__ == "streams.sync"
    assert letters.replay.__qualname__ == "DeadLetters.replay"

"""The numbers about the shape of the package count the code that they are for."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.gates import Module, above, gates, large, read


def module(text: str, name: str = "streams/a.py") -> Module:
    return Module(name, text, ast.parse(text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("long_lines", f"# {'x' * 99}\n"),
        ("many_arguments", "def f():  # noqa: PLR0913\n    pass\n"),
        ("unformatted", "x = 1  # fmt: skip\n"),
        ("dense_files", "def f(x):\n    return x[0][1][2][3]\n"),
    ],
)
def test_a_number_goes_up_with_what_it_counts(name, text):
    assert gates([module("x = 1\n")])[name].value == 0
    found = gates([module(text)])[name]
    assert found.value == 1
    assert "streams/a.py" in found.places[0]


def test_a_name_counts_once_whatever_mirrors_it():
    one, other = module("class A: ...\n"), module("class A: ...\n", "streams/b.py")
    mirror = module("class A: ...\n", "streams/sync/a.py")
    assert gates([one, other])["same_class_names"].value == 1
    assert gates([one, mirror])["same_class_names"].value == 0


def test_a_docstring_is_no_line_of_a_body():
    text = 'def f():\n    """Long.\n\n    And longer.\n    """\n    return 1\n'
    assert module(text).bodies() == (2, 1)


def test_a_large_file_is_a_warning():
    package = [module("x = 1\n" * 501)]
    assert list(large(package)) == ["streams/a.py has 501 lines"]
    assert above(gates(package), dict.fromkeys(gates(package), 0)) == []


def test_each_number_has_a_bound():
    assert set(read()) == set(gates([]))

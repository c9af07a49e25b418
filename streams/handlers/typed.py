"""``Event[T]``: the type of the body in a handler's annotation.

The type is resolved once, when the handler is declared. JSON's own types (``dict``,
``list``, ``str``, and ``bytes`` of other media types) are checked with ``isinstance``. All
others are validated by pydantic, which is imported with the first such handler.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import orjson

from streams.errors import ConfigurationError, InvalidData
from streams.events.codec import is_json
from streams.events.event import Event

_ERRORS_SHOWN = 5
_LEAVES = 10_000
_BARE_EVENT = re.compile(r"(?:\w+\.)*Event")
_JSON_KINDS = {
    dict: dict,
    dict[str, Any]: dict,
    dict[str, object]: dict,
    list: list,
    list[Any]: list,
    list[object]: list,
    str: str,
    bytes: bytes,
}
_QUOTING = frozenset(
    {
        "value_error",
        "assertion_error",
        "union_tag_invalid",
        "get_attribute_error",
        "iteration_error",
    }
)
"""Error types of pydantic whose message may quote the validated value."""


class Body(Protocol):
    """The declared body of a typed handler."""

    def read(self, event: Event[Any]) -> Any:
        """The body of a received event in the declared type.

        Raises:
            InvalidData: the body does not fit; the message contains no value of it.
        """

    def convert(self, data: Any, event: Event[Any]) -> Any:
        """The same for data that upcasters have changed."""


class _JsonBody:
    """A body of one of JSON's own types, or bytes."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def read(self, event: Event[Any]) -> Any:
        return self.convert(event.data, event)

    def convert(self, data: Any, event: Event[Any]) -> Any:
        if not isinstance(data, self._kind):
            raise InvalidData(
                f"the body is of type {type(data).__name__}, "
                f"the handler takes {self._kind.__name__}"
            )

        return data


class _ValidatedBody:
    """A body that pydantic validates, with the rules of its JSON mode."""

    def __init__(self, kind: Any, handler: str) -> None:
        try:
            import pydantic
            from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
            from pydantic_core import core_schema
        except ModuleNotFoundError as error:
            if error.name not in ("pydantic", "pydantic_core"):
                raise

            raise ConfigurationError(
                f"handler {handler} takes Event[{_name(kind)}], "
                "which pydantic validates, and it is not installed: "
                "pip install 'streams[pydantic]', or annotate the parameter as Event"
            ) from None

        try:
            adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
            if not adapter.pydantic_complete:
                adapter.rebuild(force=True, raise_errors=True)
        except PydanticUndefinedAnnotation as error:
            raise _unresolved(handler, str(error.name)) from None
        except PydanticUserError as error:
            # The other lines are a link to pydantic's manual.
            first = str(error).splitlines()[0]
            raise ConfigurationError(
                f"handler {handler} takes Event[{_name(kind)}], "
                f"which cannot be validated: {first} "
                "Use a dataclass, a TypedDict or a pydantic model"
            ) from None

        self._adapter = adapter
        self._error = pydantic.ValidationError
        self._known = frozenset(get_args(core_schema.ErrorType)) - _QUOTING
        self._names: frozenset[str] | None = None

    def read(self, event: Event[Any]) -> Any:
        if is_json(event.meta.get("datacontenttype")):
            return self._checked(self._adapter.validate_json, event.raw, event.data)
        return self._checked(self._adapter.validate_python, event.data, event.data)

    def convert(self, data: Any, event: Event[Any]) -> Any:
        if isinstance(data, bytes):
            return self._checked(self._adapter.validate_python, data, data)

        try:
            # As JSON again, so that the same rules apply as for a stored body.
            text = orjson.dumps(data)
        except TypeError as error:
            raise InvalidData(
                f"the upcasters' result cannot be written as JSON: {error}"
            ) from None

        return self._checked(self._adapter.validate_json, text, data)

    def _checked(self, validate: Callable[[Any], Any], given: Any, data: Any) -> Any:
        try:
            return validate(given)
        except self._error as error:
            problem = self._explain(error, data)
        except Exception as error:  # noqa: BLE001 - a user's validator may raise anything
            kind = type(error).__name__
            problem = InvalidData(f"the body does not fit: a validator raised {kind}")

        # Outside of the except clause, so that its context does not hold the body.
        raise problem

    def _explain(self, error: Any, data: Any) -> InvalidData:
        """The validation error without values: the fields, the rules and their names."""
        if self._names is None:
            self._names = frozenset(_field_names(self._adapter.core_schema))

        # A key that is not a field's name is text of the publisher, like a value.
        hidden = set(_leaves(data, keys=True)) - self._names
        found = error.errors(include_url=False, include_context=False)
        texts = []
        for row in found[:_ERRORS_SHOWN]:
            text = row["msg"]
            if row["type"] not in self._known:
                text = _without(text, _leaves(data))

            path = ["*" if part in hidden else str(part) for part in row["loc"]]
            if path:
                text = f"{'.'.join(path)}: {text}"

            texts.append(f"{text} ({row['type']})")

        if len(found) > _ERRORS_SHOWN:
            texts.append(f"and {len(found) - _ERRORS_SHOWN} more")

        return InvalidData(f"the body does not fit: {'; '.join(texts)}")


def body_of(function: Callable[..., Any]) -> Body | None:
    """The declared body of a handler; None if its annotation does not restrict it.

    Raises:
        ConfigurationError: the annotation cannot be resolved or validated, or pydantic is
            needed and not installed.
    """
    kind = _data_type(function)
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return None

    try:
        plain = _JSON_KINDS.get(kind)
    except TypeError:
        plain = None

    if plain is not None:
        return _JsonBody(plain)
    return _ValidatedBody(kind, _name(function))


def _data_type(function: Callable[..., Any]) -> Any:
    """T of ``Event[T]``; Any if the annotation does not restrict the body."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Any

    positional = [p for p in parameters if p.kind <= p.VAR_POSITIONAL]
    if not positional or positional[0].annotation is inspect.Parameter.empty:
        return Any

    annotation = _plain(_resolved(positional[0].annotation, function))
    origin = get_origin(annotation)
    if origin is Event:
        return get_args(annotation)[0]

    handler = _name(function)
    parts = get_args(annotation) if origin in (Union, UnionType) else ()
    if any(get_origin(part) is Event for part in parts):
        raise ConfigurationError(
            f"handler {handler} takes {annotation}: a handler takes one Event; "
            "write Event[A | B] for bodies of several types"
        )

    kind = origin or annotation
    if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event:
        raise ConfigurationError(
            f"handler {handler} takes {kind.__name__}: "
            "it is given an Event, not one of its subclasses; "
            "annotate the parameter as Event[...]"
        )

    if _is_other(annotation, kind):
        body = annotation.__name__ if inspect.isclass(annotation) else annotation
        raise ConfigurationError(
            f"handler {handler} takes {body}: "
            "a handler is given an Event, whose body is event.data; "
            f"annotate the parameter as Event[{body}]"
        )

    return Any


def _plain(annotation: Any) -> Any:
    """An annotation without ``Annotated`` and the aliases of ``type`` statements."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):
            annotation = annotation.__value__
        else:
            return annotation


def _is_other(annotation: Any, kind: Any) -> bool:
    """Whether an annotation excludes an event."""
    if annotation in (Any, None) or isinstance(annotation, TypeVar):
        return False
    if kind in (Union, UnionType):
        return not any(part in (Any, Event, object) for part in get_args(annotation))
    if not inspect.isclass(kind) or kind in Event.__mro__:
        return False
    # An event may fit a protocol.
    return not getattr(kind, "_is_protocol", False)


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation with its texts and forward references evaluated."""
    inner = _written(function)
    names: dict[str, Any] = dict(getattr(inner, "__globals__", {}))
    if inspect.isfunction(inner):
        cells = inner.__closure__ or ()
        for name, cell in zip(inner.__code__.co_freevars, cells, strict=True):
            with contextlib.suppress(ValueError):  # Assigned below the handler.
                names[name] = cell.cell_contents

    carrier = SimpleNamespace(__annotations__={"of": annotation})
    try:
        return get_type_hints(carrier, names, include_extras=True)["of"]
    except NameError as error:
        if isinstance(annotation, str) and _BARE_EVENT.fullmatch(annotation):
            # The name is imported for type checkers only, and is enough.
            return Event

        raise _unresolved(_name(function), str(error.name)) from None
    except Exception as error:  # noqa: BLE001 - a user's annotation may raise anything
        raise ConfigurationError(
            f"handler {_name(function)}: its annotation {annotation} "
            f"cannot be evaluated: {type(error).__name__}: {error}"
        ) from None


def _written(function: Any) -> Any:
    """A function inside partials, methods, decorators and callable objects."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif (
            inspect.isroutine(function)
            or inspect.isclass(function)
            or not callable(function)
        ):
            return function
        else:
            function = type(function).__call__
            if not inspect.isfunction(function):
                return function


def _unresolved(handler: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"handler {handler}: the annotation of its parameter names {name!r}, "
        "which is not known where the handler is declared: "
        f"define or import {name} at the top of the module, above the handler "
        "(not inside a function, and not under 'if TYPE_CHECKING'), "
        "or annotate the parameter as Event"
    )


def _name(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or thing)


def _field_names(schema: Any) -> Iterator[str]:
    """Every field name of a core schema, with aliases."""
    rest = [schema]
    seen: set[int] = set()
    while rest:
        node = rest.pop()
        if id(node) in seen:
            continue

        seen.add(id(node))
        if isinstance(node, dict):
            fields = node.get("fields")
            if isinstance(fields, dict):
                yield from fields

            for name in ("name", "alias", "validation_alias"):
                yield from _texts(node.get(name))

            rest.extend(node.values())
        elif isinstance(node, (list, tuple)):
            rest.extend(node)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _leaves(data: Any, *, keys: bool = False) -> Iterator[Any]:
    """The scalars, or the keys, in a JSON value; the first ones if it is very large."""
    rest = [data]
    for _ in range(_LEAVES):
        if not rest:
            return

        value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.values())
            if keys:
                yield from value
        elif isinstance(value, list):
            rest.extend(value)
        elif not keys and value is not None and not isinstance(value, bool):
            yield value


def _without(text: str, values: Iterator[Any]) -> str:
    """A validator's own message without the values that it quotes."""
    for value in values:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")

        quoted = re.escape(str(value).strip())
        if quoted:
            whole = rf"(?<!\w){quoted}(?!\w)"
            text = re.sub(whole, "***", text, flags=re.IGNORECASE)

    return text

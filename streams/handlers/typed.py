"""``Event[T]``: what a handler's annotation says about the body, found once when the handler is declared.

Everything that JSON has by itself (``dict``, ``list``, ``str``, and ``bytes`` of other media types) is checked with
``isinstance``. All else is validated by pydantic, which is imported when the first such handler is declared.
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
"""Error types of pydantic whose message may quote what was validated."""


class Body(Protocol):
    """What a typed handler takes."""

    def read(self, event: Event[Any]) -> Any:
        """The body of a received event in the declared type.

        Raises:
            InvalidData: it does not fit; the message has no value of the body.
        """

    def convert(self, data: Any, event: Event[Any]) -> Any:
        """As ``read``, for data that is no longer what is stored (upcasters changed it)."""


class _JsonBody:
    """A body that is one of JSON's own types, or bytes."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def read(self, event: Event[Any]) -> Any:
        return self.convert(event.data, event)

    def convert(self, data: Any, event: Event[Any]) -> Any:
        if not isinstance(data, self._kind):
            raise InvalidData(
                f"the body is of type {type(data).__name__}, the handler takes {self._kind.__name__}"
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
                f"handler {handler} takes Event[{_name(kind)}], which pydantic validates, and it is not installed: "
                "pip install 'streams[pydantic]', or annotate the parameter as Event"
            ) from None
        try:
            adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
            if not adapter.pydantic_complete:
                adapter.rebuild(force=True, raise_errors=True)
        except PydanticUndefinedAnnotation as error:
            raise _unresolved(handler, str(error.name)) from None
        except PydanticUserError as error:
            # Only the first line: the rest is a link into another project's manual.
            raise ConfigurationError(
                f"handler {handler} takes Event[{_name(kind)}], which cannot be validated: "
                f"{str(error).splitlines()[0]} Use a dataclass, a TypedDict or a pydantic model"
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
            # Written and read again: an upcaster's result is judged by the same rules as a body from the stream.
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
        except Exception as error:  # noqa: BLE001 - a validator of somebody else; it will fail the same way again
            problem = InvalidData(
                f"the body does not fit: a validator raised {type(error).__name__}"
            )
        # Outside of the except clause: the first error holds the body, and would hang on this one.
        raise problem

    def _explain(self, error: Any, data: Any) -> InvalidData:
        """The validation error without the values: where, what, and the error's type."""
        if self._names is None:
            self._names = frozenset(_field_names(self._adapter.core_schema))
        keys = {
            key for key in _leaves(data, keys=True) if isinstance(key, str)
        } - self._names
        found = error.errors(include_url=False, include_context=False)
        texts = []
        for row in found[:_ERRORS_SHOWN]:
            # A key that no field has is the publisher's text, as a value is.
            where = ".".join("*" if part in keys else str(part) for part in row["loc"])
            what = row["msg"]
            if row["type"] not in self._known:
                what = _without(what, _leaves(data))
            texts.append(
                f"{where}: {what} ({row['type']})"
                if where
                else f"{what} ({row['type']})"
            )
        more = (
            f"; and {len(found) - _ERRORS_SHOWN} more"
            if len(found) > _ERRORS_SHOWN
            else ""
        )
        return InvalidData(f"the body does not fit: {'; '.join(texts)}{more}")


def body_of(function: Callable[..., Any]) -> Body | None:
    """What a handler's parameter is annotated with, if that says anything about the body.

    Raises:
        ConfigurationError: the annotation cannot be resolved or validated, or pydantic is needed and not installed.
    """
    kind = _data_type(function)
    if kind is Any or kind is object or isinstance(kind, TypeVar):
        return None
    try:
        plain = _JSON_KINDS.get(kind)
    except TypeError:
        plain = None
    return (
        _JsonBody(plain) if plain is not None else _ValidatedBody(kind, _name(function))
    )


def _data_type(function: Callable[..., Any]) -> Any:
    """T of ``Event[T]``; Any where nothing is said."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Any
    first = next(
        (p for p in parameters if p.kind <= inspect.Parameter.VAR_POSITIONAL), None
    )
    if first is None or first.annotation is inspect.Parameter.empty:
        return Any
    annotation = _resolved(first.annotation, function)
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__value__"):  # An alias of the ``type`` statement.
            annotation = annotation.__value__
        else:
            break
    origin = get_origin(annotation)
    if origin is Event:
        return get_args(annotation)[0]
    if origin in (Union, UnionType) and any(
        get_origin(part) is Event for part in get_args(annotation)
    ):
        raise ConfigurationError(
            f"handler {_name(function)} takes {annotation}: a handler takes one Event; "
            "write Event[A | B] for bodies of several types"
        )
    kind = origin or annotation
    if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event:
        raise ConfigurationError(
            f"handler {_name(function)} takes {kind.__name__}: it is given an Event, not one of its subclasses; "
            "annotate the parameter as Event[...]"
        )
    if _is_other(annotation, kind):
        body = annotation.__name__ if inspect.isclass(annotation) else annotation
        raise ConfigurationError(
            f"handler {_name(function)} takes {body}: a handler is given an Event, whose body is event.data; "
            f"annotate the parameter as Event[{body}]"
        )
    return Any


def _is_other(annotation: Any, kind: Any) -> bool:
    """Whether an annotation says that something else than an event is taken."""
    if annotation in (Any, None) or isinstance(annotation, TypeVar):
        return False
    if kind in (Union, UnionType):
        return not any(part in (Any, Event, object) for part in get_args(annotation))
    # A protocol, or a class above it, may be what an event is.
    return (
        inspect.isclass(kind)
        and not getattr(kind, "_is_protocol", False)
        and kind not in Event.__mro__
    )


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation with its texts and forward references evaluated where the function was written."""
    inner = _written(function)
    names: dict[str, Any] = dict(getattr(inner, "__globals__", {}))
    if inspect.isfunction(inner):
        for name, cell in zip(
            inner.__code__.co_freevars, inner.__closure__ or (), strict=True
        ):
            with contextlib.suppress(ValueError):  # Assigned below the handler.
                names[name] = cell.cell_contents
    carrier = SimpleNamespace(__annotations__={"of": annotation})
    try:
        return get_type_hints(carrier, names, include_extras=True)["of"]
    except NameError as error:
        if isinstance(annotation, str) and _BARE_EVENT.fullmatch(annotation):
            # Imported for the type checker only, and nothing is said about the body.
            return Event
        raise _unresolved(_name(function), str(error.name)) from None
    except Exception as error:  # noqa: BLE001 - evaluating somebody's annotation may raise anything
        raise ConfigurationError(
            f"handler {_name(function)}: its annotation {annotation} cannot be evaluated: "
            f"{type(error).__name__}: {error}"
        ) from None


def _written(function: Any) -> Any:
    """The function that was written, inside partials, methods, decorators and callable objects."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif (
            not inspect.isroutine(function)
            and not inspect.isclass(function)
            and callable(function)
        ):
            function = type(function).__call__
            if not inspect.isfunction(function):
                return function
        else:
            return function


def _unresolved(handler: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"handler {handler}: the annotation of its parameter names {name!r}, which is not known where the handler is "
        f"declared: define or import {name} at the top of the module, above the handler (not inside a function, and "
        "not under 'if TYPE_CHECKING'), or annotate the parameter as Event"
    )


def _name(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or thing)


def _field_names(schema: Any) -> Iterator[str]:
    """Every name that a core schema gives to a field, aliases included."""
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
                yield from (text for text in _texts(node.get(name)))
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
    """The scalars inside a JSON value, or its keys; of a very large one the first."""
    rest = [data]
    left = _LEAVES
    while rest and left:
        left -= 1
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
        shown = (
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        )
        if shown.strip():
            text = re.sub(
                rf"(?<!\w){re.escape(shown.strip())}(?!\w)",
                "***",
                text,
                flags=re.IGNORECASE,
            )
    return text

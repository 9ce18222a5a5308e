"""Functions of the API, and how a call's arguments are bound to them and checked as the real server does it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from .tokens import Caller

if TYPE_CHECKING:
    from .state import State

Envelope = dict[str, Any]

NO_TOKEN = "SSL secure connection is required"
NO_ROLE = "production or pilot role required"
NOT_OWNER = "not the task owner or no production role"


@dataclass(frozen=True)
class Call:
    """One call as its function sees it. `environ` are its headers and the like, `url` is where the server listens."""

    state: State
    caller: Caller
    method: str
    environ: dict[str, str]
    url: str


@dataclass(frozen=True)
class Upload:
    """A file sent in a form."""

    filename: str
    content: bytes


Function = Callable[..., Any]


@dataclass(frozen=True)
class Route:
    """One function of the API v1 with what it demands of a caller."""

    function: Function
    method: str
    secure: bool
    production: bool
    owner: bool


V1: dict[str, Route] = {}
LEGACY: dict[str, Function] = {}


def v1(
    module: str, method: str, *, secure: bool = True, production: bool = False, owner: bool = False
) -> Callable[[Function], Function]:
    """Make a function answer at `/api/v1/<module>/<its name>`."""

    def register(function: Function) -> Function:
        V1[f"{module}/{function.__name__}"] = Route(function, method, secure, production, owner)
        return function

    return register


def legacy(function: Function) -> Function:
    """Make a function answer at `/server/panda/<its name>`."""
    LEGACY[function.__name__] = function
    return function


def answer(success: bool, message: str = "", data: Any = None) -> Envelope:
    """The envelope of the API v1."""
    return {"success": success, "message": message, "data": data}


class Wrong(Exception):
    """Arguments that do not fit; the text goes into the envelope."""


def perform(route: Route, call: Call, arguments: dict[str, Any]) -> Envelope:
    """Check the caller, the method and the arguments in the real server's order, then call the function."""
    if route.secure and not call.caller.secure:
        return answer(False, NO_TOKEN)
    if route.production and not call.caller.production:
        return answer(False, NO_ROLE)
    if route.method != call.method:
        return answer(False, f"expecting {route.method}, received {call.method}")
    try:
        bound = _bind(route.function, call, arguments)
    except Wrong as error:
        return answer(False, str(error))
    if route.owner and not _owns(call, bound.arguments["task_id"]):
        return answer(False, NOT_OWNER)
    envelope: Envelope = route.function(*bound.args, **bound.kwargs)
    return envelope


def _owns(call: Call, task_id: int) -> bool:
    """A task that JEDI does not know yet is owned by nobody, so only the production role gets past."""
    task = call.state.known(task_id)
    return call.caller.production or (task is not None and task.owner == call.caller.name)


def _bind(function: Function, call: Call, arguments: dict[str, Any]) -> inspect.BoundArguments:
    signature = inspect.signature(function, eval_str=True)
    try:
        bound = signature.bind(call, **arguments)
    except TypeError as error:
        raise Wrong(f"Argument error: {error}") from None
    bound.apply_defaults()
    for name, value in list(bound.arguments.items())[1:]:
        parameter = signature.parameters[name]
        if value == parameter.default or parameter.annotation is Any:
            continue
        if call.method == "GET":
            value = _cast(name, value, parameter)
        _check(name, value, parameter)
        bound.arguments[name] = value
    return bound


def _cast(name: str, value: Any, parameter: inspect.Parameter) -> Any:
    """What a text of a query means for this parameter."""
    kinds = _kinds(parameter)
    if value == "None" and parameter.default is None:
        return None
    try:
        if kinds == [bool]:
            return value.lower() in ("true", "1")
        if kinds == [int]:
            return int(float(value))
        if kinds == [list]:
            return [value] if isinstance(value, str) else value
        return value if str in kinds else ast.literal_eval(value)
    except (ValueError, TypeError, AttributeError):
        was = type(value).__name__
        text = f"'{name}' with value '{value}' could not be casted to type {_spoken(kinds)} from {was}."
        raise Wrong(f"Type error: {text}") from None


def _check(name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raise Wrong for a value of another type."""
    kinds = _kinds(parameter)
    if value is None and parameter.default is None:
        return
    items = value if kinds == [list] and isinstance(value, list) else []
    if not isinstance(value, tuple(kinds)):
        raise Wrong(f"Type error: '{name}' must be of type {_spoken(kinds)}, got {type(value).__name__}.")
    if not all(isinstance(item, get_args(parameter.annotation)[0]) for item in items):
        raise Wrong(f"Type error: All elements in '{name}' must be {get_args(parameter.annotation)[0].__name__}.")


def _kinds(parameter: inspect.Parameter) -> list[type]:
    """The classes that an annotation allows beside None."""
    kind = parameter.annotation
    members: tuple[type, ...] = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return [get_origin(member) or member for member in members if member is not NoneType]


def _spoken(kinds: list[type]) -> str:
    return " | ".join(kind.__name__ for kind in kinds)

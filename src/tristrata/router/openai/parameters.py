"""What may stand in a request: small checks, put together in tables, that refuse in OpenAI's words.

Each error has OpenAI's message, ``param`` and ``code`` (https://platform.openai.com/docs/guides/error-codes). As there,
``null`` is as good as nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from tristrata.protocol.decoding import UNDECODABLE
from tristrata.router.http import Refusal

Check = Callable[[Any, str], Any]
"""From a value and where it stands to the value as it is used. Raises `RequestInvalid`."""

Table = Mapping[str, Check]
_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    dict: "an object",
    list: "an array",
    type(None): "null",
}
_SHOWN = 64


class RequestInvalid(Refusal):
    """A request that breaks a rule (400); ``parameter`` names the field."""

    def __init__(self, message: str, parameter: str | None = None, code: str | None = None) -> None:
        super().__init__(400, code, message, parameter)
        self.parameter = parameter


def read(body: bytes, table: Table, required: Iterable[str] = (), *, names_unknown: bool = False) -> dict[str, Any]:
    """The fields of a request's body, checked. Raises `RequestInvalid`.

    Of a parameter that is not in the table, OpenAI's older endpoints say only that it is there; newer ones
    (``names_unknown``) have its name in ``param`` too.
    """
    try:
        fields = msgspec.json.decode(body)
    except UNDECODABLE as error:
        raise RequestInvalid(f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(fields, dict):
        raise RequestInvalid(f"The body of your request must be a JSON object, but it is {_type_of(fields)}.")
    unknown = [name for name in fields if name not in table]
    if unknown and names_unknown:
        raise _unknown(unknown[0])
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise RequestInvalid(f"Unrecognized request argument{plural} supplied: {', '.join(map(_cut, unknown))}")
    for name in required:
        if fields.get(name) is None:
            raise RequestInvalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return {name: table[name](value, name) for name, value in fields.items() if value is not None}


def anything(value: Any, where: str) -> Any:
    """Any value; it is not used."""
    return value


def boolean(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong_type(where, "a boolean", value)
    return value


def free_object(value: Any, where: str) -> dict[str, Any]:
    """An object with anything in it, such as a JSON schema."""
    if not isinstance(value, dict):
        raise wrong_type(where, "an object", value)
    return value


def integer(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(where, "an integer", value)
        return int(_within(value, where, low, high, "integer"))

    return check


def decimal(low: float, high: float) -> Check:
    """A number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(where, "a decimal", value)
        return _within(value, where, low, high, "decimal")

    return check


def text(most: int | None = None, least: int = 0) -> Check:
    """A string of ``least`` to ``most`` characters."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(where, "a string", value)
        if len(value) < least:
            raise RequestInvalid(
                f"Invalid '{where}': empty string. Expected a string with minimum length {least}, "
                f"but got a string with length {len(value)} instead.",
                where,
                "empty_string",
            )
        if most is not None and len(value) > most:
            raise RequestInvalid(
                f"Invalid '{where}': string too long. Expected a string with maximum length {most}, "
                f"but got a string with length {len(value)} instead.",
                where,
                "string_above_max_length",
            )
        return value

    return check


def one_of(*values: str) -> Check:
    """One of these words."""

    def check(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(where, f"one of {_list(values)}", value)
        if value not in values:
            raise RequestInvalid(
                f"Invalid value: '{_cut(value)}'. Supported values are: {_list(values)}.", where, "invalid_value"
            )
        return value

    return check


def array(item: Check, most: int, least: int = 0) -> Check:
    """A list of ``least`` to ``most`` items."""

    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise wrong_type(where, "an array", value)
        if len(value) < least:
            raise RequestInvalid(
                f"Invalid '{where}': empty array. Expected an array with minimum length {least}, "
                "but got an empty array instead.",
                where,
                "empty_array",
            )
        if len(value) > most:
            raise RequestInvalid(
                f"Invalid '{where}': array too long. Expected an array with maximum length {most}, "
                f"but got an array with length {len(value)} instead.",
                where,
                "array_above_max_length",
            )
        return [item(each, f"{where}[{number}]") for number, each in enumerate(value)]

    return check


def record(table: Table, required: Iterable[str] = ()) -> Check:
    """An object with fields of its own; without those that are null."""

    def check(value: Any, where: str) -> dict[str, Any]:
        fields = free_object(value, where)
        for name in fields:
            if name not in table:
                raise _unknown(f"{where}.{_cut(name)}")
        for name in required:
            if fields.get(name) is None:
                inner = f"{where}.{name}"
                raise RequestInvalid(f"Missing required parameter: '{inner}'.", inner, "missing_required_parameter")
        return {name: table[name](each, f"{where}.{name}") for name, each in fields.items() if each is not None}

    return check


def variant(by: str, **records: Check) -> Check:
    """An object whose field ``by`` says which of the records it is."""
    choose = one_of(*records)

    def check(value: Any, where: str) -> dict[str, Any]:
        fields = free_object(value, where)
        inner = f"{where}.{by}"
        if fields.get(by) is None:
            raise RequestInvalid(f"Missing required parameter: '{inner}'.", inner, "missing_required_parameter")
        checked: dict[str, Any] = records[choose(fields[by], inner)](fields, where)
        return checked

    return check


def metadata(value: Any, where: str) -> dict[str, str]:
    """Up to 16 pairs of text."""
    pairs = free_object(value, where)
    if len(pairs) > 16:
        raise RequestInvalid(
            f"Invalid '{where}': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(pairs)} properties instead.",
            where,
            "object_above_max_properties",
        )
    for name, each in pairs.items():
        text(64)(name, where)
        text(512)(each, f"{where}.{_cut(name)}")
    return pairs


def unsupported(value: Any, where: str) -> Any:
    """A parameter that the models here have no ability for."""
    raise RequestInvalid(
        f"Unsupported parameter: '{where}' is not supported with this model.", where, "unsupported_parameter"
    )


def only(*values: Any) -> Check:
    """A parameter of which the models here support these values only."""

    def check(value: Any, where: str) -> Any:
        if not any(value == each and type(value) is type(each) for each in values):
            supported = _list(_json(each) for each in values)
            raise RequestInvalid(
                f"Unsupported value: '{where}' does not support '{_cut(_json(value))}' with this model. "
                f"Supported values are: {supported}.",
                where,
                "unsupported_value",
            )
        return value

    return check


def wrong_type(where: str, expected: str, value: Any) -> RequestInvalid:
    """The refusal of a value that is of another type."""
    return RequestInvalid(
        f"Invalid type for '{where}': expected {expected}, but got {_type_of(value)} instead.", where, "invalid_type"
    )


def _within(value: float, where: str, low: float, high: float, kind: str) -> float:
    if value < low:
        rule, code = f"below minimum value. Expected a value >= {low}", f"{kind}_below_min_value"
    elif value > high:
        rule, code = f"above maximum value. Expected a value <= {high}", f"{kind}_above_max_value"
    else:
        return value
    raise RequestInvalid(f"Invalid '{where}': {kind} {rule}, but got {_cut(str(value))} instead.", where, code)


def _unknown(name: str) -> RequestInvalid:
    return RequestInvalid(f"Unknown parameter: '{_cut(name)}'.", _cut(name), "unknown_parameter")


def _type_of(value: Any) -> str:
    return _NAMES.get(type(value), "something else")


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _list(values: Iterable[str]) -> str:
    *most, last = [f"'{value}'" for value in values]
    return f"{', '.join(most)}, and {last}" if most else last


def _cut(shown: str) -> str:
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"

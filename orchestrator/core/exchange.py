"""Messages as lines of a file: out as JSON or CSV, in again, and in from donkey's own file."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.event import event_name
from schemas.message import Message, MessageDetail, MessageState


class LineError(ValueError):
    """A line that holds no message. The text says what was expected."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A message on its way between files and stores."""

    headers: Mapping[str, str]
    body: bytes
    #: Where it stood; None if the file does not say, then it begins anew.
    state: MessageState | None = None


#: What is shown of a message, then what came over the wire.
_CSV_FIELDS: Final = [*Message.model_fields, "headers", "body", "body_base64"]


def to_json(message: MessageDetail) -> str:
    """One line of JSON. A body that is no text stands in `body_base64`."""
    return json.dumps(_fields(message) | {"headers": message.headers}, ensure_ascii=False)


def csv_header() -> str:
    return _csv_line(_CSV_FIELDS)


def to_csv(message: MessageDetail) -> str:
    """One record of CSV, in the order of `csv_header`; headers as JSON."""
    fields = _fields(message) | {"headers": json.dumps(message.headers)}
    return _csv_line(["" if fields.get(name) is None else fields[name] for name in _CSV_FIELDS])


def _fields(message: MessageDetail) -> dict[str, Any]:
    fields = message.model_dump(mode="json", exclude={"body", "headers"})
    try:
        return fields | {"body": message.body.decode()}
    except UnicodeDecodeError:
        return fields | {"body_base64": base64.b64encode(message.body).decode()}


def _csv_line(values: list[Any]) -> str:
    line = io.StringIO()
    # the writer quotes a line's end within a field only if it is the end that it writes itself
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n")


def from_json(line: str) -> Carried:
    """Read one line of JSON: `{"headers": {...}, "body": "..."}`, and what `to_json` adds to it.

    Raises:
        LineError: what the line should have been.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"this is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise LineError('expected an object: {"headers": {...}, "body": "..."}')
    headers = value.get("headers", {})
    if not isinstance(headers, dict):
        raise LineError(f"headers must be an object, not {type(headers).__name__}")
    words = {_text(key): _text(item) for key, item in headers.items()}
    return Carried(words, _body(value), _state(value.get("state")))


def _text(value: object) -> str:
    """JSON can spell half a character, which nothing can print."""
    return str(value).encode("utf-8", "replace").decode()


def _body(value: Mapping[str, Any]) -> bytes:
    body, encoded = value.get("body"), value.get("body_base64")
    if isinstance(encoded, str) and encoded:
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise LineError(f"body_base64 cannot be decoded: {error}") from None
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, dict):  # somebody wrote the event itself
        return json.dumps(body).encode()
    raise LineError('there is no body: expected {"headers": {...}, "body": "..."}')


def _state(word: object) -> MessageState | None:
    if word is None or word == "":
        return None
    try:
        return MessageState(str(word))
    except ValueError:
        raise LineError(f"state is {word!r}; there are: {', '.join(MessageState)}") from None


def from_csv(text: str) -> Iterator[tuple[int, Carried | LineError]]:
    """Read what `csv_header` and `to_csv` wrote: the line where each record ends, and the record or what is wrong."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a body may be longer than the module's 128 KiB
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for record in reader:
        try:
            headers = json.loads(record.get("headers") or "{}")
            plain = {key: value for key, value in record.items() if key is not None and value != ""}
            yield (
                reader.line_num,
                from_json(json.dumps({**plain, "headers": headers, "body": record.get("body") or ""})),
            )
        except (ValueError, RecursionError) as error:
            yield reader.line_num, LineError(str(error))


#: donkey's word for an event, and where it kept the time of it.
_DONKEY_TIMES: Final = {"close": "closed", "create_dts": "created", "open": "opened"}

#: donkey's lists, and where a message of each stands with us.
_DONKEY_LISTS: Final = {
    "pending": MessageState.PENDING,
    "dispatched": MessageState.DISPATCHED,
    "dropped": MessageState.DROPPED,
}


def is_donkey(value: object) -> bool:
    """Whether a JSON value is donkey's pickleDB file: lists of datasets by the name of the list."""
    return isinstance(value, dict) and any(isinstance(value.get(name), list) for name in _DONKEY_LISTS)


def from_donkey(value: Mapping[str, Any]) -> Iterator[tuple[str, Carried | LineError]]:
    """Read donkey's store: where in the file each dataset stands, and the message it stands for or what is wrong.

    donkey kept no bodies, so each is made anew as Rucio would have written it. Source of the shape: `dataset.py` and
    `donkey_listener.py` of BNLNPPS/shrek.
    """
    for name, state in _DONKEY_LISTS.items():
        entries = value.get(name)
        for position, entry in enumerate(entries if isinstance(entries, list) else []):
            place = f"{name}[{position}]"
            if not isinstance(entry, dict) or not entry.get("name"):
                yield place, LineError(f"expected a dataset with a name, not {str(entry)[:60]!r}")
                continue
            yield place, Carried({}, _donkey_body(entry), state)


def _donkey_body(entry: Mapping[str, Any]) -> bytes:
    event = event_name(str(entry.get("event", "none")))
    moment = entry.get(_DONKEY_TIMES.get(event, "created")) or entry.get("reopened") or entry.get("created")
    payload: dict[str, Any] = {"scope": entry.get("scope"), "name": entry.get("name")}
    if entry.get("account") not in (None, "none", "unknown"):
        payload["account"] = entry["account"]
    if entry.get("runnumber"):
        payload["run_number"] = entry["runnumber"]
    for count in ("bytes", "length"):
        if str(entry.get(count, "nan")).replace(".", "", 1).isdigit():
            payload[count] = float(entry[count])
    return json.dumps({"event_type": event, "payload": payload, "created_at": str(moment)}).encode()

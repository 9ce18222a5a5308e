"""Write the JSON Schemas of the documents that people write, and of plans: `python -m schemas.generate`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas.durations import format_duration
from schemas.failure import FailureFile
from schemas.rule import RuleFile
from schemas.transient import Plan, TransientPolicyFile
from schemas.workflow import Workflow

FOLDER = Path(__file__).parent / "json"


class _AsWritten(GenerateJsonSchema):
    """Defaults as people would write them: 10m, not PT10M."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def generate() -> dict[str, str]:
    """The content of each generated file, by its name."""
    documents = {
        "rule": _rules_as_written(RuleFile.model_json_schema(schema_generator=_AsWritten)),
        "failures": FailureFile.model_json_schema(schema_generator=_AsWritten),
        "workflow": Workflow.model_json_schema(schema_generator=_AsWritten),
        "transient": _policies_as_written(TransientPolicyFile.model_json_schema(schema_generator=_AsWritten)),
        "transient_plan": Plan.model_json_schema(schema_generator=_AsWritten),
    }
    return {
        f"{name}.schema.json": json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def _rules_as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """What the models read beside their own shape: one item for a list of one, an action by its actor's name."""
    definitions = schema["$defs"]
    rule, runs = definitions["Rule"]["properties"], definitions["RunSelection"]["properties"]
    for place, name in ((rule, "on"), (rule, "scope"), (runs, "include"), (runs, "exclude")):
        place[name] = _one_or_many(place[name])
    rule["where"]["additionalProperties"] = _one_or_many(rule["where"]["additionalProperties"])
    rule["values"]["additionalProperties"]["anyOf"].append({"type": "number"})
    value = definitions["RunValue"]["properties"]["value"]
    value["type"] = ["string", "number"]
    definitions["Numbering"] = _numbering(definitions["Numbering"])
    definitions["Pace"] = _pace(definitions["Pace"])
    definitions["Action"] = _action(definitions["Action"])
    return schema


def _policies_as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """One item for a list of one."""
    definitions = schema["$defs"]
    policy, runs = definitions["TransientPolicy"]["properties"], definitions["RunSelection"]["properties"]
    for place, name in ((policy, "scope"), (runs, "include"), (runs, "exclude")):
        place[name] = _one_or_many(place[name])
    policy["where"]["additionalProperties"] = _one_or_many(policy["where"]["additionalProperties"])
    definitions["Numbering"] = _numbering(definitions["Numbering"])
    return schema


def _one_or_many(many: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: many[key] for key in ("default", "description", "title") if key in many}
    only_many = {key: value for key, value in many.items() if key not in about}
    one = many["items"]
    kinds = one["anyOf"] if set(one) == {"anyOf"} else [one]
    return {**about, "anyOf": [*kinds, only_many]}


def _numbering(numbering: dict[str, Any]) -> dict[str, Any]:
    """The pattern alone, or with the first and the last number."""
    about = {key: numbering[key] for key in ("title", "description")}
    fields = {key: value for key, value in numbering.items() if key not in about}
    return {**about, "anyOf": [{"type": "string"}, fields]}


def _pace(pace: dict[str, Any]) -> dict[str, Any]:
    """In words; as fields it is understood, but nobody need write it so."""
    about = {key: pace[key] for key in ("title", "description")}
    fields = {key: value for key, value in pace.items() if key not in about}
    words = {"type": "string", "pattern": r"^\s*[0-9]+\s* per ", "examples": ["50 per 10m"]}
    return {**about, "anyOf": [words, fields]}


def _action(action: dict[str, Any]) -> dict[str, Any]:
    """One actor's name, beside whatever else an action may say."""
    beside = ("retry", "require")
    said = [[name for name in beside if name != left_out] for left_out in (None, *beside)] + [[]]
    return {
        "title": action["title"],
        "description": action["description"],
        "type": "object",
        "properties": {name: action["properties"][name] for name in beside},
        "additionalProperties": {"type": ["object", "null"]},
        "oneOf": [_with_exactly(names, beside) for names in said],
    }


def _with_exactly(names: list[str], beside: tuple[str, ...]) -> dict[str, Any]:
    """These, and one more: the actor."""
    others = [{"required": [name]} for name in beside if name not in names]
    without: dict[str, Any] = {"not": {"anyOf": others}} if others else {}
    return {"required": names, **without, "minProperties": len(names) + 1, "maxProperties": len(names) + 1}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, content in generate().items():
        (FOLDER / file).write_text(content, encoding="utf-8")

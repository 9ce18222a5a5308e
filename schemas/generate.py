"""Write the JSON Schemas of the documents that people write: `python -m schemas.generate`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from schemas.durations import format_duration
from schemas.rule import RuleFile
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
        "workflow": Workflow.model_json_schema(schema_generator=_AsWritten),
    }
    return {
        f"{name}.schema.json": json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def _rules_as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """What the models read beside their own shape: one word for a list of one, an action by its actor's name."""
    rule, action = schema["$defs"]["Rule"], schema["$defs"]["Action"]
    for name in ("on", "scope"):
        many = rule["properties"][name]
        one = {"type": "string"}
        rule["properties"][name] = {
            **{key: many.pop(key) for key in ("default", "description", "title")},
            "anyOf": [one, many],
        }
    schema["$defs"]["Action"] = {
        "title": action["title"],
        "description": action["description"],
        "type": "object",
        "properties": {"retry": action["properties"]["retry"]},
        "additionalProperties": {"type": ["object", "null"]},
        "oneOf": [
            {"required": ["retry"], "minProperties": 2, "maxProperties": 2},
            {"not": {"required": ["retry"]}, "minProperties": 1, "maxProperties": 1},
        ],
    }
    return schema


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, content in generate().items():
        (FOLDER / file).write_text(content, encoding="utf-8")

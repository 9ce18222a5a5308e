"""`/api/v1/file_server/...`, `/api/v1/system/...` and `/api/v1/workflow/...`: the cache and odds and ends."""

from __future__ import annotations

import struct
from typing import Any

from .calls import Call, Envelope, Upload, answer, v1
from .model import File

MB = 1024 * 1024


@v1("file_server", "POST")
def upload_cache_file(call: Call, file: Upload) -> Envelope:
    name = file.filename.rpartition("/")[2]
    limit = 768 * MB if name.startswith("sources.") else 10 * MB
    if len(file.content) > limit:
        text = f"ERROR: upload failure. Exceeded size limit {len(file.content) // MB} MB > {limit // MB} MB."
        return answer(False, text)
    if name in call.state.cache:
        return answer(False, "ERROR: cannot overwrite file")
    checksum = struct.unpack("II", file.content[-8:])[0] if len(file.content) >= 8 else 0
    call.state.cache[name] = File(name, call.caller.name, len(file.content), checksum, file.content)
    return answer(True)


@v1("file_server", "POST", production=True)
def register_cache_file(call: Call, user_name: str, file_name: str, file_size: int, checksum: str) -> Envelope:
    call.state.cache.setdefault(file_name, File(file_name, user_name, file_size, int(checksum)))
    return answer(True)


@v1("file_server", "POST")
def validate_cache_file(call: Call, file_size: int, checksum: int | str) -> Envelope:
    host = call.url.partition("//")[2].partition(":")[0]
    for file in call.state.cache.values():
        if (file.owner, file.size, file.checksum) == (call.caller.name, file_size, int(checksum)):
            return answer(True, f"FOUND:{host}:{file.name}")
    return answer(False, "NOTFOUND")


@v1("system", "GET", secure=False)
def is_alive(call: Call) -> Envelope:
    return answer(True)


@v1("system", "GET")
def get_attributes(call: Call) -> Envelope:
    """What the server sees of the call, without the token (the real one shows it)."""
    lines = "".join(f"{key} : {value}\n" for key, value in sorted(call.environ.items()))
    message = f"===== param =====\n\n\n====== env ======\n{lines}"
    return answer(True, message, {"parameters": {}, "environment": dict(call.environ)})


@v1("workflow", "POST")
def submit_workflow_raw_request(call: Call, params: dict[str, Any]) -> Envelope:
    """The native door of workflows, which registers one even for a check."""
    call.state.native_workflows.append({"owner": call.caller.name, "params": params})
    return answer(True, data={"workflow_id": len(call.state.native_workflows)})

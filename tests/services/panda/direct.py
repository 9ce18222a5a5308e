"""Calls to a stand-in without panda-client, as quick as they can be: for tests of what happens on the server."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from .tokens import make_token

JSON = "application/json"
SANDBOX = "jobO.direct.tar.gz"


def send(
    url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, timeout: float = 20
) -> tuple[str, bytes]:
    """Status line and body of an answer. Without `headers` it is a user who speaks JSON."""
    mine = {"Content-Type": JSON, "Accept": JSON, "Origin": "sphenix", "Authorization": f"Bearer {make_token()}"}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request(method, path, body, dict(mine if headers is None else headers))
        answer = connection.getresponse()
        return f"{answer.status} {answer.reason}", answer.read()
    finally:
        connection.close()


def ask(url: str, method: str, path: str, body: Any = None, **token: Any) -> Any:
    """The value of an answer of the API v1, `path` being like `task/kill`; `token` goes to make_token."""
    headers = {"Content-Type": JSON, "Accept": JSON, "Origin": "sphenix"}
    headers["Authorization"] = f"Bearer {make_token(**token)}"
    sent = b"" if body is None else json.dumps(body).encode()
    return json.loads(send(url, method, f"/api/v1/{path}", sent, headers)[1])


def sandbox(files: Mapping[str, str]) -> bytes:
    """A tar.gz of these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def upload(url: str, content: bytes, name: str = SANDBOX) -> None:
    """Put a file into the cache. Raises ValueError if the server does not take it."""
    head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=B", "Accept": JSON, "Origin": "sphenix"}
    headers["Authorization"] = f"Bearer {make_token()}"
    body = head + content + b"\r\n--B--\r\n"
    answer = json.loads(send(url, "POST", "/api/v1/file_server/upload_cache_file", body, headers)[1])
    if not answer["success"]:
        raise ValueError(answer["message"])


def launch(url: str, out_ds: str, name: str = SANDBOX, timeout: float = 20) -> bytes:
    """Submit the workflow `w.cwl` with `i.yaml` of an uploaded sandbox; returns the answer as it came."""
    template = {"vo": "sphenix", "uniqueTaskName": True, "prodSourceLabel": "test", "log": {}, "jobParameters": []}
    order = {"taskParams": {"container": template}, "sandbox": name, "workflowSpecFile": "w.cwl"}
    order |= {"workflowInputFile": "i.yaml", "language": "cwl", "outDS": out_ds, "sourceURL": url}
    body = gzip.compress(json.dumps({"data": json.dumps(order), "sync": True}).encode())
    return send(url, "POST", "/server/panda/put_workflow_request", body, timeout=timeout)[1]


def relay(url: str, command: str, **kwargs: Any) -> Any:
    """What the relay says that iDDS says: `[ok, value]`."""
    order = {"command_name": command, "kwargs": json.dumps(kwargs), "manager": True, "json_outputs": True}
    body = gzip.compress(json.dumps(order).encode())
    return json.loads(send(url, "POST", "/server/panda/relay_idds_command", body)[1])

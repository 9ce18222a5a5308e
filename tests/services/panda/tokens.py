"""Who calls: unsigned test tokens, and what the server makes of the token and the `Origin` of a call."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

DAY = timedelta(days=1)


class RefusedToken(Exception):
    """The token or the VO is not accepted; the text is what the server says after `Token authentication failed.`"""


@dataclass(frozen=True)
class Caller:
    """One who calls. `secure` is False without a token; `production` tells the role taken for this call."""

    name: str = ""
    nickname: str = ""
    vo: str = ""
    production: bool = False
    secure: bool = False


def make_token(
    name: str = "Shrek Producer",
    nickname: str = "shrek",
    groups: Sequence[str] = ("sphenix", "sphenix/production"),
    expires: datetime | timedelta = DAY,
) -> str:
    """An OIDC id token that nobody signed, good for the stand-in and for panda-client.

    `expires` is a time, or how long from now; a negative one makes a token that has expired.
    """
    moment = expires.timestamp() if isinstance(expires, datetime) else time.time() + expires.total_seconds()
    claims = {
        "iss": "https://oidc.example.org",
        "sub": nickname,
        "name": name,
        "preferred_username": nickname,
        "groups": list(groups),
        "iat": int(time.time()),
        "exp": int(moment),
    }
    return ".".join((_encode({"alg": "RS256", "typ": "JWT"}), _encode(claims), "c2lnbmF0dXJl"))


def identify(authorization: str | None, origin: str | None, vos: Sequence[str]) -> Caller:
    """Who calls with these headers. Without a token it is a caller who is not secure.

    Raises RefusedToken for a bad or expired token, a VO not in `vos`, or one who is not in its group.
    """
    if not authorization:
        return Caller()
    claims = _claims(authorization.removeprefix("Bearer "))
    if origin is None:
        raise RefusedToken("Token decode failure. 'NoneType' object has no attribute 'replace'")
    vo, role = _vo_and_role(origin)
    if vo not in vos:
        raise RefusedToken(f"Unknown vo : {vo}")
    group = f"{vo}/{role}" if role else vo
    groups = claims.get("groups", [])
    if group not in groups and f"/{group}" not in groups:
        raise RefusedToken(f"Not a member of the {group} group")
    name = " ".join(word[:1].upper() + word[1:].lower() for word in str(claims.get("name", claims["sub"])).split())
    return Caller(name, str(claims.get("preferred_username", "")), vo, production=role == "production", secure=True)


def _vo_and_role(origin: str) -> tuple[str, str | None]:
    """`sphenix:production` and `sphenix.production` are a VO and a role; `vo.name` is a VO."""
    if ":" in origin:
        vo, _, role = origin.partition(":")
        return vo, role
    if "." in origin and not origin.startswith("vo."):
        vo, _, role = origin.rpartition(".")
        return vo, role
    return origin, None


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        raise RefusedToken("Invalid token. Not enough segments")
    _decode("header", parts[0])
    claims = _decode("payload", parts[1])
    if claims.get("exp", 0) <= time.time():
        raise RefusedToken("Invalid token. Signature has expired")
    return claims


def _encode(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _decode(what: str, part: str) -> Mapping[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except binascii.Error:
        raise RefusedToken(f"Invalid token. Invalid {what} padding") from None
    except ValueError as error:
        raise RefusedToken(f"Invalid token. Invalid {what} string: {error}") from None
    if not isinstance(value, dict):
        raise RefusedToken(f"Invalid token. Invalid {what} string: must be a json object")
    return value

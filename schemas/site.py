"""A site profile: where a PanDA is, as whom we speak to it, and which of its queues we use."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field

from schemas.durations import Duration
from schemas.workflow import Queue

_SITE = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MonitorPages(_Part):
    """Addresses of pages for people; `{id}` is the task's or the request's number."""

    task: str | None = Field(None, description="for example https://panda.example.org/task/{id}/")
    request: str | None = Field(
        None, description="for example https://panda.example.org/idds/wfprogress/?requestid={id}"
    )
    job: str | None = Field(None, description="for example https://panda.example.org/job/{id}/")


class Site(_Part):
    """One PanDA as one group of people uses it. It holds no secret: the token is in a file or in the environment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,15}$")
    description: str = ""
    #: Shown wherever people act, so that nobody takes a testbed for production.
    instance: Literal["production", "integration", "testbed"] = "production"
    url: AnyHttpUrl = Field(description="the server, for example http://pandaserver.example.org:25080")
    url_ssl: AnyHttpUrl = Field(description="the server's secured address, for example https://...:25443")
    cache_url: AnyHttpUrl | None = Field(None, description="where packages are uploaded to; url_ssl unless it is said")
    vo: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    production_role: bool = Field(
        False, description="speak as <vo>.production: pause, resume, and act on the launches of others"
    )
    working_group: str | None = None
    prod_source_label: str = "user"
    official: bool = Field(False, description="datasets of the group; the token must name the group <vo>/production")
    #: What every dataset's name begins with: user.<nickname>, or group.<vo>.
    prefix: str = Field(pattern=r"^(user|group)\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    site: _SITE | None = Field(None, description="where steps run that name no site and no queue")
    queues: dict[Queue, _SITE] = Field({}, description="the sites behind high, medium and low")
    no_build: bool = True
    token_file: Path | None = Field(None, description="the OIDC token; PANDA_AUTH_ID_TOKEN goes first")
    ca_directory: Path | None = Field(None, description="hashed directory of CA certificates; needed for https")
    monitor: MonitorPages = MonitorPages()
    #: How long one call of prun or pchain may take.
    submit_timeout: Duration = timedelta(minutes=5)
    #: After a doubt it is looked up until it is found, or until so long has passed that the server must have it.
    settle: Duration = timedelta(minutes=10)
    parallel: int = Field(16, ge=1, le=64, description="submissions at the same time, over all of this process")
    poll: Duration = timedelta(seconds=30)
    stalled_after: Duration = timedelta(hours=6)

"""Settings: `muleteer.toml` in the home directory, over it the environment (`MULETEER_BROKER__USER=...`).

Secrets come from the environment or from a file of their own (`passcode_file`), never from a command line.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from schemas.durations import Duration
from schemas.event import event_name
from schemas.globs import mistake_in_glob
from schemas.message import MessageState
from schemas.registration import Rewrite
from schemas.rule import Order, Pace

FILE_NAME = "muleteer.toml"


#: The address of a server, without what would be a user and a password.
_SERVER = r"^https?://[A-Za-z0-9_.:/\[\]-]+$"


class ConfigurationError(Exception):
    """The settings do not fit. The text names the file or variable, the field, and what is allowed."""


#: From the production notes: a close that nothing wanted waits for a rule that does, anything else is put away.
_Unmatched = Literal[MessageState.PENDING, MessageState.DROPPED]
_UNMATCHED: dict[str, _Unmatched] = {"close": MessageState.PENDING, "*": MessageState.DROPPED}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """Where messages, dispatches and launches are kept."""

    url: SecretStr = Field(SecretStr("sqlite:///muleteer.db"), description="sqlite:///file or postgresql://...")
    url_file: Path | None = Field(None, description="a file that holds the URL, for one with a password")


class BrokerSettings(_Section):
    """Where the frames come from."""

    kind: Literal["embedded", "stomp"] = "embedded"
    addresses: tuple[str, ...] = Field(("localhost:61613",), min_length=1, description="host:port, tried in turn")
    destination: str = "/queue/events"
    version: Literal["1.1", "1.2"] = "1.2"
    user: str | None = None
    passcode: SecretStr | None = None
    passcode_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    selector: str | None = Field(None, description="for example event_type = 'close'")
    client_id: str | None = Field(None, description="with subscription_name: a durable subscription to a topic")
    subscription_name: str | None = None
    virtual_host: str | None = None
    exclusive: bool = Field(False, description="take every frame of the queue while other listeners stand by")
    heartbeat: Duration = timedelta(seconds=10)
    prefetch: int = Field(1000, ge=1, le=10_000, description="frames that the broker sends ahead of acknowledgements")

    @field_validator("addresses")
    @classmethod
    def _are_host_and_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            host, colon, port = address.rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{address!r} is not host:port, for example mq.example.org:61613")
        return value

    @model_validator(mode="after")
    def _durable_needs_both(self) -> Self:
        if (self.client_id is None) != (self.subscription_name is None):
            raise ValueError("client_id and subscription_name go together: a durable subscription needs both")
        return self


class IntakeSettings(_Section):
    """What is put away as it comes: stored and dropped, with the reason, and never judged unless a person wants it.

    Globs as in a rule's scope: `*`, `?`, `[...]`, and `!` before one. Few events name an account; a close does not.
    """

    drop_accounts: tuple[str, ...] = Field((), description="events of these accounts, for example idds*")
    drop_scopes: tuple[str, ...] = Field((), description="events of these scopes")
    drop_events: tuple[str, ...] = Field((), description="these events, for example transfer-*")

    @field_validator("drop_events")
    @classmethod
    def _in_rucio_spelling(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(event_name(word) for word in value)


class WorkerSettings(_Section):
    """How dispatches are carried out."""

    threads: int = Field(16, ge=1, le=256, description="actions carried out at the same time")
    lease: Duration = Field(
        timedelta(seconds=15), description="after this long without a sign of life a worker is taken for dead"
    )
    grace: Duration = Field(timedelta(seconds=20), description="how long actions may finish when muleteer is stopped")

    confirm: bool = Field(
        False, description="before anything is started for a close, ask the catalog whether it is still true"
    )

    @field_validator("lease")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("a lease below one second is lost whenever the machine is busy")
        return value


class GroupLimits(_Section):
    """What the rules of one group share."""

    running: int | None = Field(None, ge=0, description="dispatches and launches that go on at the same time")
    pace: Pace | None = Field(None, description="starts in a span of time: 50 per 10m")
    order: Order = Field(Order.OLDEST, description="what is started first: oldest or newest")


class LimitSettings(_Section):
    """How much may go on at once, and how fast it may start: everything together, and each group of rules."""

    running: int | None = Field(None, ge=0, description="dispatches and launches that go on at the same time")
    pace: Pace | None = Field(None, description="starts in a span of time: 50 per 10m")
    groups: dict[str, GroupLimits] = Field({}, description="by the name that rules give as their group")


#: What a file of known sums tells, as the fields of a manifest are called.
_Known = Literal["pfn", "lfn", "bytes", "adler32", "md5"]


class RegistrationSettings(_Section):
    """Which files are registered, under which names, and how their sums are found."""

    threads: int | None = Field(None, ge=1, le=256, description="files read at the same time; by default one per core")
    refuse: tuple[str, ...] = Field(("*.partial",), description="names that are never registered; globs")
    min_bytes: int = Field(1, ge=0, description="smaller files are refused; 0 takes empty ones too")
    rewrite: tuple[Rewrite, ...] = Field(
        (),
        description="by prefix, the first that fits: what is registered (pfn), and where it is read here (path)",
    )
    follow_links: bool = Field(False, description="register what links point to, under the name of the link")
    known_sums: Path | None = Field(None, description="sums that are known: a manifest, md5sum's list, or SQLite")
    known_table: str = Field("sums", min_length=1, description="the table, if known_sums is an SQLite database")
    known_columns: dict[_Known, str] = Field(
        {}, description="what its columns are called that are called otherwise: pfn, lfn, bytes, adler32, md5"
    )
    verify: bool = Field(False, description="read files whose sums are known too, and compare")


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")


class CatalogSettings(_Section):
    """The catalog of datasets and files: an embedded one, or a Rucio server.

    What is not said of the server is taken from `config`, if that is set.
    """

    kind: Literal["embedded", "rucio"] = "embedded"
    config: Path | None = Field(None, description="a rucio.cfg, of which the section [client] is read")
    host: str | None = Field(None, pattern=_SERVER, description="https://rucio.example.org")
    auth_host: str | None = Field(None, pattern=_SERVER, description="where to sign in, if that is another server")
    account: str | None = Field(None, description="the Rucio account to act as")
    auth_type: Literal["userpass", "x509", "x509_proxy", "oidc", "gss", "ssh"] | None = Field(
        None, description="how to sign in, userpass unless it is said; oidc: with a token from token_file"
    )
    username: str | None = Field(None, description="for userpass")
    password: SecretStr | None = None
    password_file: Path | None = None
    client_cert: Path | None = Field(None, description="for x509: the certificate; for x509_proxy: the proxy")
    client_key: Path | None = Field(None, description="for x509, unless it is in client_cert, and for ssh")
    token_file: Path | None = Field(None, description="for oidc: a file in which somebody renews the token")
    ca_cert: Path | None = Field(None, description="a bundle or directory of CA certificates; else X509_CERT_DIR")
    vo: str | None = Field(None, description="for a server of several virtual organisations")
    identity: str | None = Field(
        None,
        min_length=1,
        description="what tells a Rucio server from any other; its host and vo, unless it has got another address",
    )
    rse: str | None = Field(None, min_length=1, description="where files are registered unless it is said")
    timeout: Duration = Field(timedelta(minutes=2), description="how long to wait for an answer")

    @field_validator("timeout")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("1s is the least: a busy server takes ten for a thousand files")
        return value

    @model_validator(mode="after")
    def _rucio_needs_a_host(self) -> Self:
        if self.kind == "rucio" and self.host is None and self.config is None:
            raise ValueError("kind rucio needs host, the address of the server, or config, a rucio.cfg that names it")
        return self


class ReconcileSettings(_Section):
    """Closings that the broker lost are looked for in the catalog, and made up for. Not with the embedded catalog."""

    every: Duration = Field(timedelta(minutes=10), description="how often; 0s: never by itself")
    patience: Duration = Field(
        timedelta(minutes=5), description="how long an event may be under way before it counts as lost"
    )
    overlap: Duration = Field(timedelta(hours=1), description="how far each look goes back before the last one")
    scopes: tuple[str, ...] = Field(("*",), min_length=1, description="globs: the scopes that are looked at")


class EngineSettings(_Section):
    """What runs workflows."""

    kind: Literal["embedded", "panda", "panda-stepwise"] = Field(
        "embedded", description="panda: whole workflows on PanDA; panda-stepwise: step by step"
    )
    site: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,15}$", description="for PanDA: the profile sites/<site>.yaml"
    )
    largest_package: int = Field(20, ge=1, le=1000, description="megabytes that are sent, and kept, for one launch")

    @model_validator(mode="after")
    def _panda_needs_a_site(self) -> Self:
        if self.kind != "embedded" and self.site is None:
            raise ValueError(f"kind {self.kind} needs a site: the name of a profile, sites/<site>.yaml in the home")
        return self


class CallbackSettings(_Section):
    """Where jobs tell how far they are. Nobody asks them unless an address is set."""

    url: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9_.:@/\[\]-]+$",
        description="where jobs reach `muleteer serve`, for example https://muleteer.example.org",
    )
    heartbeat: Duration = Field(timedelta(minutes=10), description="how often a PanDA job says that it is alive")

    @field_validator("heartbeat")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=10):
            raise ValueError("thousands of jobs say it: 10s is the least")
        return value


class LaunchSettings(_Section):
    """What a workflow must be like to be launched."""

    require_commit: Literal["no", "committed", "pushed"] = Field(
        "no", description="only workflows whose folder is committed to git as it is, or pushed too"
    )


class ArchiveSettings(_Section):
    """What was sent, written into a git repository now and then."""

    git: Path | None = Field(None, description="the repository's directory; nothing is written unless it is set")
    every: Duration = timedelta(hours=1)
    push: bool = False
    remote: str = Field("origin", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")
    name: str = Field("muleteer", pattern=r"^[^<>\n\x00]+$", description="who the commits are by")
    email: str = Field("muleteer@localhost", pattern=r"^[^<>\s\x00]+$")
    largest_file: int = Field(5, ge=1, le=1000, description="megabytes; larger files are named and left out")
    largest_commit: int = Field(500, ge=1, le=100_000, description="megabytes; the next call writes the rest")

    @field_validator("every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=10):
            raise ValueError("10s is the least")
        return value


class TransientSettings(_Section):
    """Releases of transient datasets: how often they are looked for, how many may leave, and what never does."""

    every: Duration = Field(
        timedelta(hours=1), description="how often datasets are looked at, by one process for all; 0s: never by itself"
    )
    undo: Duration = Field(
        timedelta(hours=24), description="how long a release can be taken back before anything is done"
    )
    datasets_per_day: int | None = Field(100, ge=0, description="datasets that may be released within 24 hours")
    bytes_per_day: int | None = Field(None, ge=0, description="bytes of their copies")
    rse_bytes_per_day: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="bytes of their copies at one RSE, by its name"
    )
    never: tuple[str, ...] = Field((), description="datasets that never leave; scope:name, both globs")
    raw_scopes: tuple[str, ...] = Field(("raw*",), description="scopes out of which nothing leaves; globs, ! excludes")
    accounts: tuple[str, ...] = Field(
        (), description="accounts whose replication rules do not keep a dataset; our own never does"
    )
    disks: dict[str, Path] = Field(
        {}, description="where PFNs can be seen here, by what they begin with: what has left is looked for there"
    )
    proofs: int = Field(1000, ge=1, description="datasets whose files are looked at, at most, each time")

    @field_validator("every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if timedelta(0) < value < timedelta(seconds=1):
            raise ValueError("1s is the least; 0s: never by itself")
        return value

    @field_validator("never")
    @classmethod
    def _are_dids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            scope, colon, name = each.partition(":")
            if not (scope and colon and name):
                raise ValueError(f"{each!r} does not say what stays: write scope:name, for example *:CALIB-*")
        return value

    @field_validator("raw_scopes")
    @classmethod
    def _say_which(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and all(each.startswith("!") for each in value):
            raise ValueError('only which scopes are not raw: if all others are, write "*" before them')
        return value

    @field_validator("never", "raw_scopes")
    @classmethod
    def _fit_something(cls, value: tuple[str, ...], field: ValidationInfo) -> tuple[str, ...]:
        for position, each in enumerate(value):
            glob = each.removeprefix("!") if field.field_name == "raw_scopes" else each
            if (mistake := mistake_in_glob(glob)) is not None:
                raise ValueError(f"entry {position + 1}: {mistake}")
        return value

    @field_validator("rse_bytes_per_day")
    @classmethod
    def _are_names(cls, value: dict[str, int]) -> dict[str, int]:
        for rse in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", rse):
                raise ValueError(f"{rse!r} is not the name of an RSE, and would cap nothing")
        return value

    @field_validator("disks")
    @classmethod
    def _are_absolute(cls, value: dict[str, Path]) -> dict[str, Path]:
        for prefix, path in value.items():
            if not prefix or not path.is_absolute():
                raise ValueError(
                    f'{prefix!r} = "{path}": write a beginning of PFNs, and a directory with its whole path'
                )
        return value


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="MULETEER_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    store: StoreSettings = StoreSettings()
    broker: BrokerSettings = BrokerSettings()
    intake: IntakeSettings = IntakeSettings()
    catalog: CatalogSettings = CatalogSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    engine: EngineSettings = EngineSettings()
    launch: LaunchSettings = LaunchSettings()
    callback: CallbackSettings = CallbackSettings()
    archive: ArchiveSettings = ArchiveSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: LimitSettings = LimitSettings()
    registration: RegistrationSettings = RegistrationSettings()
    transient: TransientSettings = TransientSettings()
    log: LogSettings = LogSettings()
    workflows: tuple[Path, ...] = Field((Path("workflows"),), description="folders of workflows, searched in turn")
    unmatched: dict[str, _Unmatched] = Field(
        _UNMATCHED,
        description="what becomes of a message that no rule matched, by event; * for all others",
    )

    @field_validator("unmatched")
    @classmethod
    def _in_rucio_spelling(cls, value: dict[str, _Unmatched]) -> dict[str, _Unmatched]:
        """What is not said stays as it is by default."""
        return _UNMATCHED | {event_name(event): state for event, state in value.items()}

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *sources: Any, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (named["env_settings"], init_settings)


def load(home: Path) -> Settings:
    """The settings of a home directory.

    Raises:
        ConfigurationError: naming the file, the field, and what is allowed.
    """
    path = home / FILE_NAME
    try:
        written = TomlConfigSettingsSource(Settings, toml_file=path)() if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    try:
        return Settings(**written)
    except ValidationError as error:
        raise ConfigurationError(_explain(path, error)) from None
    except SettingsError as error:
        raise ConfigurationError(
            f"a MULETEER_ variable is not JSON where a list or a table is expected: {error}"
        ) from None


def secret(value: SecretStr | None, file: Path | None, home: Path, what: str) -> str | None:
    """A secret from its own file, else from the settings.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    if file is None:
        return value.get_secret_value() if value is not None else None
    try:
        return (home / file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{what} cannot be read from {home / file}: {getattr(error, 'strerror', None) or error}"
        ) from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"]) or "settings"
        variable = "MULETEER_" + field.upper().replace(".", "__")
        lines.append(f"{field}: {problem['msg']} (in {path}, or the variable {variable})")
    return "\n".join(lines)

"""Settings: one TOML file, the environment over it, secrets from files."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.settings import ConfigurationError, Settings, load, secret
from schemas.registration import Rewrite


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours, but those that a test sets."""
    for variable in [key for key in os.environ if key.startswith("MULETEER_")]:
        monkeypatch.delenv(variable)


def written(home: Path, text: str) -> Settings:
    (home / "muleteer.toml").write_text(text)
    return load(home)


def refused(home: Path) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(home)
    return str(error.value)


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    """Everything embedded, in the home directory: nothing has to be set up to begin."""
    settings = load(tmp_path)

    assert settings.store.url.get_secret_value() == "sqlite:///muleteer.db"
    assert (settings.broker.kind, settings.catalog.kind, settings.engine.kind) == ("embedded",) * 3
    assert (settings.worker.threads, settings.worker.lease) == (16, timedelta(seconds=15))
    assert settings.unmatched == {"close": "pending", "*": "dropped"}


def test_the_file_counts_over_the_defaults(tmp_path: Path) -> None:
    """Sections and durations as people write them; what is not written keeps its default."""
    settings = written(
        tmp_path,
        '[broker]\nkind = "stomp"\naddresses = ["a:1", "b:2"]\nheartbeat = "30s"\n[unmatched]\nCREATED = "pending"\n',
    )

    assert (settings.broker.kind, settings.broker.addresses) == ("stomp", ("a:1", "b:2"))
    assert (settings.broker.heartbeat, settings.broker.version) == (timedelta(seconds=30), "1.2")
    assert settings.unmatched == {"close": "pending", "create_dts": "pending", "*": "dropped"}


def test_the_environment_counts_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable changes one field; the others of its section stay as the file says."""
    monkeypatch.setenv("MULETEER_BROKER__USER", "from-environment")
    monkeypatch.setenv("MULETEER_WORKER__LEASE", "1m")
    monkeypatch.setenv("MULETEER_HOME", "/somewhere")

    settings = written(tmp_path, '[broker]\nuser = "from-file"\ndestination = "/topic/x"\n')

    assert (settings.broker.user, settings.broker.destination) == ("from-environment", "/topic/x")
    assert settings.worker.lease == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nprefetch = 0", ["broker.prefetch: ", "greater than or equal to 1", "MULETEER_BROKER__PREFETCH"]),
        ("[broker]\ntypo = 1", ["broker.typo: Extra inputs are not permitted"]),
        ("[typo]\nx = 1", ["typo: Extra inputs are not permitted"]),
        ("[broker]\nkind = 'kafka'", ["broker.kind: ", "'embedded' or 'stomp'"]),
        ("[broker]\naddresses = ['here']", ["broker.addresses: ", "'here' is not host:port"]),
        ("[broker]\naddresses = ['here:99999']", ["is not host:port"]),
        ("[broker]\naddresses = []", ["broker.addresses: "]),
        ("[broker]\nclient_id = 'x'", ["client_id and subscription_name go together"]),
        ("[worker]\nlease = '10ms'", ["worker.lease: ", "below one second"]),
        ("[worker]\nlease = 'soon'", ["worker.lease: ", "write 90s, 5m"]),
        ("[unmatched]\nclose = 'held'", ["unmatched.close: "]),
        ("[broker\n", ["cannot be read"]),
        ("[log]\nlevel = 'loud'\n[worker]\nthreads = 0", ["log.level: ", "worker.threads: "]),
    ],
)
def test_a_mistake_is_named_with_file_and_field(tmp_path: Path, text: str, said: list[str]) -> None:
    """The error says where, which field, what is allowed, and which variable would set it; every mistake at once."""
    (tmp_path / "muleteer.toml").write_text(text)

    found = refused(tmp_path)

    assert str(tmp_path / "muleteer.toml") in found
    assert [word for word in said if word not in found] == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MULETEER_WORKER__THREADS", "many"),
        ("MULETEER_BROKER__TYPO", "x"),
        ("MULETEER_BROKER__ADDRESSES", "mq1.example.org:61613"),
        ("MULETEER_UNMATCHED", "{"),
    ],
)
def test_a_mistake_in_the_environment_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Whatever a variable holds, the answer is a sentence that names its field."""
    monkeypatch.setenv(variable, value)

    found = refused(tmp_path)

    section = variable.removeprefix("MULETEER_").split("__")[0].lower()
    assert section in found.lower()


def test_no_error_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands beside a mistake is not printed with it, and settings can be logged."""
    monkeypatch.setenv("MULETEER_BROKER__PASSCODE", "hush")
    assert "hush" not in repr(load(tmp_path))
    monkeypatch.setenv("MULETEER_BROKER__PREFETCH", "0")

    assert "hush" not in refused(tmp_path)


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    """Relative to the home, without the line's end; the file counts over the value."""
    (tmp_path / "passcode").write_text("hush\n")

    assert secret(SecretStr("value"), None, tmp_path, "x") == "value"
    assert secret(SecretStr("value"), Path("passcode"), tmp_path, "x") == "hush"
    assert secret(None, tmp_path / "passcode", Path("/"), "x") == "hush"
    assert secret(None, None, tmp_path, "x") is None


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """What is missing, and where it was looked for."""
    with pytest.raises(ConfigurationError, match=r"the broker's passcode cannot be read from .*/nowhere: No such file"):
        secret(None, Path("nowhere"), tmp_path, "the broker's passcode")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="the broker's passcode cannot be read from"):
        secret(None, Path("binary"), tmp_path, "the broker's passcode")


def test_the_intake_filter_is_set_by_globs_and_events_in_any_spelling(tmp_path: Path) -> None:
    """Nothing is filtered by default; `created` is what Rucio calls create_dts."""
    default = load(tmp_path).intake

    settings = written(tmp_path, '[intake]\ndrop_accounts = ["idds*"]\ndrop_events = ["Created", "transfer-*"]\n')

    assert (default.drop_accounts, default.drop_scopes, default.drop_events) == ((), (), ())
    assert settings.intake.drop_accounts == ("idds*",)
    assert settings.intake.drop_events == ("create_dts", "transfer-*")


def test_names_are_rewritten_and_files_refused_as_the_settings_say(tmp_path: Path) -> None:
    """By default what is still being written is refused, and what is empty; a prefix says what becomes of it."""
    default = load(tmp_path).registration

    registration = written(
        tmp_path,
        """
[registration]
threads = 4
refuse = ["*.partial", "*.tmp"]
rewrite = [{ prefix = "/direct/x+y", pfn = "/x/y" }, { prefix = "root://h//", path = "/mnt" }]
known_sums = "sums.db"
known_columns = { lfn = "name" }
""",
    ).registration

    assert (default.threads, default.refuse, default.min_bytes, default.rewrite) == (None, ("*.partial",), 1, ())
    assert (default.follow_links, default.known_sums, default.verify) == (False, None, False)
    assert registration.rewrite == (
        Rewrite(prefix="/direct/x+y", pfn="/x/y"),
        Rewrite(prefix="root://h//", path="/mnt"),
    )
    assert (registration.threads, registration.known_columns) == (4, {"lfn": "name"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rewrite = [{ prefix = "/a" }]', "changes nothing"),
        ('rewrite = [{ prefix = "/a", path = "b" }]', "registration.rewrite.0.path"),
        ('known_columns = { sum = "md5" }', "registration.known_columns"),
        ("threads = 0", "registration.threads"),
        ("min_bytes = -1", "registration.min_bytes"),
        ('follow = "links"', "registration.follow"),
    ],
)
def test_registration_settings_that_do_not_fit_are_named(tmp_path: Path, text: str, said: str) -> None:
    """Before anything is registered."""
    (tmp_path / "muleteer.toml").write_text(f"[registration]\n{text}\n")

    assert said in refused(tmp_path)


def test_what_is_released_is_bounded_by_default(tmp_path: Path) -> None:
    """A hundred datasets a day, a day to take each back, and nothing out of a scope of raw data."""
    transient = load(tmp_path).transient

    assert (transient.every, transient.undo) == (timedelta(hours=1), timedelta(hours=24))
    assert (transient.datasets_per_day, transient.bytes_per_day, transient.rse_bytes_per_day) == (100, None, {})
    assert (transient.never, transient.raw_scopes, transient.accounts) == ((), ("raw*",), ())
    assert (transient.disks, transient.proofs) == ({}, 1000)


def test_settings_of_releases(tmp_path: Path) -> None:
    """Caps by RSE, what never leaves, and where the files can be seen."""
    transient = written(
        tmp_path,
        """[transient]
every = 0
undo = "2h"
never = ["*:CALIB-*", "sphenix:golden"]
accounts = ["panda"]
[transient.rse_bytes_per_day]
LUSTRE = 50_000_000_000_000
[transient.disks]
"davs://dcache.example.org:2880/" = "/pnfs/example.org"
""",
    ).transient

    assert (transient.every, transient.undo) == (timedelta(0), timedelta(hours=2))
    assert transient.rse_bytes_per_day == {"LUSTRE": 50 * 10**12}
    assert (transient.never, transient.accounts) == (("*:CALIB-*", "sphenix:golden"), ("panda",))
    assert transient.disks == {"davs://dcache.example.org:2880/": Path("/pnfs/example.org")}


def test_scopes_may_be_raw_but_for_some(tmp_path: Path) -> None:
    transient = written(tmp_path, '[transient]\nraw_scopes = ["*", "!group.*"]\n').transient

    assert transient.raw_scopes == ("*", "!group.*")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('never = ["golden"]', "write scope:name"),
        ('never = [":golden"]', "write scope:name"),
        ('every = "10ms"', "1s is the least"),
        ("datasets_per_day = -1", "transient.datasets_per_day"),
        ("proofs = 0", "transient.proofs"),
        ("rse_bytes_per_day = { A = -1 }", "transient.rse_bytes_per_day"),
        ('rse_bytes_per_day = { "LUSTRE " = 1 }', "would cap nothing"),
        ('rse_bytes_per_day = { "LUS*" = 1 }', "would cap nothing"),
        ('never = ["*:CALIB-* "]', "entry 1: there is white space"),
        ('never = ["a:b", "!a:c"]', "entry 2: '!a:c' begins with a `!`"),
        ('raw_scopes = ["!group.*"]', 'write "*" before them'),
        ('raw_scopes = ["raw*", "!raw.[z-a]"]', "entry 2: 'raw.[z-a]' has a range"),
        ('disks = { "file://" = "data" }', "a directory with its whole path"),
        ('disks = { "" = "/data" }', "write a beginning of PFNs"),
        ('nevr = ["a:b"]', "transient.nevr"),
    ],
)
def test_settings_of_releases_that_do_not_fit_are_named(tmp_path: Path, text: str, said: str) -> None:
    """What was meant to stay must not be misread."""
    (tmp_path / "muleteer.toml").write_text(f"[transient]\n{text}\n")

    assert said in refused(tmp_path)

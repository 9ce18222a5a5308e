"""What the settings say of the store and the broker, in their own terms."""

from __future__ import annotations

from pathlib import Path

from orchestrator.broker.stomp import StompSettings
from orchestrator.settings import Settings, secret


def store_url(settings: Settings, home: Path) -> str:
    """The store's URL; a relative SQLite file lies in the home directory. Raises ConfigurationError."""
    url = secret(settings.store.url, settings.store.url_file, home, "the store's URL") or ""
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/"):
        return f"{prefix}{home.resolve() / url.removeprefix(prefix)}"
    return url


def stomp_settings(settings: Settings, home: Path) -> StompSettings:
    """How to reach the broker; relative files lie in the home directory. Raises ConfigurationError."""
    broker = settings.broker
    hosts = (address.rpartition(":") for address in broker.addresses)
    return StompSettings(
        addresses=tuple((host, int(port)) for host, _, port in hosts),
        destination=broker.destination,
        version=broker.version,
        user=broker.user,
        passcode=secret(broker.passcode, broker.passcode_file, home, "the broker's passcode"),
        tls=broker.tls,
        ca_file=_at(home, broker.ca_file),
        cert_file=_at(home, broker.cert_file),
        key_file=_at(home, broker.key_file),
        selector=broker.selector,
        client_id=broker.client_id,
        subscription_name=broker.subscription_name,
        virtual_host=broker.virtual_host,
        exclusive=broker.exclusive,
        heartbeat=round(broker.heartbeat.total_seconds() * 1000),
        prefetch=broker.prefetch,
    )


def _at(home: Path, file: Path | None) -> Path | None:
    return None if file is None else home / file

"""Where a site's PanDA is, and as which part of its organisation we speak to it."""

from __future__ import annotations

from pathlib import Path

from pydantic import AnyHttpUrl

from orchestrator.panda.port import EngineUnavailable
from schemas.site import Site


def server(url: AnyHttpUrl) -> str:
    """The server of an address: `https://panda.example.org:25443`, whatever path it was given with."""
    return f"{url.scheme}://{url.host}:{url.port}" if url.port else f"{url.scheme}://{url.host}"


def origin(site: Site) -> str:
    """The virtual organisation that we speak for, and whether in its production role."""
    return f"{site.vo}.production" if site.production_role else site.vo


def cache(site: Site) -> AnyHttpUrl:
    """Where packages are kept."""
    return site.cache_url or site.url_ssl


def ca_directory(site: Site) -> Path | None:
    """The CA certificates by which the server is known; None if nothing is secured.

    PanDA's client looks nowhere else: not at the system's certificates, nor at SSL_CERT_FILE.

    Raises EngineUnavailable: there is no such directory.
    """
    secured = [url for url in (site.url, site.url_ssl, cache(site)) if url.scheme == "https"]
    if not secured:
        return None
    if site.ca_directory is None:
        raise EngineUnavailable(
            f"{server(secured[0])} cannot be trusted, so nothing was sent: set ca_directory of the site {site.name!r} "
            "to a hashed directory of CA certificates, for example /etc/grid-security/certificates or /etc/ssl/certs"
        )
    if not site.ca_directory.is_dir():
        raise EngineUnavailable(
            f"ca_directory of the site {site.name!r} is {site.ca_directory}, which is no directory, so nothing was sent"
        )
    return site.ca_directory

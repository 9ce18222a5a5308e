"""Rucio's errors under our names, each with what to do next."""

from __future__ import annotations

import re
from typing import Final

from rucio.common import exception as theirs

from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    DidExists,
    DidNotFound,
    FileDiffers,
    InvalidDid,
    InvalidPfn,
    NotPermitted,
    RseNotFound,
    ScopeNotFound,
)

#: Ours for theirs, and what to do next. The first that fits counts.
_OURS: Final[tuple[tuple[tuple[type[theirs.RucioException], ...], type[CatalogError], str], ...]] = (
    (
        (theirs.AccessDenied, theirs.RSEAccessDenied, theirs.ScopeAccessDenied),
        NotPermitted,
        "whoever runs the catalog gives permissions, or set catalog.account to one that has it",
    ),
    (
        (theirs.InsufficientAccountLimit,),
        NotPermitted,
        "whoever runs the catalog gives the account room at that RSE",
    ),
    ((theirs.DataIdentifierNotFound,), DidNotFound, "it was never made, or it was erased"),
    ((theirs.DataIdentifierAlreadyExists,), DidExists, "choose another name"),
    ((theirs.FileConsistencyMismatch,), FileDiffers, "the first registration stays: it needs a name of its own"),
    ((theirs.ScopeNotFound,), ScopeNotFound, "whoever runs the catalog makes scopes"),
    (
        (theirs.RSENotFound, theirs.InvalidRSEExpression),
        RseNotFound,
        "`rucio rse list` shows those that there are",
    ),
    (
        (theirs.RSEFileNameNotSupported, theirs.InvalidPath, theirs.RSEProtocolNotSupported),
        InvalidPfn,
        "give the PFN as the RSE has it",
    ),
    (
        (
            theirs.ResourceTemporaryUnavailable,
            theirs.ServiceUnavailable,
            theirs.ServerConnectionException,
            theirs.CannotAuthenticate,
        ),
        CatalogUnavailable,
        "try again later",
    ),
)

_LONGEST = 400


def translated(error: theirs.RucioException, what: str) -> CatalogError:
    """Our error for one of Rucio's. `what` was asked: `dataset group.sphenix:RUN-1`."""
    said = words(error)
    if isinstance(error, theirs.UnsupportedOperation):
        return _unsupported(said, what)
    if isinstance(error, theirs.InvalidObject):
        return _invalid(said, what)
    for kinds, ours, next_ in _OURS:
        if isinstance(error, kinds):
            return ours(f"{what}: {said}; {next_}")
    return CatalogError(f"{what}: Rucio says no ({type(error).__name__}): {said}")


def words(error: theirs.RucioException) -> str:
    """What the server said of this case, without what it says of every such case, on one line."""
    general, _, details = str(error).partition("\nDetails: ")
    # a schema is quoted in full behind the sentence that says what is wrong
    said = " ".join((details or general).partition("\n\nFailed validating")[0].split())
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}..."


def _unsupported(said: str, what: str) -> CatalogError:
    if re.search(r"is closed$", said):
        return DatasetClosed(f"{what}: {said}: reopen it before anything is attached")
    if said.startswith("PFN needed"):
        return InvalidPfn(f"{what}: {said}")
    return CatalogError(f"{what}: Rucio cannot do that: {said}")


def _invalid(said: str, what: str) -> CatalogError:
    """A name, or something else that has not the form which this server wants."""
    if re.search(r"does not match|is too long|is too short|should be non-empty", said):
        return InvalidDid(f"{what}: this Rucio server does not take such a name: {said}")
    return CatalogError(f"{what}: Rucio says no: {said}")

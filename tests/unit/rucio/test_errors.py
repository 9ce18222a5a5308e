"""Rucio's errors under our names."""

from __future__ import annotations

import pytest
from rucio.common import exception as theirs

from orchestrator.rucio.client.errors import translated
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

#: As a server of version 41.5.1 said it.
NAME = r"""Problem validating did: 'a+b' does not match '^[/A-Za-z0-9][/A-Za-z0-9\\.\\-_]*$'

Failed validating 'pattern' in schema['properties']['name']:
    {'description': 'Data Identifier name',
     'type': 'string'}

On instance['name']:
    'a+b'"""


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (theirs.AccessDenied("Account x can not add data identifier to scope y"), NotPermitted),
        (theirs.RSEAccessDenied("no"), NotPermitted),
        (theirs.ScopeAccessDenied("no"), NotPermitted),
        (theirs.DataIdentifierNotFound("Data identifier 's5:d' not found"), DidNotFound),
        (theirs.DataIdentifierAlreadyExists("Data Identifier already exists!"), DidExists),
        (theirs.FileConsistencyMismatch("bytes mismatch for 's5:f': 1!=5"), FileDiffers),
        (theirs.ScopeNotFound("Scope not found!"), ScopeNotFound),
        (theirs.RSENotFound("RSE 'NOPE' cannot be found in vo 'def'"), RseNotFound),
        (theirs.InvalidRSEExpression("RSE Expression resulted in an empty set."), RseNotFound),
        (theirs.RSEFileNameNotSupported("Invalid prefix: provided '/x', expected '/y/'"), InvalidPfn),
        (theirs.RSEProtocolNotSupported("No protocol for provided settings found"), InvalidPfn),
        (theirs.InvalidPath("One of the PFNs provided"), InvalidPfn),
        (theirs.UnsupportedOperation("PFN needed for this (non deterministic) RSE X"), InvalidPfn),
        (theirs.UnsupportedOperation("Data identifier 's5:d' is closed"), DatasetClosed),
        (theirs.InvalidObject(NAME), InvalidDid),
        (theirs.ServiceUnavailable("later"), CatalogUnavailable),
        (theirs.ResourceTemporaryUnavailable("X is temporary unavailable for writing"), CatalogUnavailable),
        (theirs.ServerConnectionException(), CatalogUnavailable),
        (theirs.CannotAuthenticate("Cannot authenticate with given credentials"), CatalogUnavailable),
        (theirs.UnsupportedOperation("Self-append is not valid!"), CatalogError),
        (theirs.InvalidObject("Problem validating dids: meta"), CatalogError),
        (theirs.InvalidMetadata('Restricted character "." found'), CatalogError),
        (theirs.DatabaseException("An unknown Database Exception has occurred."), CatalogError),
        (theirs.RucioException("KeyError: 'type' not defined"), CatalogError),
        (theirs.DuplicateRule("x"), CatalogError),
    ],
)
def test_each_gets_a_name_of_ours(error: theirs.RucioException, ours: type[CatalogError]) -> None:
    """That, and nothing more special; the text says what it was about and what the server said."""
    found = translated(error, "dataset group.sphenix:RUN-1")

    assert type(found) is ours
    assert str(found).startswith("dataset group.sphenix:RUN-1: ")


def test_the_text_is_one_line_for_people() -> None:
    """What was wrong and what to do, without schemas and general remarks."""
    assert str(translated(theirs.InvalidObject(NAME), "dataset s5:a b")) == (
        "dataset s5:a b: this Rucio server does not take such a name: Problem validating did: 'a+b' does not match "
        r"'^[/A-Za-z0-9][/A-Za-z0-9\\.\\-_]*$'"
    )
    assert str(translated(theirs.AccessDenied("Account x can not do that"), "dataset s5:d")) == (
        "dataset s5:d: Account x can not do that; whoever runs the catalog gives permissions, or set catalog.account "
        "to one that has it"
    )
    assert len(str(translated(theirs.RucioException("x" * 10_000), "it"))) < 600

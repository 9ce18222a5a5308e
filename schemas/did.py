"""A data identifier of Rucio: a scope and a name."""

from __future__ import annotations

from typing import NamedTuple, Self


class Did(NamedTuple):
    """One DID. It prints as Rucio writes it: `scope:name`."""

    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `scope:name`.

        Raises:
            ValueError: if either half is missing.
        """
        scope, colon, name = text.partition(":")
        if not (scope and colon and name):
            raise ValueError(f"{text!r} is not a DID: write scope:name, for example group.sphenix:RUN-00021615")
        return cls(scope, name)

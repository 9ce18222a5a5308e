"""What a whole history has used up, kept in little room: unique keys, and the waiting rooms of joins."""

from __future__ import annotations

from array import array

from schemas.rule import Join


class Seen:
    """Who had each key first, in 32 bytes a key at most; keys are told apart by 64 bits."""

    def __init__(self) -> None:
        self._used = 0
        self._make(1024)

    def _make(self, size: int) -> None:
        """Room for half as many; `size` is a power of two."""
        self._digests, self._firsts = array("Q", bytes(8 * size)), array("Q", bytes(8 * size))

    def first(self, key: str, who: int) -> int | None:
        """Who had the key first; None if nobody had, and then it is theirs. `who` is above 0."""
        return self._first(hash(key) & 0xFFFF_FFFF_FFFF_FFFF, who)

    def _first(self, digest: int, who: int) -> int | None:
        digests, firsts = self._digests, self._firsts
        last = len(digests) - 1
        place = digest & last
        while first := firsts[place]:
            if digests[place] == digest:
                return first
            place = place + 1 & last
        digests[place], firsts[place] = digest, who
        self._used += 1
        if 2 * self._used > last:
            self._grow()
        return None

    def _grow(self) -> None:
        digests, firsts = self._digests, self._firsts
        self._make(2 * len(digests))
        self._used = 0
        for digest, first in zip(digests, firsts, strict=True):
            if first:
                self._first(digest, first)


class Rooms:
    """The waiting rooms of joins: which slots each has, as bits; a hundred bytes a room or so."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}

    def complete(self, rule: str, join: Join, slot: int, key: str) -> bool:
        """Whether this member completes its room: that happens once. Deadlines and what comes late do not count."""
        room = hash((rule, key))
        before = self._slots.get(room, 0)
        after = self._slots[room] = before | 1 << slot
        return not _enough(join, before) and _enough(join, after)


def _enough(join: Join, slots: int) -> bool:
    present = slots.bit_count()
    waited_for = sum(not slots >> number & 1 and slot not in join.masked for number, slot in enumerate(join.members))
    return present > 0 and present >= min(join.need or len(join.members), present + waited_for)

"""Patterns of paths."""

from __future__ import annotations

import pytest

from orchestrator.core.globs import matches


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a.py", "*.py", True),
        ("deep/a.py", "*.py", False),
        ("deep/a.py", "**/*.py", True),
        ("a.py", "**/*.py", True),
        ("a/b/c", "**", True),
        ("a/b/c", "a", True),
        ("a/b/c", "a/", True),
        ("a/b/c", "a/**", True),
        ("a/b/c", "b", False),
        ("ab", "a", False),
        ("axb", "a.b", False),
        ("a/b.py", "a*py", False),
        ("a/b", "a?b", False),
        ("a7", "a[0-9]", True),
        ("a7", "a[!0-9]", False),
        ("a/x", "a[!0-9]x", False),
        ("a[", "a[", True),
        ("a\nb", "a*b", True),
        ("./a", "a", False),
    ],
)
def test_a_pattern_matches_whole_paths_and_folders(path: str, pattern: str, fits: bool) -> None:
    """A star does not leave its folder, two stars do, and a folder stands for all within it."""
    assert matches(path, pattern) is fits

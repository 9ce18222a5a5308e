"""Site profiles are read from the home, and every mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.init import init
from orchestrator.launch.sites import read_site
from orchestrator.settings import ConfigurationError

PROFILE = """name: bnl
url: http://panda.example.org:25080
url_ssl: https://panda.example.org:25443
vo: sphenix
prefix: group.sphenix
token_file: secrets/token
"""


def written(home: Path, text: str) -> None:
    (home / "sites").mkdir(exist_ok=True)
    (home / "sites" / "bnl.yaml").write_text(text)


def test_paths_of_a_profile_lie_in_the_home(tmp_path: Path) -> None:
    """Unless they are absolute."""
    written(tmp_path, PROFILE + "ca_directory: /etc/certificates\n")

    site = read_site(tmp_path, "bnl")

    assert (site.prefix, site.token_file) == ("group.sphenix", tmp_path / "secrets" / "token")
    assert site.ca_directory == Path("/etc/certificates")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROFILE.replace("vo: sphenix", "vo: SPHENIX"), r"bnl\.yaml:4: vo: "),
        (PROFILE + "pol: 30s\n", r"bnl\.yaml:7: pol: "),
        (PROFILE.replace("name: bnl", "name: other"), r"it is 'other', but the file is called bnl\.yaml"),
        ("name: [", r"bnl\.yaml:"),
    ],
)
def test_a_mistake_is_said_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    """Before anything is sent to anybody."""
    written(tmp_path, text)

    with pytest.raises(ConfigurationError, match=said):
        read_site(tmp_path, "bnl")


def test_a_profile_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    """A slip of the pen is seen at once."""
    written(tmp_path, PROFILE)

    with pytest.raises(ConfigurationError, match=r"no site profile .*bml\.yaml; there are: bnl"):
        read_site(tmp_path, "bml")


def test_the_example_that_comes_with_a_new_home_can_be_read(tmp_path: Path) -> None:
    """What people copy is right."""
    init(tmp_path)

    assert read_site(tmp_path, "example").instance == "testbed"

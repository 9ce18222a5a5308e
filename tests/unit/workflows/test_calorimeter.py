"""The calorimeter workflow: its job scripts, run by hand, and its definition."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from schemas.workflow import Workflow

FOLDER = Path(__file__).parents[3] / "workflows" / "calorimeter"
Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs a job script in the test's directory."""

    def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-B", FOLDER / name, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def raw(script: Script, tmp_path: Path) -> list[Path]:
    """The raw files of run 21615 with 30 events."""
    made = script("make_raw.py", "--run", "21615", "--directory", tmp_path, "--events", "30")
    assert made.returncode == 0, made.stderr
    return sorted(tmp_path.glob("calor_seb*.prdf"))


def reconstruct(script: Script) -> subprocess.CompletedProcess[str]:
    return script("calorimeter.py", "--run", "21615", "--build", "ana381", "--dbtag", "2023p001")


def histograms(directory: Path) -> dict[str, Any]:
    (path,) = directory.glob("HIST_CALO_*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_definition_is_a_workflow() -> None:
    """workflow.yaml is accepted as a workflow of three steps, and its scripts are there and executable."""
    workflow = Workflow.model_validate(YAML(typ="safe").load(FOLDER / "workflow.yaml"))

    assert [step.name for step in workflow.steps] == ["combine", "calorimeter", "links"]
    assert all((FOLDER / step.command[0]).stat().st_mode & 0o111 for step in workflow.steps)


def test_raw_files_can_be_made_again(script: Script, raw: list[Path], tmp_path: Path) -> None:
    """The same run and seed give the same raw files, byte for byte; another seed gives others."""
    for seed in ("1", "2"):
        made = ("--run", "21615", "--directory", tmp_path / seed, "--events", "30", "--seed", seed)
        script("make_raw.py", *made)

    assert [path.name for path in raw] == [f"calor_seb{box:02d}-00021615-0000.prdf" for box in range(6)]
    assert all((tmp_path / "1" / path.name).read_bytes() == path.read_bytes() for path in raw)
    assert all((tmp_path / "2" / path.name).read_bytes() != path.read_bytes() for path in raw)


@pytest.mark.usefixtures("raw")
def test_pions_are_found(script: Script, tmp_path: Path) -> None:
    """From raw files to DSTs no event is lost, and the photon pairs have the mass of the neutral pion."""
    script("combine.py", "--run", "21615")
    reconstruct(script)

    found = histograms(tmp_path)
    assert found["events"] == found["pairs"] == 30
    assert found["mean_mass"] == pytest.approx(0.135, abs=0.002)
    assert sum(found["mass"]["counts"][24:30]) == 30


@pytest.mark.usefixtures("raw")
def test_the_same_run_gives_the_same_files(script: Script, tmp_path: Path) -> None:
    """Running the steps again gives the same bytes, so that a repeated launch registers the same checksums."""
    made = []
    for _ in range(2):
        script("combine.py", "--run", "21615")
        reconstruct(script)
        made.append([path.read_bytes() for path in sorted(tmp_path.glob("DST_*"))])

    assert made[0] == made[1]
    assert len(made[0]) == 2


def test_fragments_of_the_wrong_event_are_noticed_in_the_mass(script: Script, tmp_path: Path) -> None:
    """The mass peak is there only if the fragments of one event are put together."""
    for seed in ("1", "2"):
        script("make_raw.py", "--run", "21615", "--directory", tmp_path / seed, "--events", "30", "--seed", seed)
    for box in range(6):
        name = f"calor_seb{box:02d}-00021615-0000.prdf"
        (tmp_path / name).symlink_to(tmp_path / ("1" if box % 2 else "2") / name)

    script("combine.py", "--run", "21615")
    reconstruct(script)

    assert sum(histograms(tmp_path)["mass"]["counts"][24:30]) < 15


@pytest.mark.usefixtures("raw")
def test_a_missing_event_is_refused(script: Script, tmp_path: Path) -> None:
    """Event building refuses a run in which a box lacks an event, and names both."""
    script("make_raw.py", "--run", "21615", "--directory", tmp_path, "--events", "30", "--lose", "17")

    combined = script("combine.py", "--run", "21615")

    assert combined.returncode == 1
    assert "event 17 is missing in seb05" in combined.stderr
    assert not list(tmp_path.glob("beam_calor*"))


def test_a_missing_box_is_refused(script: Script, raw: list[Path]) -> None:
    """Event building refuses a run with too few files, and names the box that is missing."""
    raw[2].unlink()

    combined = script("combine.py", "--run", "21615")

    assert combined.returncode == 1
    assert "missing: seb02" in combined.stderr


def test_a_damaged_file_is_refused(script: Script, raw: list[Path]) -> None:
    """Event building refuses a file that was cut short or changed, and names it."""
    raw[3].write_bytes(raw[3].read_bytes()[:-100])

    combined = script("combine.py", "--run", "21615")

    assert combined.returncode == 1
    assert f"{raw[3].name} is damaged or cut short" in combined.stderr


@pytest.mark.usefixtures("raw")
def test_files_of_another_run_are_refused(script: Script) -> None:
    """Event building refuses files of a run that it was not asked for."""
    combined = script("combine.py", "--run", "21616")

    assert combined.returncode == 1
    assert "these files are of run 21615, not of run 21616" in combined.stderr


@pytest.mark.usefixtures("raw")
def test_links_lead_to_the_files(script: Script, tmp_path: Path) -> None:
    """The soft links have the official names in a directory for a hundred runs, and replace older ones."""
    script("combine.py", "--run", "21615")
    reconstruct(script)
    for dst in tmp_path.glob("DST_*"):
        dst.rename(f"{dst}.panda1007")

    for _ in range(2):
        script("links.py", "--run", "21615", "--lookup", tmp_path / "gpfs")

    area = tmp_path / "gpfs" / "run_00021600_00021700"
    names = [f"DST_CALO_ana381_2023p001-00021615-000{segment}.root" for segment in range(2)]
    assert sorted(path.name for path in area.iterdir()) == names
    assert [(area / name).readlink() for name in names] == [tmp_path / f"{name}.panda1007" for name in names]
    manifest = [line.split() for line in (tmp_path / "manifest.txt").read_text().splitlines()[1:]]
    assert [(line[0], line[3]) for line in manifest] == [(names[0], "25"), (names[1], "5")]

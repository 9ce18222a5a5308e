"""`muleteer workflow import-shrek`, and shrek's files in a home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Muleteer

PRESSURE = Path(__file__).parents[2] / "data" / "shrek" / "pressure"


@pytest.fixture
def made(home: Path) -> Path:
    """Where the workflow is to be made: in the home's folder of workflows."""
    return home / "workflows" / "pressure"


def test_files_are_imported_with_what_they_name(anywhere: Muleteer, muleteer: Muleteer, made: Path) -> None:
    """The workflow is called as its folder, every remark is said, and the check finds no mistake."""
    said = anywhere("workflow", "import-shrek", str(PRESSURE), "--to", str(made), "--param", "factor=2", "--json")
    checked = muleteer("workflow", "check", "pressure", "--param", "probes=gauges", "--json")

    assert said.code == 0, said.err
    assert (said.json["workflow"], said.json["folder"]) == ("pressure", str(made))
    assert any("report.yaml" in remark and "LocalInit" in remark for remark in said.json["remarks"])
    assert (made / "__Report" / "constants.txt").is_file() and (made / "plugins" / "lines.sh").is_file()
    assert "default: '2'" in (made / "workflow.yaml").read_text()
    assert checked.json["fits"], checked.out


def test_single_files_see_what_lies_beside_them(
    anywhere: Muleteer, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are seen from the working directory, as in shrek, and then from where the file is."""
    monkeypatch.chdir(tmp_path)
    files = [str(PRESSURE / f"{name}.yaml") for name in ("datasets", "collect", "noise", "report")]
    said = anywhere("workflow", "import-shrek", *files, "--to", str(made), "--name", "other")

    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == f"{made}: the workflow other with 3 steps"


def test_mistakes_leave_nothing_behind(anywhere: Muleteer, made: Path, tmp_path: Path) -> None:
    """Each is said with its file and line."""
    shutil.copytree(PRESSURE, tmp_path / "mine")
    count = tmp_path / "mine" / "count.yaml"
    count.write_text(count.read_text().replace("required", "requried"))
    said = anywhere("workflow", "import-shrek", str(tmp_path / "mine"), "--to", str(made))

    assert said.code == 3
    assert "count.yaml:11: OutputDataSets.0.filelist.0: there is no 'requried'; did you mean required?" in said.err
    assert not made.exists() and not list(made.parent.glob(".*"))


def test_a_folder_that_exists_is_left_alone(anywhere: Muleteer, made: Path) -> None:
    """Also when it was imported before."""
    anywhere("workflow", "import-shrek", str(PRESSURE), "--to", str(made))
    (made / "workflow.yaml").write_text("edited")
    said = anywhere("workflow", "import-shrek", str(PRESSURE), "--to", str(made))

    assert said.code == 3 and "name another directory" in said.err
    assert (made / "workflow.yaml").read_text() == "edited"


def test_a_file_that_is_not_there_is_named(anywhere: Muleteer, made: Path) -> None:
    """With no traceback, and nothing made."""
    said = anywhere("workflow", "import-shrek", "no.yaml", "--to", str(made))

    assert said.code == 1 and "no.yaml: No such file" in said.err
    assert not made.exists()


def test_a_folder_of_shreks_files_needs_no_import(muleteer: Muleteer, made: Path) -> None:
    """It is listed and checked by its name like any workflow; what is not as it was stands among the notes."""
    shutil.copytree(PRESSURE, made)
    listed = muleteer("workflow", "list", "--json")
    checked = muleteer("workflow", "check", "pressure", "--param", "probes=a", "--param", "factor=2", "--json")

    assert "pressure" in [row["name"] for row in listed.json]
    assert checked.json["fits"], checked.out
    assert any("report.yaml:2" in finding["message"] for finding in checked.json["findings"])

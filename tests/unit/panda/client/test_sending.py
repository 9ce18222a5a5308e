"""The client's process: its surroundings, its end, and that it takes no secret with it and leaves none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import HIDDEN, Token
from orchestrator.panda.port import EngineInDoubt, EngineRefused, EngineUnavailable
from schemas.site import Site
from tests.services.panda import make_token

TOKEN = make_token()
URL = "http://panda.example.org:25080/some/path"
ARGUMENTS = ("--outDS", "user.shrek.tag")


def _site(**more: object) -> Site:
    return Site.model_validate(
        {"name": "t", "url": URL, "url_ssl": URL, "vo": "sphenix", "prefix": "user.shrek", "submit_timeout": "20s"}
        | more
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "submission").mkdir()
    return tmp_path / "submission"


@pytest.fixture
def instead(tmp_path: Path) -> Callable[..., Sender]:
    """A sender whose Python is a shell script."""

    def make(script: str, *, site: Site | None = None, environment: dict[str, str] | None = None) -> Sender:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        token = Token(None, {"PANDA_AUTH_ID_TOKEN": TOKEN})
        outside = {"PATH": os.environ["PATH"], **(environment or {})}
        return Sender(site or _site(), token, python=str(path), environment=outside, grace=0.3)

    return make


def test_the_client_sees_what_it_needs_and_no_other_secret(
    tmp_path: Path, place: Path, instead: Callable[..., Sender]
) -> None:
    ours = {"HOME": "/h", "LANG": "C.UTF-8", "MULETEER_STORE__URL": "postgresql://u:secret@x", "RUCIO_PASSWORD": "s"}
    sender = instead(
        f"env > {tmp_path}/env; pwd > {tmp_path}/pwd; readlink /proc/$$/fd/0 > {tmp_path}/stdin", environment=ours
    )

    with pytest.raises(EngineInDoubt):
        sender.send("prun", ARGUMENTS, place)

    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {"MULETEER_STORE__URL", "RUCIO_PASSWORD"}.isdisjoint(seen)
    assert (seen["HOME"], seen["LANG"]) == ("/h", "C.UTF-8")
    assert seen["PANDA_URL"] == "http://panda.example.org:25080/server/panda"
    assert seen["PANDA_URL_SSL"] == seen["PANDACACHE_URL"] == seen["PANDA_URL"]
    assert (seen["PANDA_AUTH"], seen["PANDA_AUTH_VO"]) == ("oidc", "sphenix")
    assert (seen["PANDA_AUTH_ID_TOKEN"], seen["PANDA_BEHIND_REAL_LB"]) == (TOKEN, "1")
    assert not Path(seen["PANDA_CONFIG_ROOT"]).is_relative_to(place)
    assert (tmp_path / "pwd").read_text().strip() == str(place)
    assert (tmp_path / "stdin").read_text().strip() == "/dev/null"
    assert not Path(seen["PANDA_CONFIG_ROOT"]).exists(), "nothing of it is left"
    assert list(place.iterdir()) == []


def test_the_receipt_says_what_was_done_whatever_came_of_it(place: Path, instead: Callable[..., Sender]) -> None:
    with pytest.raises(EngineRefused, match="unrecognized arguments: --stage") as refusal:
        instead('echo "prun: error: unrecognized arguments: --stage"; exit 2').send("prun", ARGUMENTS, place, "top")

    receipt = refusal.value.receipt
    assert receipt is not None
    assert (receipt.step, receipt.command, receipt.exit_code) == ("top", ("prun", *ARGUMENTS), 2)
    assert receipt.client.startswith("panda-client 2.")
    assert receipt.started_at <= receipt.ended_at
    assert "--stage" in receipt.output
    assert receipt.verdict is not None
    assert "--stage" in receipt.verdict


def test_a_token_that_the_client_prints_is_taken_out(place: Path, instead: Callable[..., Sender]) -> None:
    """The client prints it in its error for an illegal header; the half of it that a cut leaves is one, too."""
    shouting = "for i in $(seq 1 30000); do echo \"Illegal header value b'Bearer $PANDA_AUTH_ID_TOKEN'\"; done"
    for script in ("echo Bearer $PANDA_AUTH_ID_TOKEN; echo x$PANDA_AUTH_ID_TOKEN >&2", shouting):
        with pytest.raises(EngineInDoubt) as doubt:
            instead(script).send("prun", ARGUMENTS, place)
        receipt = doubt.value.receipt
        assert receipt is not None
        assert HIDDEN in receipt.output
        for part in TOKEN.split("."):
            for start in range(0, len(part) - 12, 4):
                assert part[start : start + 12] not in f"{receipt}{doubt.value}"


def test_output_without_end_is_kept_in_part(place: Path, instead: Callable[..., Sender]) -> None:
    """And a part that is lost leaves doubt, even if the rest looks like an early failure."""
    with pytest.raises(EngineInDoubt) as doubt:
        instead("echo begins; yes 'INFO : upload sandbox' | head -c 5000000; echo ends; exit 50").send(
            "prun", ARGUMENTS, place
        )

    assert doubt.value.receipt is not None
    output = doubt.value.receipt.output
    assert output.startswith("begins")
    assert output.endswith("ends\n")
    assert "[... left out ...]" in output
    assert len(output) < 1_000_000


def test_a_client_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, place: Path, instead: Callable[..., Sender]
) -> None:
    """Also one that does not listen, and its children."""
    script = (
        f"trap '' TERM\nsleep 300 & echo $! > {tmp_path}/child\n"
        'echo "INFO : submit user.shrek.tag/"\nwhile true; do sleep 0.1; done'
    )
    began = time.monotonic()

    with pytest.raises(EngineInDoubt, match="took too long") as doubt:
        instead(script, site=_site(submit_timeout="1s")).send("prun", ARGUMENTS, place)

    assert time.monotonic() - began < 5
    assert doubt.value.receipt is not None
    assert doubt.value.receipt.exit_code == -9
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_no_more_than_so_many_at_the_same_time(tmp_path: Path, place: Path, instead: Callable[..., Sender]) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    sender = instead(
        f"touch {marks}/$$; ls {marks} | wc -l >> {tmp_path}/together; sleep 0.3; rm {marks}/$$", site=_site(parallel=2)
    )

    def one() -> None:
        with pytest.raises(EngineInDoubt):
            sender.send("prun", ARGUMENTS, place)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    together = [int(line) for line in (tmp_path / "together").read_text().split()]
    assert len(together) == 6
    assert max(together) == 2


def test_who_waits_for_too_long_sends_nothing(tmp_path: Path, place: Path, instead: Callable[..., Sender]) -> None:
    """He may be taken for dead meanwhile, and another may send the same."""
    site = _site(parallel=1, submit_timeout="20s", settle="20.4s")
    sender = instead(f"echo >> {tmp_path}/started; sleep 1", site=site)

    def first() -> None:
        with pytest.raises(EngineInDoubt):
            sender.send("prun", ARGUMENTS, place)

    thread = threading.Thread(target=first)
    thread.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)

    with pytest.raises(EngineUnavailable, match="tried again") as refusal:
        sender.send("prun", ARGUMENTS, place)
    thread.join()

    assert (tmp_path / "started").read_text() == "\n"
    assert refusal.value.receipt is not None


def test_a_token_in_the_servers_answer_is_in_no_verdict(place: Path, instead: Callable[..., Sender]) -> None:
    """The client's dump says what the server said, and the verdict quotes it."""
    said = json.dumps({"returnCode": 0, "returnOut": f"task submission failed. bad header: Bearer {TOKEN}"})
    sender = instead(f"cat > \"${{@: -1}}\" <<'END'\n[{said}]\nEND\necho 'INFO : submit user.shrek.tag'")

    with pytest.raises(EngineRefused) as refusal:
        sender.send("prun", ARGUMENTS, place)

    assert refusal.value.receipt is not None
    assert HIDDEN in str(refusal.value.receipt.answer)
    assert TOKEN not in f"{refusal.value}{refusal.value.receipt}"


def test_what_cannot_be_sent_starts_nothing(tmp_path: Path, place: Path) -> None:
    """No CA for https, no token, no directory, no Python: nothing was sent, and sending again is safe."""
    good = Token(None, {"PANDA_AUTH_ID_TOKEN": TOKEN})
    stale = Token(None, {"PANDA_AUTH_ID_TOKEN": make_token(expires=timedelta(seconds=-1))})
    secured = _site(url_ssl="https://panda.example.org:25443")
    for sender, directory, words in (
        (Sender(secured, good), place, "set ca_directory of the site 't'"),
        (Sender(_site(url_ssl="https://x", ca_directory=tmp_path / "no"), good), place, "which is no directory"),
        (Sender(_site(), stale), place, "expired on"),
        (Sender(_site(), good), tmp_path / "absent", "could not be started"),
        (Sender(_site(), good, python="/no/python"), place, "could not be started"),
    ):
        with pytest.raises(EngineUnavailable, match=words) as refusal:
            sender.send("pchain", ARGUMENTS, directory)
        assert refusal.value.receipt is not None
        assert refusal.value.receipt.exit_code is None
        assert refusal.value.receipt.verdict == str(refusal.value)


def test_a_client_that_nobody_watches_any_more_ends_by_itself(
    tmp_path: Path, place: Path, instead: Callable[..., Sender]
) -> None:
    """Killed with kill -9, we cannot end it; it must not hand anything in once its doubt has been settled."""
    sender = instead(f'printf %s "$3" > {tmp_path}/program', site=_site(submit_timeout="500ms"))
    with pytest.raises(EngineInDoubt):
        sender.send("prun", ARGUMENTS, place)
    (tmp_path / "pandaclient").mkdir()
    (tmp_path / "pandaclient" / "__init__.py").touch()
    (tmp_path / "pandaclient" / "PrunScript.py").write_text("import time\ndef main(): time.sleep(60)\n")

    ended = subprocess.run(
        [sys.executable, "-c", (tmp_path / "program").read_text()],
        env={"PYTHONPATH": str(tmp_path)},
        timeout=30,
        check=False,
    )

    assert ended.returncode == -signal.SIGALRM


def test_a_client_dies_with_whoever_started_it(tmp_path: Path, place: Path) -> None:
    """After kill -9 of muleteer nothing is handed in any more, however short a site's `settle` may be."""
    (tmp_path / "pandaclient").mkdir()
    (tmp_path / "pandaclient" / "__init__.py").touch()
    (tmp_path / "pandaclient" / "PrunScript.py").write_text(
        "import os, time\n"
        "def main():\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.')\n"
        "    time.sleep(60)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, TOKEN, str(place), URL],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    try:
        client = psutil.Process(int(_waited(tmp_path / "pid").rstrip(".")))
    finally:
        driver.kill()
        driver.wait()

    _, alive = psutil.wait_procs([client], timeout=10)
    assert alive == []


_DRIVER = """
import sys
from pathlib import Path
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import Token
from schemas.site import Site

site = {"name": "t", "url": sys.argv[3], "url_ssl": sys.argv[3], "vo": "sphenix", "prefix": "user.shrek"}
token = Token(None, {"PANDA_AUTH_ID_TOKEN": sys.argv[1]})
Sender(Site.model_validate(site), token).send("prun", ("--outDS", "user.shrek.tag"), Path(sys.argv[2]))
"""


def _waited(path: Path) -> str:
    """What the file holds, once it is whole."""
    deadline = time.monotonic() + 30
    while not (path.exists() and (text := path.read_text()).endswith(".")):
        assert time.monotonic() < deadline, f"{path} was never written"
        time.sleep(0.02)
    return text

"""Environments of trainers that run elsewhere: made once, by one process, and never used half-made."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from breakeven.baselines.trainers import _environments, _systems
from breakeven.baselines.trainers._environments import REQUIREMENTS, Recipe, ensure, obstacle
from breakeven.baselines.trainers.autotrain import KIND as AUTOTRAIN
from breakeven.baselines.trainers.axolotl import KIND as AXOLOTL
from breakeven.baselines.trainers.unsloth import KIND as UNSLOTH
from breakeven.harness.errors import UserError

HERE = "{}.{}".format(*sys.version_info)
#: A `uv` that writes down how it is called, and makes an environment of one package.
UV = """#!{python}
import os, pathlib, sys, time
with open({calls!r}, "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "venv":
    site = pathlib.Path(sys.argv[-1]) / "lib" / "python3" / "site-packages" / "tuner-1.5.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\\nName: Tuner\\nVersion: 1.5\\n")
elif os.path.exists({fails!r}):
    print("downloading")
    sys.exit("error: no connection to the index")
else:
    time.sleep({slow})
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Of a system called tuner, with the `uv` above."""
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "tuner.txt").write_text("# a comment\nleft-pad==2\ntuner==1.5  # the system\n")
    install_uv(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Recipe("tuner", "tuner", python=HERE, gigabytes=0.001)


def install_uv(folder: Path, slow: float = 0.0) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    text = UV.format(
        python=sys.executable, calls=str(folder / "calls"), fails=str(folder / "fails"), slow=slow
    )
    (folder / "bin" / "uv").write_text(text)
    (folder / "bin" / "uv").chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


def test_it_is_made_once_from_the_pinned_requirements(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.state == "absent"
    made = ensure(recipe)
    assert recipe.state == "ready"
    assert made.versions == {"tuner": "1.5"}
    assert [call.split()[0] for call in calls(tmp_path)] == ["venv", "pip"]
    assert calls(tmp_path)[1].endswith(f"-r {tmp_path / 'tuner.txt'}")
    assert ensure(recipe) == made
    assert len(calls(tmp_path)) == 2


def test_it_lies_in_the_cache_of_the_user_and_not_in_the_project(recipe: Recipe, tmp_path: Path) -> None:
    assert ensure(recipe).folder.parent == tmp_path / "cache" / "environments"


def test_other_pins_make_another_environment(recipe: Recipe, tmp_path: Path) -> None:
    before = ensure(recipe).folder
    (tmp_path / "tuner.txt").write_text("tuner==1.6\n")
    assert recipe.version == "1.6"
    assert ensure(recipe).folder != before


def test_what_cannot_be_used_is_removed_from_it(recipe: Recipe, tmp_path: Path) -> None:
    ensure(Recipe("tuner", "tuner", HERE, 0.001, without=("bitsandbytes",)))
    assert re.fullmatch(r"pip uninstall --python \S+ bitsandbytes", calls(tmp_path)[-1])


def test_a_failed_installation_says_why_and_leaves_nothing(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    with pytest.raises(UserError, match="error: no connection to the index") as error:
        ensure(recipe)
    assert recipe.state == "absent"
    assert "downloading" in Path(str(error.value.file)).read_text()
    (tmp_path / "fails").unlink()
    ensure(recipe)


def test_half_of_one_is_never_used(recipe: Recipe, tmp_path: Path) -> None:
    (recipe.folder / "bin").mkdir(parents=True)
    (recipe.folder / "bin" / "python").write_text("half")
    assert recipe.state == "half-made"
    made = ensure(recipe)
    assert not (made.bin / "python").exists()
    assert len(calls(tmp_path)) == 2


def test_one_whose_making_was_killed_is_made_again(recipe: Recipe, tmp_path: Path) -> None:
    install_uv(tmp_path, slow=600)
    script = (
        "import sys; from pathlib import Path; from breakeven.baselines.trainers import _environments as e\n"
        f"e.REQUIREMENTS = Path({str(tmp_path)!r}); e.ensure(e.Recipe('tuner', 'tuner', {HERE!r}, 0.001))"
    )
    making = subprocess.Popen([sys.executable, "-c", script])
    end = time.monotonic() + 120
    while len(calls(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    making.send_signal(signal.SIGKILL)
    making.wait()
    assert recipe.state == "half-made"
    install_uv(tmp_path)
    ensure(recipe)
    assert recipe.state == "ready"


def test_two_at_once_make_one(recipe: Recipe, tmp_path: Path) -> None:
    install_uv(tmp_path, slow=1.0)
    said: list[str] = []
    threads = [threading.Thread(target=ensure, args=(recipe, said.append)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls(tmp_path)) == 2
    assert any("Another process is setting up tuner" in what for what in said)


def test_venv_and_pip_do_where_there_is_no_uv(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to install, so that it needs no index."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(_environments.shutil, "which", lambda name: None)
    (tmp_path / "tuner.txt").write_text("# tuner==1.5\ntuner==1.5; python_version < '3'\n")
    made = ensure(recipe)
    assert (made.bin / "pip").exists()
    assert not calls(tmp_path)


def test_a_python_that_is_not_there_is_told_with_what_would_help(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_environments.shutil, "which", lambda name: None)
    wrong = Recipe("tuner", "tuner", "3.99", 0.001)
    assert obstacle(wrong) == (
        "its environment needs Python 3.99, which is not on the PATH",
        "install python3.99, or uv, which fetches it",
    )
    with pytest.raises(UserError, match=r"needs Python 3\.99"):
        ensure(wrong)


def test_too_little_disk_is_told_before_anything_is_fetched(recipe: Recipe, tmp_path: Path) -> None:
    big = Recipe("tuner", "tuner", HERE, 1e9)
    with pytest.raises(UserError, match="needs 1000000000 GB of disk"):
        ensure(big)
    assert not calls(tmp_path)


def test_installers_see_their_index_settings_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:token@index.example")
    monkeypatch.setenv("UV_INDEX_COMPANY_PASSWORD", "known to uv")
    told = _environments._installing()
    assert "sesame" not in told.values()
    assert {"PIP_INDEX_URL", "UV_INDEX_COMPANY_PASSWORD"} <= told.keys()


@pytest.mark.parametrize("kind", [AXOLOTL, AUTOTRAIN, UNSLOTH], ids=lambda kind: kind.name)
def test_what_is_pinned_is_what_the_configuration_is_written_for(kind: object) -> None:
    assert kind.recipe.version == _systems.system(kind.name).VERSION  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda file: file.stem)
def test_every_requirement_is_pinned(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 50
    assert all(re.fullmatch(r"[\w.\-]+(\[[\w,\-]+\])?==[^\s;]+(\s*;.*)?", line) for line in lines)


def test_what_says_that_it_is_whole_names_what_is_in_it(recipe: Recipe) -> None:
    record = json.loads((ensure(recipe).folder / "ready.json").read_text())
    assert record["system"] == "tuner 1.5"
    assert record["versions"] == {"tuner": "1.5"}

"""The built wheel keeps to its own names, and what strangers plug in by entry point runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLUGIN = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "acme-breakeven"
        version = "1.0"
        [project.entry-points."breakeven.tasks"]
        weather = "acme_breakeven:weather"
        [project.entry-points."breakeven.strategies"]
        last-word = "acme_breakeven:last_word"
        [tool.setuptools]
        packages = ["acme_breakeven"]
    """,
    "acme_breakeven/__init__.py": '''
        """A task and a strategy of somebody else's."""

        from breakeven.harness.contracts import Prediction
        from breakeven.harness.taskfile import make_task

        ROWS = [{"text": f"{day} it was {w}", "sky": w} for w in ("wet", "dry") for day in
                ("On Monday", "On Tuesday", "Last night", "At noon in Leeds", "In the small hours",
                 "By the sea", "Up on the moor", "When we set out", "As ever", "Sadly", "At last", "In May")]


        def weather():
            return make_task("weather", instructions="Which weather?", input_template="{{ text }}", data=ROWS,
                             columns={"input": "text", "reference": "sky"}, metrics=["accuracy"],
                             choices=["wet", "dry"], sizes={"train": 8, "validation": 4, "test": 12})


        class LastWord:
            varies_with = frozenset()

            def fit(self, brief, train, validation, services):
                return self

            def load(self, folder, brief, services):
                return self

            def save(self, folder):
                pass

            def predict(self, inputs):
                for x in inputs:
                    yield Prediction(x.id, str(x.fields["text"]).split()[-1])


        def last_word():
            return LastWord()
    ''',
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True,
                             text=True, check=True).stdout.split("\n")  # fmt: skip
    for name in filter(None, tracked):  # a copy, so that no build folder appears in the project
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder), str(source)])
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages with the wheel, decoys named like our folders, and a stranger's plug-in."""
    site = tmp_path_factory.mktemp("site")
    _pip_into(site, wheel)
    for decoy in ("tasks", "reports", "harness", "baselines"):
        (site / decoy).mkdir()
        (site / decoy / "__init__.py").write_text("raise ImportError('this is somebody else’s package')\n")
    plugin = tmp_path_factory.mktemp("plugin")
    for name, text in PLUGIN.items():
        import textwrap

        (plugin / name).parent.mkdir(exist_ok=True)
        (plugin / name).write_text(textwrap.dedent(text).lstrip())
    _pip_into(site, plugin)
    return site


def test_the_wheel_puts_nothing_but_breakeven_into_site_packages(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"breakeven"}


def test_the_wheel_carries_data_suites_templates_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "breakeven/harness/py.typed" in names
    assert "breakeven/harness/prices.yaml" in names
    assert "breakeven/baselines/presets.yaml" in names
    assert "breakeven/tasks/suites/quickstart.yaml" in names
    assert any(n.startswith("breakeven/tasks/data/support_intents/") for n in names)
    assert any(n.startswith("breakeven/reports/templates/") for n in names)
    assert not [n for n in names if n.startswith("breakeven/tests")]


def test_the_installed_wheel_runs_beside_decoys(site: Path, tmp_path: Path) -> None:
    _write_suite(tmp_path / "s.yaml", "support_intents: {limits: {test: 20}}", "majority: {}")
    said = _breakeven(site, tmp_path, "run", "s.yaml", "--name", "r")
    assert "majority" in said
    where = _python(site, tmp_path, "import breakeven.tasks as t; print(t.__file__)")
    assert where.startswith(str(site))
    assert (tmp_path / "runs" / "r" / "report.html").stat().st_size > 10_000


def test_a_task_and_a_strategy_of_another_package_run_in_a_suite(site: Path, tmp_path: Path) -> None:
    _write_suite(tmp_path / "s.yaml", "weather: {}", "last-word: {}\n  majority: {}")
    _breakeven(site, tmp_path, "run", "s.yaml", "--name", "r")
    scores = json.loads((tmp_path / "runs/r/cells/weather--last-word/scores.json").read_text())
    assert scores == {"accuracy": 1.0}
    listed = _breakeven(site, tmp_path, "list", "strategies")
    assert "last-word" in listed
    assert "acme-breakeven" in listed


def _write_suite(path: Path, tasks: str, strategies: str) -> None:
    path.write_text(f"suite: s\ntasks:\n  {tasks}\nstrategies:\n  {strategies}\n")


def _pip_into(site: Path, what: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index", "--no-build-isolation"]
    _run([*pip, *alone, "--target", str(site), str(what)])


def _environment(site: Path) -> dict[str, str]:
    """The wheel first, then what it depends on; the editable install's finder is not reached this way."""
    return {
        **os.environ,
        "PYTHONPATH": f"{site}{os.pathsep}{sysconfig.get_path('purelib')}",
        "COLUMNS": "200",
    }


def _breakeven(site: Path, folder: Path, *arguments: str) -> str:
    code = "from breakeven.harness.cli import main; main()"
    return _run([_base_python(), "-c", code, *arguments], cwd=folder, env=_environment(site))


def _python(site: Path, folder: Path, code: str) -> str:
    return _run([_base_python(), "-c", code], cwd=folder, env=_environment(site))


def _base_python() -> str:
    """The interpreter behind the virtual environment, which does not read the environment's .pth files."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)

"""``build_venv.sh``, which every `make` target runs first, with a stand-in for Python that installs nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Behaves like Python but for what would take minutes: `-m venv` copies this file, `-m pip` writes down that it ran.
# NO_VENV plays a Debian without python3-venv, PIP_EXIT a failed download.
STAND_IN = f"""#!/bin/sh
case "$*" in
    *ensurepip*) [ -z "${{NO_VENV:-}}" ] ;;
    *version_info*) exec "{sys.executable}" -c "import sys; sys.version_info = (3, 11, 0); $2" ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    '-m pip '*) echo "$*" >>pip.log; exit "${{PIP_EXIT:-0}}" ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""


class Project:
    """A copy of what the script reads, with the stand-in as the only Python on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("build_venv.sh", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        for package in ("datasets/ser_data", "search", "ser_models"):
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").write_text("")
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.python = self.tools / "python3.11"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def build(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        base = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        path = f"{self.tools}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return subprocess.run(
            ["sh", str(self.folder / "build_venv.sh"), *arguments],
            env={**base, "PATH": path, **environment},
            cwd="/",
            capture_output=True,
            text=True,
        )

    @property
    def installs(self) -> int:
        log = self.folder / "pip.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_missing_venv_is_built_and_a_fresh_one_is_left_alone(project: Project) -> None:
    first = project.build()
    assert first.returncode == 0, first.stderr
    assert "building .venv" in first.stdout
    assert "GB" in first.stdout
    assert "minutes" in first.stdout
    assert "ready" in first.stdout
    second = project.build()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert project.installs == 1


def test_packages_are_installed_under_the_constraints_with_the_extras_for_tests(project: Project) -> None:
    project.build()
    command = (project.folder / "pip.log").read_text()
    assert "-c constraints.txt -e .[sample,dev]" in command


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "datasets/new_corpus/__init__.py"])
def test_a_change_of_what_it_is_made_from_makes_it_stale(project: Project, changed: str) -> None:
    project.build()
    path = project.folder / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n")
    done = project.build()
    assert "up to date" in done.stdout
    assert project.installs == 2
    assert project.build().stdout == ""


def test_a_changed_module_does_not_make_it_stale(project: Project) -> None:
    project.build()
    (project.folder / "search" / "run.py").write_text("print()")
    assert project.build().stdout == ""


def test_a_moved_folder_makes_it_stale(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project.build()
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.copytree(project.folder, moved)
    project.folder = moved
    assert "up to date" in project.build().stdout


def test_a_failed_install_leaves_nothing_that_counts_as_built(project: Project) -> None:
    failed = project.build(PIP_EXIT="1")
    assert failed.returncode == 1
    assert "does not count as built" in failed.stderr
    assert "run the same command again" in failed.stderr
    assert project.build().returncode == 0
    assert project.installs == 2


def test_a_failed_update_makes_a_built_one_stale(project: Project) -> None:
    project.build()
    (project.folder / "constraints.txt").write_text("")
    project.build(PIP_EXIT="1")
    assert project.build().returncode == 0
    assert project.installs == 3


def test_a_broken_venv_is_built_anew(project: Project) -> None:
    project.build()
    (project.folder / ".venv" / "bin" / "python").unlink()
    assert "building .venv" in project.build().stdout


def test_another_version_asked_for_builds_anew(project: Project) -> None:
    project.build()
    other = project.tools / "other"
    other.write_text(STAND_IN.replace("(3, 11, 0)", "(3, 12, 0)"))
    other.chmod(0o755)
    assert "(3.12)" in project.build(PYTHON=str(other)).stdout
    assert project.build(PYTHON=str(other)).stdout == ""


def test_a_python_that_only_has_the_name_is_passed_over(project: Project) -> None:
    project.python.rename(project.tools / "python3.12")
    (project.tools / "python3.11").write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    (project.tools / "python3.11").chmod(0o755)
    assert project.build("--which").stdout == "python3.12\n"


def test_no_supported_python_is_told_with_what_to_install(project: Project) -> None:
    for name in ("python3.11", "python3.12", "python3"):
        (project.tools / name).write_text("#!/bin/sh\nexit 1\n")
        (project.tools / name).chmod(0o755)
    done = project.build()
    assert done.returncode == 1
    assert "no Python 3.11 or 3.12 runs here" in done.stderr
    assert "python3.11-venv" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_a_missing_venv_module_is_told_with_its_package(project: Project) -> None:
    for name in ("python3.12", "python3"):
        shutil.copy(project.python, project.tools / name)
    done = project.build(NO_VENV="1")
    assert done.returncode == 1
    assert "apt install python3.11-venv" in done.stderr
    assert not (project.folder / ".venv").exists()


def test_a_python_variable_that_does_not_fit_is_named(project: Project) -> None:
    done = project.build(PYTHON="/no/such/python")
    assert done.returncode == 1
    assert "PYTHON=/no/such/python does not run as Python 3.11 or 3.12" in done.stderr


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not here: two set-ups are not kept apart")
def test_a_second_set_up_waits_for_the_first(project: Project) -> None:
    held = project.folder / "held"
    first = subprocess.Popen(["flock", str(project.folder / ".venv.lock"), "-c", f"touch '{held}'; sleep 1"])
    while not held.exists():
        assert first.poll() is None
    done = project.build()
    first.wait()
    assert "waiting for it" in done.stdout
    assert done.returncode == 0
    assert project.installs == 1

"""Commands end with one line and the documented exit code."""

import subprocess
import sys

import pytest

from ser_data.command import exit_code
from ser_data.errors import UserError


def test_the_exit_code_of_main_is_passed_on() -> None:
    assert exit_code(len, ["a", "b", "c"]) == 3


def test_a_users_mistake_is_one_line_on_stderr_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: list[str]) -> int:
        raise UserError("no folder x. Give one.")

    assert exit_code(main, []) == 2
    assert capsys.readouterr() == ("", "error: no folder x. Give one.\n")


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: list[str]) -> int:
        raise KeyboardInterrupt

    assert exit_code(main, []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def main(_: list[str]) -> int:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        exit_code(main, [])


def test_a_reader_that_leaves_causes_no_traceback() -> None:
    script = (
        "from ser_data.command import run_command\n"
        "run_command(lambda arguments: [print('line') for _ in range(100_000)] and 0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    process.stderr.close()

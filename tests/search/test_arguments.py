"""The command line: every refusal names the value, what is accepted and the next step."""

from pathlib import Path

import pytest

from search.arguments import SAMPLER_NAMES, SCHEDULER_NAMES, Arguments, encoder_names, parse_arguments
from search.proposals import SAMPLERS
from search.rungs import RULES
from ser_data.errors import UserError


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--space", "nope"], r"--space 'nope' is not known. Known spaces: .*quick"),
        (["--trials", "0"], r"--trials: '0' is not accepted: it takes a whole number from 1 up"),
        (["--trials", "many"], r"--trials: 'many' is not accepted: it takes a whole number"),
        (["--grace", "0"], r"--grace: '0' is not accepted"),
        (["--time-budget", "60"], r"--time-budget '60' is not accepted: .*Example: --time-budget 90m"),
        (["--time-budget", "0m"], r"a time above 0 with its unit"),
        (["--sampler", "tpo"], r"--sampler 'tpo' is not known. Known: tpe, random, gp"),
        (["--scheduler", "pbt"], r"--scheduler 'pbt' is not known. Known: asha, checked-asha, hyperband, median, none"),
        (["--emotions", "happy"], r"--emotions 'happy' is not accepted: .*Example: --emotions happy,sad"),
        (["--emotions", "sad,sad"], r"two or more different emotions"),
        (["--fix", "blocks"], r"--fix 'blocks' is not accepted: it takes NAME=VALUE"),
        (["--seed", "-1"], r"--seed: '-1' is not accepted"),
        (["--cache-gb", "0"], r"--cache-gb: '0' is not accepted: it takes a number above 0"),
        (
            ["--gpus-per-trial", "1.5"],
            r"--gpus-per-trial: '1.5' is not accepted: it takes 0, a share of one GPU, or a w",
        ),
        (["--encoder", "a/x,"], r"--encoder 'a/x,' is not accepted: it takes one network, or several with one comma"),
        (["--encoder", ""], r"--encoder '' is not accepted: it takes one network"),
        (["--encoder", "a/x, b/y, a/x"], r"--encoder a/x, b/y, a/x names a/x twice\. .* Name it once"),
        (["--pretrained", "yes"], r"--pretrained 'yes' is not accepted: it takes 'none' alone. Leave it out"),
        (["--precision", "fp16"], r"--precision 'fp16' is not known. Known: auto, fp32, bf16"),
        (["--cache-precision", "auto"], r"--cache-precision 'auto' is not known. Known: bf16, fp32"),
        (["--resume", "run", "--encoder", "tiny"], r"--encoder cannot be given with --resume"),
        (["--resume", "run", "--pretrained", "none"], r"--pretrained cannot be given with --resume"),
        (["--wandb", "on"], r"--wandb 'on' is not known. Known: online, offline, disabled"),
        (["--resume", "run", "--seed", "3"], r"--seed cannot be given with --resume"),
        (["--spaces", "quick"], r"--help` lists the options"),
    ],
)
def test_bad_input_is_refused_with_what_is_accepted(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_arguments(argv)


def test_options_arrive_as_typed() -> None:
    arguments = parse_arguments(
        ["--space", "mfcc_fast", "--time-budget", "1.5h", "--emotions", "happy,sad", "--fix", "network=cnn",
         "--fix", "blocks=2", "--cpus-per-trial", "auto", "--gpus-per-trial", "0.5", "--out", "x"]
    )  # fmt: skip
    assert arguments == Arguments(
        space="mfcc_fast", time_budget=5400.0, emotions=("happy", "sad"), fix={"network": "cnn", "blocks": "2"},
        gpus_per_trial=0.5, out=Path("x"),
    )  # fmt: skip


def test_names_on_the_command_line_are_those_that_exist() -> None:
    assert set(SAMPLER_NAMES) == set(SAMPLERS)
    assert set(SCHEDULER_NAMES) == set(RULES)


def test_help_tells_every_space_and_what_each_sampler_suits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("mfcc_full", "early stopping starves it", "--resume RUN", "130 interrupted"):
        assert words in text


def test_options_of_encoders_arrive_as_typed() -> None:
    assert parse_arguments([]) == Arguments(encoder=None, pretrained=True, precision="auto", cache_precision="bf16")
    typed = "--encoder some/encoder@abc --pretrained none --precision fp32 --cache-precision fp32"
    assert parse_arguments(typed.split()) == Arguments(
        encoder="some/encoder@abc", pretrained=False, precision="fp32", cache_precision="fp32"
    )


def test_several_encoders_are_separated_by_commas_and_a_folder_may_have_one_in_its_name(tmp_path: Path) -> None:
    assert parse_arguments(["--encoder", "a/x@abc, b/y ,tiny"]).encoder == "a/x@abc,b/y,tiny"
    assert encoder_names("a/x@abc,b/y,tiny") == ("a/x@abc", "b/y", "tiny")
    folder = tmp_path / "mine, fine-tuned"
    folder.mkdir()
    assert encoder_names(str(folder)) == (str(folder),)

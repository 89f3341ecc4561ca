"""The command line of ``search/run.py``: what is accepted, checked before anything heavy is imported."""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.space import check_space_name, known_spaces, space_summary
from ser_data.errors import UserError

SAMPLER_NAMES = ("tpe", "random", "gp", "cmaes", "qmc", "grid")
SCHEDULER_NAMES = ("asha", "checked-asha", "hyperband", "median", "none")
PRECISIONS = ("auto", "fp32", "bf16")
CACHE_PRECISIONS = ("bf16", "fp32")
FOLDS = ("own", "all")
DEFAULT_CACHE = Path("~/.cache/speech-emotion-search")
#: What decides how long and on what a search runs, not what it finds: a resume may give it anew.
CHANGEABLE = (
    "trials", "time_budget", "gpu_hours", "cpus_per_trial", "gpus_per_trial", "max_concurrent", "max_failures",
    "epoch_timeout", "address", "wandb", "cache_dir", "cache_gb", "finalists", "seeds", "folds", "force", "live",
)  # fmt: skip
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Arguments:
    """The options of one command, as given; None where the search decides.

    ``--resume`` is *resume* where it names a folder, and *resume_from* where it is an address.
    """

    space: str = "quick"
    data: str | None = None
    split: str | None = None
    emotions: tuple[str, ...] | None = None
    trials: int | None = None
    time_budget: float | None = None
    gpu_hours: float | None = None
    sampler: str = "tpe"
    scheduler: str = "asha"
    grace: int | None = None
    fix: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    as_trial: int = 0
    out: Path | None = None
    storage: str | None = None
    resume: Path | None = None
    resume_from: str | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    max_failures: int = 1
    epoch_timeout: float | None = 6 * 3600.0
    address: str = "auto"
    cache_dir: Path = DEFAULT_CACHE
    cache_gb: float = 20.0
    wandb: str | None = None
    wandb_project: str = "speech-emotion-search"
    wandb_entity: str | None = None
    encoder: str | None = None
    pretrained: bool = True
    precision: str = "auto"
    cache_precision: str = "bf16"
    finalists: int | None = None
    seeds: int | None = None
    folds: str | None = None
    force: bool = False
    live: bool = False


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read and check the command line.

    Raises:
        UserError: an option's value is not accepted; the message names it, what is accepted and what to do
    """
    given = vars(_parser().parse_args(argv))
    if given["resume"] is not None:
        from_afar = "://" in given["resume"]
        # a machine that has nothing of the search yet may keep its files elsewhere
        allowed = ("resume", *CHANGEABLE, *(("out", "data") if from_afar else ()))
        extra = sorted(name for name, value in given.items() if value is not None and name not in allowed)
        if extra:
            may_change = ", ".join(_option(name) for name in CHANGEABLE)
            raise UserError(
                f"{_option(extra[0])} cannot be given with --resume: a resumed search keeps what it was started with "
                f"(its config.json says). Leave it out; these alone may change: {may_change}."
            )
        if from_afar:
            given["resume_from"] = given.pop("resume")
        else:
            given["resume"] = Path(given["resume"])
    given["fix"] = _pins(given.pop("fix"))
    return Arguments(**{name: value for name, value in given.items() if value is not None})


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # argparse exits here; we raise
        raise UserError(f"{message}. `{self.prog} --help` lists the options.")


def _parser() -> argparse.ArgumentParser:
    names = known_spaces()
    width = max(map(len, names))
    spaces = "\n".join(f"  {name:<{width}}  {space_summary(name)}" for name in names)
    parser = _Parser(
        prog="python search/run.py",
        description="Search for the best speech-emotion model for a budget, judged on speakers it never heard.",
        epilog=f"spaces:\n{spaces}\n\nexit codes: 0 a result, 1 nothing succeeded, 2 bad input, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--space",
        type=_space,
        metavar="NAME",
        help="search space, a file of search/spaces (default: quick); several "
        "separated by commas, or all (one of each family), share the budget: the next trial goes where the prospect "
        "per cost is best",
    )
    add(
        "--data",
        metavar="PATH|sample",
        help="prepared or raw corpus folder or zip, a table clips.csv, or 'sample' for generated speech (default: "
        "$CREMA_D_ROOT, then data/crema_d). A raw one is prepared once, into --cache-dir",
    )
    add("--split", metavar="NAME", help="which speakers train, validate and test (default: the corpus's, tfds)")
    add("--emotions", type=_emotions, metavar="LIST", help="'all' or a subset such as happy,sad (default: all)")
    add(
        "--trials",
        type=_count,
        metavar="N",
        help="configurations in all (default: the space's, or what --time-budget allows)",
    )
    add(
        "--time-budget",
        type=_seconds("--time-budget", "90m"),
        metavar="90m",
        help="wall time, s, m or h; running trials keep their score",
    )
    add(
        "--gpu-hours",
        type=_positive,
        metavar="H",
        help="time of trials' epochs times the GPUs that each takes, in hours; running trials keep their score. "
        "Whichever budget is used up first ends the search",
    )
    add(
        "--sampler",
        type=_one_of("--sampler", SAMPLER_NAMES),
        metavar="NAME",
        help="tpe (default): learns from stopped trials too, good from some 20 trials on. random: the baseline, any "
        "budget. gp: few, long trials with --scheduler none, since it learns from finished trials only and early "
        "stopping starves it. cmaes: hundreds of trials of numbers; choices are drawn at random. qmc: an even cover. "
        "grid: small discrete spaces",
    )
    add(
        "--scheduler",
        type=_one_of("--scheduler", SCHEDULER_NAMES),
        metavar="NAME",
        help="asha (default): keeps the best third at each rung. checked-asha: the same, but some that would be cut "
        "run on, and a rung that ranks trials otherwise than their ends do stops cutting: when early scores may "
        "mislead, from some 20 trials on. hyperband: several graces, likewise. median: gentle. none: every trial runs "
        "to its end",
    )
    add("--grace", type=_count, metavar="EPOCHS", help="epochs before the first rung (default: the space's)")
    add("--fix", action="append", metavar="NAME=VALUE", help="pin a searched parameter; repeatable")
    add(
        "--encoder",
        type=_encoders,
        metavar="ID|DIR|tiny[,…]",
        help="pretrained speech encoder or image backbone: a hub id, ID@REVISION for one revision of it, or a local "
        "folder; tiny is a random one of a few layers, to try a search (default: the space's; spaces over pretrained "
        "networks only, as the three below). A hub id is downloaded once. Several, separated by commas: the search "
        "chooses among them; what is computed once is computed for each, and must fit into --cache-gb together",
    )
    add(
        "--pretrained",
        type=_random_weights,
        metavar="none",
        help="none: the network begins with random weights, marked on every board (default: its pretrained ones). "
        "Costs as much time as pretrained ones",
    )
    add(
        "--precision",
        type=_one_of("--precision", PRECISIONS),
        metavar="NAME",
        help="of the network's arithmetic: fp32, bf16, or auto (default): bf16 where the device computes it fast, as "
        "recent GPUs and CPUs with AMX or AVX512-BF16 do. fp32 takes up to twice the time there",
    )
    add(
        "--cache-precision",
        type=_one_of("--cache-precision", CACHE_PRECISIONS),
        metavar="NAME",
        help="in which frozen layers' outputs are kept in --cache-dir: bf16 (default), or fp32, which takes twice the "
        "disk",
    )
    add(
        "--finalists",
        type=_count,
        metavar="K",
        help="when the search has ended, train its K best configurations again with several seeds, and judge them on "
        "test speakers, once (default: none are); of several spaces the K best of all. Costs K times --seeds full "
        "trainings, beside --time-budget, and --seeds more for each space's default that is not among them",
    )
    add("--seeds", type=_count, metavar="N", help="trainings of each finalist (default: 3)")
    add(
        "--folds",
        type=_one_of("--folds", FOLDS),
        metavar="NAME",
        help="of finalists, where the split is a fold (emo_superb:1, speaker_kfold:5:1): own (default), or all folds, "
        "each trained and judged; costs as many times more",
    )
    add(
        "--force",
        action="store_true",
        default=None,
        help="judge finalists on test speakers once more; every board says so",
    )
    add(
        "--live",
        action="store_true",
        default=None,
        help="serve the run's leaderboard.html on 127.0.0.1 while it runs, refreshed; costs a twentieth of a core",
    )
    add("--seed", type=_seed, metavar="S", help="the one seed that every generator is derived from (default: 0)")
    add(
        "--as-trial",
        type=_whole,
        metavar="N",
        help="count trials from N where their generators are derived (default: 0): with every parameter pinned, trial "
        "N of another search is trained again, epoch by epoch; a row of leaderboard.html gives the command",
    )
    add("--out", type=Path, metavar="DIR", help="results folder (default: runs/SPACE-DATE-TIME)")
    add(
        "--storage",
        metavar="URI",
        help="keep the search below s3://BUCKET/PATH, gs://BUCKET/PATH or a folder of a network mount too, under the "
        "name of its results folder: nodes need no shared folder then, and another machine can go on with it "
        "(default: none, then all nodes must see --out). Costs a request a second, and one for every checkpoint and "
        "new configuration, which a trial waits for",
    )
    add(
        "--resume",
        metavar="RUN",
        help="go on with a search; needs no other option. RUN is its folder, or its address below --storage: then it "
        "is fetched into --out (default: runs/NAME) first",
    )
    add("--cpus-per-trial", type=_auto(_count), metavar="N|auto", help="cores of one trial (default: auto)")
    add(
        "--gpus-per-trial",
        type=_auto(_gpus),
        metavar="N|auto",
        help="GPUs of one trial: 0, 1, or a share such as 0.25, of the memory too. In spaces over speech encoders also "
        "a whole number above 1: so many GPUs of one node train each trial together, for trials that take one GPU too "
        "long; as many trials side by side get more done. auto (default): one where layers are fine-tuned, else the "
        "share that the memory for the space's largest networks comes to, which is measured before the first trial",
    )
    add("--max-concurrent", type=_auto(_count), metavar="N|auto", help="trials at a time (default: what fits)")
    add("--max-failures", type=_whole, metavar="N", help="retries of one trial (default: 1)")
    add(
        "--epoch-timeout",
        type=_seconds("--epoch-timeout", "30m", or_none=True),
        metavar="6h|none",
        help="a trial without an epoch for as long hangs: its process is ended, and it counts as a failure like any "
        "other (default: 6h; s, m or h; the first epoch includes computing features)",
    )
    add("--address", metavar="auto|local|HOST:PORT", help="Ray cluster to join (default: auto)")
    add("--cache-dir", type=Path, metavar="DIR", help=f"prepared data and features (default: {DEFAULT_CACHE})")
    add(
        "--cache-gb",
        type=_positive,
        metavar="GB",
        help="how much the features may take there (default: 20); a cluster's nodes have their copies of corpus and "
        "pretrained networks beside it",
    )
    add(
        "--wandb",
        type=_one_of("--wandb", ("online", "offline", "disabled")),
        metavar="MODE",
        help="online, offline or disabled (default: online if a key is found, else offline)",
    )
    add("--wandb-project", metavar="NAME", help="Weights & Biases project (default: speech-emotion-search)")
    add("--wandb-entity", metavar="NAME", help="Weights & Biases team or user (default: yours)")
    return parser


def _refuse(option: str, value: str, accepted: str, advice: str) -> UserError:
    return UserError(f"{option} '{value}' is not accepted: it takes {accepted}. {advice}")


def _space(text: str) -> str:
    check_space_name(text)
    return text


def _emotions(text: str) -> tuple[str, ...] | None:
    if text == "all":
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise _refuse("--emotions", text, "'all' or two or more different emotions", "Example: --emotions happy,sad")
    return names


def encoder_names(text: str) -> tuple[str, ...]:
    """The pretrained networks that ``--encoder`` names, in their order; a folder with commas in its name goes alone.

    Raises:
        UserError: something between two commas is empty, or named twice
    """
    if text and Path(text).expanduser().is_dir():
        return (text,)
    names = tuple(name.strip() for name in text.split(","))
    example = "Example: --encoder microsoft/resnet-18,microsoft/resnet-34"
    if not all(names):
        raise _refuse("--encoder", text, "one network, or several with one comma between two of them", example)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--encoder {text} names {twice[0]} twice. Accepted are different networks. Name it once.")
    return names


def _encoders(text: str) -> str:
    return ",".join(encoder_names(text))


def _random_weights(text: str) -> bool:
    if text != "none":
        raise _refuse("--pretrained", text, "'none' alone", "Leave it out for pretrained weights")
    return False


def _seconds(option: str, example: str, *, or_none: bool = False) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if or_none and text == "none":
            return 0.0
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
        if match is None or float(match[1]) <= 0:
            accepted = "a time above 0 with its unit" + (", or none" if or_none else "")
            raise _refuse(option, text, accepted, f"Example: {option} {example} (or 30s, 2h)")
        return float(match[1]) * _UNITS[match[2]]

    return convert


def _whole_number(text: str, low: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"'{text}' is not accepted: it takes a whole number from {low} up")
    return value


def _count(text: str) -> int:
    return _whole_number(text, 1)


def _whole(text: str) -> int:
    return _whole_number(text, 0)


def _seed(text: str) -> int:
    return _whole_number(text, 0)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not accepted: it takes a number above 0")
    return value


def _gpus(text: str) -> float:
    value = 0.0 if text in ("0", "0.0") else _positive(text)
    if value > 1 and value != int(value):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not accepted: it takes 0, a share of one GPU, or a whole number of GPUs"
        )
    return value


def _auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """*parse*, with ``auto`` for: the search decides."""

    def convert(text: str) -> Any:
        return None if text == "auto" else parse(text)

    return convert


def _one_of(option: str, names: Sequence[str]) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise UserError(f"{option} '{text}' is not known. Known: {', '.join(names)}. Choose one of them.")
        return text

    return convert


def _pins(fixes: Sequence[str] | None) -> dict[str, str]:
    pins: dict[str, str] = {}
    for fix in fixes or ():
        name, equals, value = fix.partition("=")
        if not (name and equals and value):
            raise _refuse("--fix", fix, "NAME=VALUE", "Example: --fix network=cnn")
        pins[name] = value
    return pins

"""The columns of a board: what each is called, what it says of a row, and whether a phone has room for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search.pages.board_rows import Row
from search.pages.markup import DASH, Part, counted, duration, element, interval, interval_bar, number, size


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: the field of a row that it sorts by
        title: its heading
        help: what it means, for a pointer that rests on it
        show: a row's cell
        group: heading above the heading
        chief: whether a phone shows it too; the others are in the opened row
        words: whether it is sorted as text
    """

    name: str
    title: str
    help: str
    show: Callable[[Row], Part]
    group: str = ""
    chief: bool = False
    words: bool = False


def _score(row: Row, part: str) -> Part:
    value = row[f"{part}_uar"]
    low, high = (row[f"{part}_low"], row[f"{part}_high"]) if part == "val" else (
        row["test_uar_low"], row["test_uar_high"]
    )  # fmt: skip
    if value is None:
        return DASH
    told = element("small", interval(low, high)) if low is not None else None
    return [element("b", number(value)), " ", told, interval_bar(value, low, high)]


def _size(row: Row) -> Part:
    if row["bytes"] is None:
        return DASH
    return size(row["bytes"]) if row["measured_bytes"] else element(
        "span", f"≈ {size(row['bytes'])}", title="four bytes a parameter; only the exported model was measured"
    )  # fmt: skip


def _speed(row: Row) -> Part:
    return DASH if row["speed"] is None else f"{row['speed'] * 1000:.3g} ms/s"


def _cost(row: Row) -> Part:
    return DASH if row["cost"] is None else f"{row['cost']:.3g}"


def _text(name: str) -> Callable[[Row], Part]:
    return lambda row: DASH if row[name] is None else str(row[name])


def _number(name: str) -> Callable[[Row], Part]:
    return lambda row: number(row[name])


def whole(name: str) -> Callable[[Row], Part]:
    """A cell with a whole number."""
    return lambda row: DASH if row[name] is None else f"{int(row[name])}"


def _seconds(name: str) -> Callable[[Row], Part]:
    return lambda row: duration(row[name])


def _counted(name: str) -> Callable[[Row], Part]:
    return lambda row: counted(row[name])


_VAL, _TEST, _COST, _MODEL = "validation", "test", "training", "model"
COLUMNS = (
    Column("rank", "rank", "by validation UAR", whole("rank"), chief=True),
    Column("run", "run", "its folder", lambda row: row.run.name, words=True),
    Column("trial", "trial", "open it for its configuration", _text("trial"), chief=True, words=True),
    Column("status", "status", "stopped: by the scheduler, or by the end of the time", _text("status"), words=True),
    Column("family", "family", "of models", _text("family"), words=True),
    Column("space", "space", "search space", _text("space"), words=True),
    Column("encoder", "encoder", "pretrained network", _text("encoder"), words=True),
    Column("val_uar", "UAR", "unweighted average recall of the best epoch, 95 % interval over speakers",
           lambda row: _score(row, "val"), _VAL, chief=True),
    Column("val_accuracy", "accuracy", "of that epoch", _number("val_accuracy"), _VAL),
    Column("val_macro_f1", "macro-F1", "of that epoch", _number("val_macro_f1"), _VAL),
    Column("val_roc_auc", "ROC-AUC", "of that epoch", _number("val_roc_auc"), _VAL),
    Column("test_uar", "UAR", "of finalists: mean over seeds, 95 % interval over test speakers",
           lambda row: _score(row, "test"), _TEST, chief=True),
    Column("seeds", "seeds", "trainings that were judged on test", whole("seeds"), _TEST),
    Column("epochs", "epochs", "that it reported", whole("epochs"), _COST),
    Column("seconds", "time", "of its epochs", _seconds("seconds"), _COST),
    Column("gpu_seconds", "GPU time", "time of its epochs times the GPUs it had", _seconds("gpu_seconds"), _COST),
    Column("parameters", "parameters", "of the whole network", _counted("parameters"), _MODEL),
    Column("trained", "trained", "parameters that training changed, where others were frozen", _counted("trained"),
           _MODEL),
    Column("bytes", "size", "of its weights; ≈ is four bytes a parameter", _size, _MODEL),
    Column("cost", "GMAC/s", "10⁹ multiply-adds of the network per second of audio", _cost, _MODEL),
    Column("speed", "inference", "milliseconds of computing per second of audio, on a CPU, of the exported model",
           _speed, _MODEL),
)  # fmt: skip


def value_of(row: Row, column: Column) -> Any:
    """What a row is sorted and filtered by in a column, None where it is missing."""
    return row.run.name if column.name == "run" else row[column.name]

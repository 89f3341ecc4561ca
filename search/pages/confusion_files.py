"""The confusion matrix of a finalist as SVG and PNG, for a paper."""

from pathlib import Path

from search.pages.judged import Judged
from search.pages.model_views import confusion_title, figure_name

FOLDER = "figures"
_DOTS_PER_INCH = 200


def write_confusion(run: Path, row: Judged) -> None:
    """Write ``figures/confusion_NAME.svg`` and ``.png`` in a run's folder."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = row.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / totals.clip(min=1)
    side = 1.6 + 0.75 * len(row.emotions)
    # text stays text, and the same figure gives the same file
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": row.name, "font.size": 9}):
        figure = Figure(figsize=(side, side), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for truth in range(len(row.emotions)):
            for said in range(len(row.emotions)):
                axes.text(said, truth, f"{shares[truth, said]:.0%}\n{counts[truth, said]}", ha="center", va="center",
                          color="white" if shares[truth, said] > 0.55 else "black")  # fmt: skip
        names = list(row.emotions)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("said")
        axes.set_ylabel("meant")
        axes.set_title(confusion_title(row).replace(" (", "\n("), fontsize=9)
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        for end in ("svg", "png"):
            path = folder / f"confusion_{figure_name(row)}.{end}"
            unfinished = path.with_name(f".{path.name}.tmp")
            figure.savefig(unfinished, format=end, dpi=_DOTS_PER_INCH, metadata={"Date": None} if end == "svg" else {})
            unfinished.replace(path)

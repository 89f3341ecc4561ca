"""The confusion matrix of a finalist as SVG and PNG, for a paper."""

from pathlib import Path

from search.pages.judged import Judged
from search.pages.model_views import confusion_title, figure_name

FOLDER = "figures"
_DOTS_PER_INCH = 150


def write_confusion(run: Path, row: Judged) -> None:
    """Write ``figures/confusion_NAME.svg`` and ``.png`` in a run's folder."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = row.confusion
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / totals.clip(min=1)
    cells = max(2.25, 0.75 * len(row.emotions))  # inches; around them there is room for names, which are short
    left, bottom, right, top = 1.0, 0.85, 0.15, 0.55
    width, height = left + cells + right, bottom + cells + top
    # text stays text, and the same figure gives the same file
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": row.name, "font.size": 9}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((left / width, bottom / height, cells / width, cells / height))
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

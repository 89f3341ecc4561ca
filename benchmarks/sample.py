"""Generated speech for a benchmark that was given no corpus."""

from pathlib import Path


def prepared_sample(scratch: Path) -> tuple[Path, Path]:
    """Make and prepare the sample corpus in *scratch*: the prepared folder and the folder with its audio."""
    from crema_d.prepare import prepare
    from sample_corpus import generate

    source = generate(scratch / "sample", progress=False)
    return prepare(source, scratch / "prepared", progress=False).folder, source

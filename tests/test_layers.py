"""The import rules of ARCHITECTURE.md and the rules for names and files, each with a proof that its check can fail.

What an import pulls in is read in a fresh process; what the code says is read from its syntax tree. Both are needed:
the first sees through third packages, the second sees imports inside functions, which run late.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = (ROOT, ROOT / "datasets")
DATA = ("ser_data", "crema_d", "sample_corpus")

# layer: (its packages, what they must not import)
LAYERS = {
    "data": (DATA, ("torch.nn", "transformers", "ray", "optuna", "wandb", "ser_models", "search")),
    "models": (("ser_models",), ("ray", "optuna", "wandb", "search")),
}
# The driver opens a corpus before it shows anything, and a worker starts once per core: seconds count in these.
LIGHT = {
    (
        "ser_data.corpus",
        "ser_data.manifest",
        "ser_data.splits",
        "ser_data.waveforms",
        "ser_data.errors",
        "ser_data.seeds",
        "crema_d",
    ): ("torch", "librosa", "sklearn", "scipy", "rich"),
    ("ser_models.pretrained.choice",): ("torch", "transformers", "huggingface_hub"),
    ("ser_models.mfcc.family",): ("transformers", "librosa", "sklearn", "scipy", "audiomentations", "plotly"),
}
# Tensor functions are no models: padding and pooling a batch are the data layer's own business.
ALLOWED_PARTS = ("torch.nn.functional", "torch.nn.utils.rnn")

AUDIO_AND_WEIGHTS = (
    ".wav",
    ".flac",
    ".opus",
    ".ogg",
    ".mp3",
    ".m4a",
    ".i16",
    ".npy",
    ".npz",
    ".pt",
    ".pth",
    ".bin",
    ".safetensors",
    ".ckpt",
    ".onnx",
    ".pkl",
)
LARGEST_TRACKED_FILE = 1_000_000  # bytes


def modules_of(package: str, source_roots: Iterable[Path] = SOURCE_ROOTS) -> Iterator[tuple[str, Path]]:
    """Name and file of every module of *package*."""
    for root in source_roots:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(source: str, module: str) -> set[str]:
    """Dotted names that *source* imports or reaches through an imported name, wherever in the file they stand."""
    nodes = list(ast.walk(ast.parse(source)))
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}  # `torch.nn` of `torch.nn.Linear`
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and id(node) not in inner and (_dotted(node) or "").startswith("torch."):
            found.add(str(_dotted(node)))
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
            and (_dotted(node.func) or "").rpartition(".")[2] in ("import_module", "__import__")
        ):
            found.add(node.args[0].value)
    return found


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def forbidden_in_text(modules: Iterable[tuple[str, Path]], forbidden: Iterable[str]) -> list[str]:
    """``module: import`` for every import that *modules* must not have."""
    return [
        f"{module}: {name}"
        for module, path in modules
        for name in sorted(imports_of(path.read_text(), module))
        if any(is_within(name, package) for package in forbidden)
        and not any(is_within(name, part) for part in ALLOWED_PARTS)
    ]


def loaded_by(modules: Iterable[str], watched: Iterable[str], *, path: Path | None = None) -> set[str]:
    """Which of *watched* are loaded once *modules* are imported in a fresh process.

    Args:
        modules: imported in order
        watched: dotted names
        path: put before everything else on the import path
    """
    script = (
        "import importlib, sys\n"
        f"for name in {list(modules)!r}: importlib.import_module(name)\n"
        f"print('loaded', *[name for name in {list(watched)!r} if name in sys.modules])\n"
    )
    before = [str(path)] if path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*before, *map(str, SOURCE_ROOTS)])}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def shadowing(folder: Path, taken: Iterable[str]) -> list[str]:
    """Modules of *folder* that hide one of *taken* when *folder* comes first on the import path."""
    names = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    return sorted(names & set(taken) - {"__init__", "__pycache__"})


@cache  # reading every installed package's list of files takes a second
def importable_names() -> set[str]:
    """Top-level names of the standard library and of every installed package that is not ours."""
    ours = {*DATA, "search", "ser_models"}
    return (set(sys.stdlib_module_names) | set(packages_distributions()) | {"datasets"}) - ours


def unwanted(tracked: Iterable[tuple[str, int]]) -> list[str]:
    """Names of tracked files that are audio or weights, or too large for a repository. Takes names and bytes."""
    return [name for name, size in tracked if name.lower().endswith(AUDIO_AND_WEIGHTS) or size > LARGEST_TRACKED_FILE]


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_nothing_from_its_right(layer: str) -> None:
    packages, forbidden = LAYERS[layer]
    modules = [entry for package in packages for entry in modules_of(package)]
    assert modules
    assert forbidden_in_text(modules, forbidden) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_loads_nothing_from_its_right(layer: str) -> None:
    packages, forbidden = LAYERS[layer]
    modules = [name for package in packages for name, _ in modules_of(package) if not name.endswith("__main__")]
    # torch itself loads torch.nn: who uses it is for the syntax tree to tell.
    assert loaded_by(modules, [name for name in forbidden if name != "torch.nn"]) == set()


@pytest.mark.parametrize("modules", LIGHT, ids=lambda modules: modules[0])
def test_modules_that_start_everything_stay_light(modules: tuple[str, ...]) -> None:
    assert loaded_by(modules, LIGHT[modules]) == set()


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        ("import wandb", "wandb"),
        ("def late():\n    from ray import tune", "ray"),
        ("import importlib\nimportlib.import_module('optuna')", "optuna"),
        ("from torch import nn", "torch.nn"),
        ("import torch\nlayer = torch.nn.Linear(1, 1)", "torch.nn"),
        ("from ..search import run", "search"),
    ],
)
def test_the_check_of_the_text_can_fail(tmp_path: Path, source: str, forbidden: str) -> None:
    path = tmp_path / "guilty.py"
    path.write_text(source)
    assert forbidden_in_text([("ser_data.guilty", path)], [forbidden])


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn.functional as functional",
        "from torch.nn import functional",
        "import torch\ntorch.nn.functional.pad(torch.ones(2), (0, 1))",
        "import rays",
    ],
)
def test_the_check_of_the_text_leaves_the_innocent_alone(tmp_path: Path, source: str) -> None:
    path = tmp_path / "innocent.py"
    path.write_text(source)
    assert forbidden_in_text([("ser_data.innocent", path)], ["torch.nn", "ray"]) == []


def test_the_check_of_what_is_loaded_can_fail(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("")  # a stand-in: loading the real one proves no more and takes seconds
    (tmp_path / "guilty.py").write_text("import between")
    (tmp_path / "between.py").write_text("import wandb")
    assert loaded_by(["guilty"], ["wandb", "ray"], path=tmp_path) == {"wandb"}


def python_files() -> Iterator[Path]:
    for folder in ("datasets", "ser_models", "search", "tests", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def named_datasets(paths: Iterable[Path]) -> list[str]:
    """Files that import ``datasets``, a name that belongs to Hugging Face's library."""
    return [
        str(path)
        for path in paths
        if any(is_within(name, "datasets") for name in imports_of(path.read_text(), "module"))
    ]


def test_nobody_imports_datasets_by_name() -> None:
    assert named_datasets(python_files()) == []


@pytest.mark.parametrize("source", ["import datasets", "from datasets.crema_d import prepare"])
def test_an_import_of_datasets_is_found(tmp_path: Path, source: str) -> None:
    path = tmp_path / "guilty.py"
    path.write_text(source)
    assert named_datasets([path]) == [str(path)]


def test_datasets_is_a_source_root_and_no_package() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()


def missing_init(folders: Iterable[Path]) -> list[str]:
    """Folders below *folders* that hold modules and no ``__init__.py``: an installed copy would lack them."""
    return [
        str(path)
        for folder in folders
        for path in sorted({file.parent for file in folder.rglob("*.py")})
        if not (path / "__init__.py").exists()
    ]


def test_every_folder_with_modules_is_a_package() -> None:
    assert missing_init(root / package for root in SOURCE_ROOTS for package in (*DATA, "ser_models", "search")) == []


def test_a_folder_without_init_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("")
    assert missing_init([tmp_path]) == [str(tmp_path)]


def test_no_module_of_search_hides_a_library() -> None:
    # `python search/run.py` puts search/ first on the import path, and Ray does the same in every worker.
    assert shadowing(ROOT / "search", importable_names()) == []


@pytest.mark.parametrize("name", ["queue.py", "wandb.py", "ray", "datasets.py"])
def test_a_module_that_hides_a_library_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("")
    assert shadowing(tmp_path, importable_names()) == [name.partition(".")[0]]


def test_no_audio_and_no_weights_are_tracked() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nothing is tracked here")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert unwanted((name, (ROOT / name).stat().st_size) for name in names) == []


@pytest.mark.parametrize(
    "entry", [("data/1001_DFA_ANG_XX.WAV", 10), ("best/model.safetensors", 10), ("docs/page.html", 2_000_000)]
)
def test_tracked_audio_weights_and_large_files_are_found(entry: tuple[str, int]) -> None:
    assert unwanted([entry, ("README.md", 5_000)]) == [entry[0]]

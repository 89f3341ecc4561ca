"""bfloat16 is taken where it is fast, asked for by name, and never reaches the loss."""

import dataclasses

import pytest
import torch

from ser_data.errors import UserError
from ser_models.precision import PRECISIONS, autocast, resolve_precision
from ser_models.training import CheckpointError, Trainer
from tests.models.test_training import SETTINGS, PlainNetwork, learning_data, numbers, saved_and_loaded


def cpu_with(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **capabilities})


def gpu_with(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "fp32"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
)
def test_auto_on_a_cpu_goes_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    cpu_with(monkeypatch, **capabilities)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("fp32", "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"


def test_auto_is_fp32_where_torch_does_not_tell_what_the_cpu_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert resolve_precision("auto", "cpu") == "fp32"


def test_the_installed_torch_tells_what_the_cpu_can() -> None:
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] != "x86_64":
        pytest.skip(f"the names are those of x86_64; this is {capabilities['architecture']}")
    assert {"amx_bf16", "avx512_bf16"} <= set(capabilities)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_auto_on_a_gpu_goes_by_its_compute_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str, device: str
) -> None:
    gpu_with(monkeypatch, capability)
    assert resolve_precision("auto", device) == expected


def test_bf16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_with(monkeypatch, (7, 5))
    with pytest.raises(UserError, match=r"the GPU cuda:0 does not compute in bfloat16\..*8\.0.*Take fp32, or auto"):
        resolve_precision("bf16", "cuda:0")


def test_auto_is_fp32_on_a_device_of_another_kind() -> None:
    assert resolve_precision("auto", "meta") == "fp32"


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Precision 'fp16' is not known\. Known are auto, fp32, bf16\. Take auto"):
        resolve_precision("fp16", "cpu")
    assert PRECISIONS == ("auto", "fp32", "bf16")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_forward_pass_computes_in_the_precision(precision: str, expected: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 2)
    with autocast(precision, torch.device("cpu")):
        assert layer(torch.ones(4, 3)).dtype == expected
    assert layer(torch.ones(4, 3)).dtype == torch.float32


class Watched(PlainNetwork):
    """Keeps the formats of its logits, by whether it was training."""

    def __init__(self) -> None:
        super().__init__()
        self.formats: set[tuple[bool, torch.dtype]] = set()

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        logits = super().forward(inputs, lengths)
        self.formats.add((self.training, logits.dtype))
        return logits


def trainer(precision: str, accumulation: int = 1) -> Trainer:
    settings = dataclasses.replace(SETTINGS, accumulation=accumulation)
    return Trainer(Watched(), settings, learning_data(), seed=0, precision=precision)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_training_and_validation_run_in_bf16_while_weights_and_scores_stay_float32(accumulation: int) -> None:
    run = trainer("bf16", accumulation)
    next(run.run())
    assert run.precision == "bf16"
    assert run.model.formats == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in run.model.parameters()} == {torch.float32}
    assert run.predict_validation().dtype == "float32"


def test_bf16_gives_nearly_the_losses_of_fp32_and_the_same_ones_twice() -> None:
    full, half, again = (list(trainer(precision).run()) for precision in ("fp32", "bf16", "bf16"))
    assert list(map(numbers, half)) == list(map(numbers, again)) != list(map(numbers, full))
    for one, other in zip(full, half, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.02)


def test_auto_is_resolved_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, avx512_bf16=True)
    assert trainer("auto").precision == "bf16"
    cpu_with(monkeypatch)
    assert trainer("auto").precision == "fp32"


def test_without_a_word_a_training_is_fp32() -> None:
    run = Trainer(Watched(), SETTINGS, learning_data(), seed=0)
    next(run.run())
    assert run.precision == "fp32"
    assert {found for _, found in run.model.formats} == {torch.float32}


def test_a_training_in_bf16_is_resumed_with_the_same_numbers_and_in_fp32_not_at_all() -> None:
    straight, first, second = (trainer("bf16", accumulation=3) for _ in range(3))
    next(first.run())
    second.load_state(saved_and_loaded(first.state()))
    assert [numbers(result) for result in straight.run()] == [
        numbers(result) for result in (*second.history, *second.run())
    ]
    with pytest.raises(UserError, match="The checkpoint has precision 'bf16'; this trial has 'fp32'"):
        trainer("fp32", accumulation=3).load_state(first.state())


CAPABILITIES: dict[str, dict[str, bool]] = {"fp32": {}, "bf16": {"avx512_bf16": True}}  # of CPUs, by what auto is there


@pytest.mark.parametrize(("begun", "here"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_training_of_auto_goes_on_elsewhere_in_the_precision_that_it_began_with(
    monkeypatch: pytest.MonkeyPatch, begun: str, here: str
) -> None:
    expected = [numbers(result) for result in trainer(begun).run()]
    cpu_with(monkeypatch, **CAPABILITIES[begun])
    first = trainer("auto")
    next(first.run())
    cpu_with(monkeypatch, **CAPABILITIES[here])
    second = trainer("auto")
    assert second.precision == here
    second.load_state(saved_and_loaded(first.state()))
    assert second.precision == begun
    assert [numbers(result) for result in (*second.history, *second.run())] == expected
    assert {found for _, found in second.model.formats} == {torch.bfloat16 if begun == "bf16" else torch.float32}
    assert second.state()["precision"] == begun  # so it may move on once more
    cpu_with(monkeypatch, **CAPABILITIES[begun])
    trainer("auto").load_state(saved_and_loaded(second.state()))


@pytest.mark.parametrize(("begun", "asked"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_precision_that_was_asked_for_by_name_takes_up_no_state_of_another(begun: str, asked: str) -> None:
    first = trainer(begun)
    next(first.run())
    other = trainer(asked)
    with pytest.raises(
        CheckpointError,
        match=f"The checkpoint has precision '{begun}'; this trial has '{asked}'.*Remove the checkpoint",
    ):
        other.load_state(saved_and_loaded(first.state()))
    assert (other.precision, other.epoch) == (asked, 0)


@pytest.mark.parametrize("found", ["auto", "fp8", None])
def test_auto_takes_up_no_state_whose_precision_is_none(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    cpu_with(monkeypatch)
    first = trainer("auto")
    next(first.run())
    with pytest.raises(CheckpointError, match=f"The checkpoint has precision {found!r}; this trial has 'fp32'"):
        trainer("auto").load_state({**first.state(), "precision": found})

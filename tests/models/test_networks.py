"""Every network learns, and a clip's logits are its own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ser_models.masked_layers import MaskedBatchNorm, halve_time
from ser_models.mel.architecture import NETWORKS as MEL_NETWORKS
from ser_models.mel.autoencoder import MelAutoencoder
from ser_models.mel.networks import MelCnn, MelCrnn, ParallelCnn
from ser_models.mfcc.layers import ConvBlock, stack_frames
from ser_models.mfcc.networks import NETWORKS as MFCC_NETWORKS
from ser_models.recurrent import BidirectionalLstm

DIM, NUM_CLASSES = 6, 4
NETWORKS = {
    **MFCC_NETWORKS,
    "mel_cnn": MelCnn,
    "mel_cnn_plain": MelCnn,
    "parallel_cnn": ParallelCnn,
    "mel_crnn": MelCrnn,
}

SIZES: dict[str, dict[str, Any]] = {
    "statistics_mlp": {"hidden_units": 32, "hidden_layers": 2},
    "bilstm": {"hidden_units": 12, "recurrent_layers": 2, "pooling": "mean"},
    "cnn": {"channels": 16, "blocks": 3, "kernel_size": 5, "pooling": "statistics"},
    "crnn": {
        "channels": 16, "blocks": 2, "kernel_size": 3,
        "hidden_units": 12, "recurrent_layers": 1, "pooling": "attention",
    },
    "crnn_attention": {"channels": 16, "blocks": 2, "kernel_size": 3, "hidden_units": 12, "recurrent_layers": 2},
    "mel_cnn": {
        "channels": 3, "width": 8, "blocks": 2, "kernel_size": 3, "batch_norm": True, "pooling": "statistics",
    },
    "mel_cnn_plain": {
        "channels": 1, "width": 8, "blocks": 1, "kernel_size": 5, "batch_norm": False, "pooling": "max",
    },
    "parallel_cnn": {
        "channels": 1, "width": 4, "blocks": 2, "kernel_size": 3, "batch_norm": True, "pooling": "attention",
    },
    "mel_crnn": {
        "channels": 1, "width": 8, "blocks": 1, "kernel_size": 3, "batch_norm": True, "pooling": "mean",
        "hidden_units": 12, "recurrent_layers": 1,
    },
}  # fmt: skip


def dim_of(name: str) -> int:
    """Columns of a frame: the mel networks read bands, of which each block halves the number."""
    return 8 * SIZES[name]["channels"] if "batch_norm" in SIZES[name] else DIM


def build(name: str, *, dropout: float = 0.3, activation: str = "gelu") -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name](dim_of(name), NUM_CLASSES, **SIZES[name], activation=activation, dropout=dropout)


def clips(name: str, number: int) -> list[torch.Tensor]:
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 40, number) if name != "statistics_mlp" else np.ones(number, int)
    return [torch.from_numpy(generator.normal(size=(length, dim_of(name))).astype(np.float32)) for length in lengths]


def padded(some: list[torch.Tensor], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = nn.utils.rnn.pad_sequence(some, batch_first=True)
    return nn.functional.pad(inputs, (0, 0, 0, extra)), torch.tensor([len(clip) for clip in some])


def test_every_network_has_sizes_here() -> None:
    assert SIZES.keys() == NETWORKS.keys()
    assert {type_ for type_ in MEL_NETWORKS.values() if type_ is not MelAutoencoder} <= set(NETWORKS.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_do_not_depend_on_what_shares_the_batch(name: str) -> None:
    network, some = build(name), clips(name, 9)
    network.train()
    network(*padded(some))  # running statistics that are not their defaults
    network.eval()
    with torch.no_grad():
        together = network(*padded(some, extra=0 if name == "statistics_mlp" else 13))
        for row, clip in enumerate(some):
            torch.testing.assert_close(network(*padded([clip]))[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_does_not_see_how_much_padding_there_is(name: str) -> None:
    gradients = []
    for extra in (0, 0 if name == "statistics_mlp" else 16):
        network = build(name, dropout=0.0)
        network.train()
        network(*padded(clips(name, 9), extra=extra)).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients[-1])
    for few, many in zip(*gradients, strict=True):
        torch.testing.assert_close(few, many, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_overfit_32_clips(name: str) -> None:
    network, some = build(name, dropout=0.0), clips(name, 32)
    labels = torch.arange(32) % NUM_CLASSES
    inputs, lengths = padded(
        [clip + 0.5 * torch.eye(NUM_CLASSES, dim_of(name))[label] for clip, label in zip(some, labels, strict=True)]
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    network.train()
    for _ in range(100):
        loss = nn.functional.cross_entropy(network(inputs, lengths), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        assert (network(inputs, lengths).argmax(dim=1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "elu"])
def test_activation_and_dropout_reach_every_network(name: str, activation: str) -> None:
    some = padded(clips(name, 4))
    usual, changed = build(name, activation="gelu"), build(name, activation=activation)
    changed.load_state_dict(usual.state_dict())
    usual.eval(), changed.eval()
    assert torch.equal(usual(*some), changed(*some)) == (activation == "gelu")
    usual.train()
    assert not torch.equal(usual(*some), usual(*some))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_one_clip_of_one_frame_trains(name: str) -> None:
    network = build(name)
    network.train()
    network(torch.randn(1, 1, dim_of(name)), torch.tensor([1])).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("hidden_units", [4, 5, 7])
def test_attention_takes_any_number_of_hidden_units(hidden_units: int) -> None:
    sizes = {**SIZES["crnn_attention"], "hidden_units": hidden_units}
    network = NETWORKS["crnn_attention"](DIM, NUM_CLASSES, **sizes, activation="relu", dropout=0.0)
    assert network(torch.randn(2, 9, DIM), torch.tensor([9, 4])).shape == (2, NUM_CLASSES)


def test_masked_batch_norm_is_torchs_on_the_real_frames() -> None:
    lengths = [7, 3, 1]
    frames = torch.randn(3, DIM, 7) * 3 + 1
    mask = torch.zeros(3, 1, 7)
    for row, length in enumerate(lengths):
        mask[row, :, :length] = 1
    frames = frames * mask
    inside = mask[:, 0].bool()
    ours, torchs = MaskedBatchNorm(DIM), nn.BatchNorm1d(DIM)
    for _ in range(2):
        got = ours(frames, mask).transpose(1, 2)
        expected = torchs(frames.transpose(1, 2)[inside])
        torch.testing.assert_close(got[inside], expected, atol=1e-5, rtol=1e-4)
        assert (got[~inside] == 0).all()
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    # torch keeps the unbiased variance for later and uses the biased one now; ours uses the biased one for both.
    torch.testing.assert_close(ours.running_var, torchs.running_var, rtol=0.1, atol=0)
    ours.eval(), torchs.eval()
    torchs.running_var.copy_(ours.running_var)
    got = ours(frames, mask).transpose(1, 2)
    torch.testing.assert_close(got[inside], torchs(frames.transpose(1, 2)[inside]), atol=1e-5, rtol=1e-4)
    assert (got[~inside] == 0).all()


def test_the_two_way_lstm_is_torchs_on_packed_clips() -> None:
    lengths = torch.tensor([8, 3, 5])
    frames = torch.randn(3, 8, DIM)
    ours = BidirectionalLstm(DIM, 5, 2, dropout=0.0)
    torchs = nn.LSTM(DIM, 5, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for layer in range(2):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(torchs, f"{name}_l{layer}").copy_(getattr(ours.forwards[layer], f"{name}_l0"))
                getattr(torchs, f"{name}_l{layer}_reverse").copy_(getattr(ours.backwards[layer], f"{name}_l0"))
    packed = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(torchs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(frames, lengths), expected, atol=1e-6, rtol=1e-5)


def test_halving_takes_the_mean_of_two_frames_and_an_odd_last_one_as_it_is() -> None:
    frames = torch.tensor([[[2.0, 4.0, 6.0, 8.0, 10.0]], [[2.0, 4.0, 6.0, 0.0, 0.0]]])
    halved, lengths = halve_time(frames, torch.tensor([5, 3]))
    assert halved.tolist() == [[[3.0, 7.0, 10.0]], [[3.0, 6.0, 0.0]]]
    assert lengths.tolist() == [3, 2]


def test_stacked_frames_stand_side_by_side() -> None:
    frames = torch.arange(10.0).reshape(1, 5, 2)
    stacked, lengths = stack_frames(frames, torch.tensor([5]), 2)
    assert stacked.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]]
    assert lengths.tolist() == [3]


def test_a_convolution_block_leaves_padding_zero() -> None:
    block = ConvBlock(4, 3, "elu", 0.0, halve=True)
    frames, lengths = block(torch.nn.functional.pad(torch.randn(2, 4, 6), (0, 5)), torch.tensor([6, 6]))
    assert lengths.tolist() == [3, 3]
    assert (frames[:, :, 3:] == 0).all()


def test_masked_batch_norm_of_bands_and_frames_is_torchs_on_clips_of_one_length() -> None:
    maps = torch.randn(4, DIM, 5, 7) * 3 + 1
    ours, torchs = MaskedBatchNorm(DIM), nn.BatchNorm2d(DIM)
    torch.testing.assert_close(ours(maps, torch.ones(4, 1, 1, 7)), torchs(maps), atol=1e-5, rtol=1e-4)


def test_halving_time_takes_bands_along() -> None:
    frames, lengths = torch.randn(2, 3, 4, 5), torch.tensor([5, 3])
    frames[1, :, :, 3:] = 0
    halved, _ = halve_time(frames, lengths)
    for band in range(4):
        assert torch.equal(halved[:, :, band], halve_time(frames[:, :, band], lengths)[0])

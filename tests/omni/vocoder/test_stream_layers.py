"""Layer by layer: what is made in pieces is what is made at once, and no more of it than needed."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from omni.vocoder import Vocoder
from omni.vocoder.spectrum import Spectrum
from omni.vocoder.stream_layers import SameConv, Signal, Upsampling, align
from tests.omni.vocoder.test_vocoder_streaming import UNITS, VOCODERS, every

LAYERS = {
    "same": SameConv(3, 4, 5, dilation=2),
    "same in float64": SameConv(3, 4, 5, dilation=2).double(),
    "causal": SameConv(3, 4, 3, dilation=3, causal=True),
    "a point": SameConv(3, 4, 1),
    "upsampling": Upsampling(3, 2, 11, 5),
    "upsampling without overlap": Upsampling(3, 2, 4, 4),
    "upsampling with much overlap": Upsampling(3, 2, 9, 1),
}
layers = pytest.mark.parametrize("name", LAYERS)
SPLITS = [[1] * 12, [5, 7], [12], [2, 0, 9, 1], [11, 1]]


def inputs(name: str, rows: int = 1) -> Tensor:
    return torch.randn(rows, 3, 12, dtype=LAYERS[name].weight.dtype)


def pieces(x: Tensor, sizes: list[int]) -> list[Signal]:
    parts = x.split(sizes, dim=-1)
    signals = [Signal(part, part.shape[-1], None) for part in parts]
    return [*signals[:-1], Signal(parts[-1], sizes[-1], 0)]


@layers
@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@torch.no_grad()
def test_a_layer_in_pieces_gives_what_it_gives_at_once(name: str, sizes: list[int]) -> None:
    layer, x = LAYERS[name], inputs(name, rows=2)
    state, made = layer.initial_state(2), []
    for signal in pieces(x, sizes):
        y, state = layer.step(signal, state, None if signal.missing is None else 0)
        made.append(y.values)
        assert y.missing in (None, 0)
    torch.testing.assert_close(torch.cat(made, dim=-1), layer(x), atol=1e-6, rtol=0)


@layers
@pytest.mark.parametrize("spare", range(7))
@torch.no_grad()
def test_a_layer_leaves_out_what_is_spared_and_needs_no_input_that_only_that_reads(
    name: str, spare: int
) -> None:
    layer, x = LAYERS[name], inputs(name)
    whole = layer(x)
    first, rest = x[..., :5], x[..., 5:]
    before, state = layer.step(Signal(first, 5, None), layer.initial_state(1), None)
    missing = layer.spare_before(spare)
    assert missing is not None
    needed = rest[..., : rest.shape[-1] - missing]
    y, after = layer.step(Signal(needed, needed.shape[-1], missing), state, spare)
    together = torch.cat([before.values, y.values], dim=-1)
    assert together.shape[-1] + y.missing == whole.shape[-1] and y.missing <= spare
    torch.testing.assert_close(together, whole[..., : together.shape[-1]], atol=1e-6, rtol=0)
    # What would be at the end was not remembered: other inputs may follow.
    if missing == 0:
        longer = torch.cat([x, x[..., :6]], dim=-1)
        more, _ = layer.step(Signal(longer[..., 12:], 6, 0), after, 0)
        final = torch.cat([before.values, y.values[..., : y.final], more.values], dim=-1)
        torch.testing.assert_close(final, layer(longer), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sizes", [[48, 48, 96], [5, 11, 80, 96], [192]], ids=str)
@torch.no_grad()
def test_a_spectrum_in_pieces_is_that_of_the_whole_and_goes_back(sizes: list[int]) -> None:
    spectrum, signal = Spectrum(64, 16), torch.randn(1, 2, 192)
    columns, back = spectrum.stft(signal), spectrum.istft(spectrum.stft(signal)[:, :66])
    kept, late = spectrum.stft_initial_state(1, 2), spectrum.istft_initial_state(1)
    made, sound = [], []
    for piece in pieces(signal, sizes):
        spare = None if piece.missing is None else 0
        y, kept = spectrum.stft_step(piece, kept, spare)
        z, late = spectrum.istft_step(y.map(lambda values: values[:, :66]), late, spare)
        made.append(y.values)
        sound.append(z.values[:, 0])
    torch.testing.assert_close(torch.cat(made, dim=-1), columns, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(sound, dim=-1), back, atol=1e-5, rtol=0)


def test_a_dilated_convolution_of_doubles_is_that_of_torch() -> None:
    layer, x = SameConv(3, 4, 5, dilation=2).double(), torch.randn(2, 3, 12).double()
    torch.testing.assert_close(layer(x), nn.Conv1d.forward(layer, x))


def test_signals_that_lag_differently_wait_for_each_other() -> None:
    a, b = torch.arange(6.0)[None, None], torch.arange(10.0, 16.0)[None, None]
    nothing = torch.zeros(1, 1, 0)
    (x, y), waiting = align(
        (Signal(a[..., :4], 4, None), Signal(b[..., :1], 1, None)), (nothing, nothing)
    )
    assert (x.values.tolist(), y.values.tolist()) == ([[[0.0]]], [[[10.0]]])
    (x, y), waiting = align((Signal(a[..., 4:], 2, 0), Signal(b[..., 1:], 3, 0)), waiting)
    assert x.values.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert y.values.flatten().tolist() == [11.0, 12.0, 13.0, 14.0, 15.0]
    assert (x.final, y.final) == (3, 3)
    assert [len(rest.flatten()) for rest in waiting] == [2, 0]


def frames(count: int, rows: int = 1) -> Tensor:
    return torch.randint(0, UNITS, (rows, count), generator=torch.Generator().manual_seed(7))


@every
@torch.inference_mode()
def test_all_but_the_right_context_is_final(kind: str) -> None:
    vocoder = VOCODERS[kind]
    signal, _ = vocoder.step(frames(40), vocoder.initial_state())
    right = vocoder.right_context_frames
    assert (40 - right) * 320 <= signal.final == signal.length < (41 - right + 1) * 320


@every
@torch.inference_mode()
def test_rows_of_a_batch_do_not_hear_each_other(kind: str) -> None:
    vocoder, units = VOCODERS[kind], frames(70, rows=3)
    state, alone = vocoder.initial_state(3), [vocoder.initial_state() for _ in range(3)]
    for begin, end in ((0, 30), (30, 37), (37, 70)):
        spare = 0 if end == 70 else None
        together, state = vocoder.step(units[:, begin:end], state, spare_frames=spare)
        for row in range(3):
            one, alone[row] = vocoder.step(
                units[row : row + 1, begin:end], alone[row], spare_frames=spare
            )
            torch.testing.assert_close(together.values[row], one.values[0], atol=1e-5, rtol=0)


def operations(vocoder: Vocoder, lengths: list[int], spare: int | None = None) -> int:
    """Of a reply of these steps, the last of which ends it."""
    state, units = vocoder.initial_state(), frames(sum(lengths))
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        for number, part in enumerate(units.split(lengths, dim=1), 1):
            ends = number == len(lengths)
            _, state = vocoder.step(part, state, spare_frames=0 if ends else spare)
    return counted.get_total_flops()


@every
def test_a_reply_in_steps_costs_hardly_more_than_the_whole(kind: str) -> None:
    vocoder = VOCODERS[kind]
    whole = operations(vocoder, [160])
    assert operations(vocoder, [16] * 10) < 1.1 * whole
    assert operations(vocoder, [4] * 40) < 1.3 * whole


@every
def test_the_end_of_a_cut_chunk_costs_no_more_than_the_frames_behind_the_final_ones(
    kind: str,
) -> None:
    vocoder = VOCODERS[kind]
    whole, right = operations(vocoder, [160]), vocoder.right_context_frames
    each_frame = whole / 160
    for spare in (0, right // 2):
        more = operations(vocoder, [16] * 10, spare) - operations(vocoder, [16] * 10)
        assert more < 9 * (right - spare + 1) * each_frame


@every
@torch.inference_mode()
def test_weights_of_half_the_width_stream_as_they_sound_whole(kind: str) -> None:
    vocoder = type(VOCODERS[kind])(VOCODERS[kind].config).eval()
    vocoder.load_state_dict(VOCODERS[kind].state_dict())
    vocoder.to(torch.bfloat16)
    units, state, made = frames(60), vocoder.initial_state(), []
    whole = vocoder.synthesize(units[0])
    for begin in range(0, 60, 20):
        spare = 0 if begin == 40 else None
        signal, state = vocoder.step(units[:, begin : begin + 20], state, spare_frames=spare)
        made.append(signal.values[0])
    assert whole.dtype == torch.float32
    torch.testing.assert_close(torch.cat(made), whole, atol=0.02, rtol=0)


def test_kept_inputs_hold_no_more_memory_than_they_need() -> None:
    layer = SameConv(3, 4, 5)
    _, kept = layer.step(Signal(torch.randn(1, 3, 5000), 5000, None), layer.initial_state(1), None)
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()
    assert isinstance(layer, nn.Conv1d)

"""What the benchmark of latency is made of: the reference, the clocks, the check, the floor."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from omni.products import one_dnn
from omni.values import Frames
from omni.vocoder import parse_schedule, vocode
from omni.vocoder.packing import PackedWeight
from serve.bench.latency.agreement import check_same, may_spell
from serve.bench.latency.answer import Answer, Asked, clock_of
from serve.bench.latency.asking import PIECE, Live, Ours, pieces
from serve.bench.latency.floor import Speed, flop_counter, weight_bytes
from serve.bench.latency.measuring import token_ms
from serve.bench.latency.question import speech
from serve.bench.latency.reference import Reference, chunk_ends
from serve.bench.latency.report import Row, Span, Table, Waterfall
from serve.bench.latency.sizes import SIZES, Subject, build, parts_of, variant
from serve.bench.latency.stages import _Call, waterfall

CPU = torch.device("cpu")
CLOCK = clock_of(CPU)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build(SIZES["tiny"], CPU, torch.float32)


def asked(seconds: float = 0.6, seed: int = 0, units: str | None = "5", tokens: int = 6) -> Asked:
    schedule = None if units is None else parse_schedule(units)
    return Asked(waveform=speech(seconds, seed), schedule=schedule, tokens=tokens)


def test_a_model_of_the_published_sizes_has_the_published_parameters() -> None:
    big = build(SIZES["8b"], torch.device("meta"), torch.bfloat16)
    numbers = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in parts_of(big.model).items()
    }
    steps = 25 * 4096  # the vectors that tell the steps of a state apart are not published
    assert numbers["language_model"] == 8_030_261_248
    assert numbers["unit_decoder"] == 425_649_129 + steps
    assert numbers["speech_adapter"] == 21_501_952
    assert big.model.language_model.dtype == torch.bfloat16
    assert big.model.vocoder is not None and big.model.vocoder.dict.weight.dtype == torch.float32


def test_another_question_gets_another_answer(subject: Subject) -> None:
    for way in (Reference(subject, CLOCK), Ours(subject, CLOCK)):
        one, other = (way.ask(asked(seed=seed)) for seed in (0, 1))
        assert one.token_ids != other.token_ids and one.units != other.units


def test_a_reply_is_as_long_as_it_is_asked_to_be(subject: Subject) -> None:
    for way in (Reference(subject, CLOCK), Ours(subject, CLOCK)):
        assert len(way.ask(asked(tokens=9)).token_ids) == 9


def test_variants_hear_otherwise_and_share_every_weight(subject: Subject) -> None:
    padded, blocks = variant(subject, pad_to_window=True), variant(subject, block_frames=10)
    for other in (padded, blocks):
        own, theirs = subject.model.state_dict(), other.model.state_dict()
        assert own.keys() == theirs.keys()
        assert all(own[name].data_ptr() == theirs[name].data_ptr() for name in own)
    said = {Ours(one, CLOCK).ask(asked()).units for one in (subject, padded, blocks)}
    assert len(said) == 3
    assert subject.model.config.pad_to_window is False


def test_the_reference_vocodes_each_chunk_alone(subject: Subject) -> None:
    reference = Reference(subject, CLOCK)
    vocoder = subject.model.vocoder
    assert vocoder is not None
    heard: list[np.ndarray] = []
    sound = reference.sound
    reference.sound = lambda units: heard.append(sound(units)) or heard[-1]
    answer = reference.ask(asked(units="4"))
    parts = [answer.units[start : start + 4] for start in range(0, len(answer.units), 4)]
    assert len(heard) == len(parts) > 1
    for wave, units in zip(heard, parts, strict=True):
        np.testing.assert_array_equal(wave, vocode(vocoder, torch.tensor(units)).numpy())


def test_a_chunk_is_due_when_its_units_are_there() -> None:
    ten, whole = parse_schedule("10"), parse_schedule("all")
    assert chunk_ends(ten, 9, 0, 0, last=False) == []
    assert chunk_ends(ten, 25, 0, 0, last=False) == [10, 20]
    assert chunk_ends(ten, 25, 10, 1, last=True) == [20, 25]
    assert chunk_ends(parse_schedule("2,5"), 8, 2, 1, last=False) == [7]
    assert chunk_ends(whole, 8, 0, 0, last=False) == []
    assert chunk_ends(whole, 8, 0, 0, last=True) == [8]
    assert chunk_ends(None, 8, 0, 0, last=True) == []


def test_all_that_was_asked_until_the_sound_is_the_beginning_of_the_whole(
    subject: Subject,
) -> None:
    for way in (Reference(subject, CLOCK), Ours(subject, CLOCK)):
        whole = way.ask(asked(units=None, tokens=12))
        soon = way.ask(replace(asked(units="3", tokens=12), until_sound=True))
        assert whole.first_audio_ms is None and soon.first_audio_ms is not None
        assert 0 < len(soon.token_ids) < 12
        assert soon.token_ids == whole.token_ids[: len(soon.token_ids)]
        assert soon.units == whole.units[: len(soon.units)]


@pytest.mark.parametrize("step_ms", [30.0, 250.0])
def test_work_that_lags_behind_the_microphone_delays_a_live_answer(
    subject: Subject, step_ms: float
) -> None:
    ticks = count()
    live = Live(variant(subject, block_frames=5), lambda: step_ms * next(ticks))
    answer = live.ask(asked(seconds=0.6))
    # Each look at this clock takes step_ms, and one push is one look: five before the last piece.
    late = 5 * max(0.0, step_ms - 100)
    assert answer.token_at_ms[0] == pytest.approx(step_ms + late)


def test_the_pause_is_not_part_of_first_audio(subject: Subject) -> None:
    ticks = count()
    live = Live(subject, lambda: 10.0 * next(ticks), speculate=True)
    answer = live.ask(asked())
    assert answer.ahead_ms == 10 and answer.token_at_ms[0] == 10


def test_pieces_are_the_question() -> None:
    waveform = speech(0.25)
    assert [len(piece) for piece in pieces(waveform)] == [PIECE, PIECE, PIECE // 2]
    np.testing.assert_array_equal(np.concatenate(pieces(waveform)), waveform)


def test_what_is_said_otherwise_is_an_error(subject: Subject) -> None:
    reference = Reference(subject, CLOCK, padded=False)
    question = asked(units=None)
    expected, found = reference.ask(question), Ours(subject, CLOCK).ask(question)
    assert check_same(reference, question, expected, found)
    wrong = (found.token_ids[0] + 1) % 200
    for other in (
        replace(found, token_ids=(wrong, *found.token_ids[1:])),
        replace(found, units=found.units[1:]),
        replace(found, units=(*found.units, found.units[0])),
        replace(found, units=()),
    ):
        with pytest.raises(RuntimeError, match="the session says something else"):
            check_same(reference, question, expected, other)
    short = replace(found, token_ids=found.token_ids[:3], units=found.units[:1])
    assert check_same(reference, question, expected, short)
    with pytest.raises(RuntimeError):
        check_same(reference, question, expected, replace(short, units=found.units[1:2]))


def test_where_two_labels_tie_either_may_be_said() -> None:
    scores = torch.full((1, 3, 4), -9.0)  # units 0, 1, 2 and the blank
    scores[0, 0, 0], scores[0, 0, 1] = -0.1, -0.1005
    scores[0, 1, 3] = -0.1
    scores[0, 2, 2] = -0.1
    log_probs = Frames(scores, torch.tensor([3]))
    assert may_spell((0, 2), log_probs, 1e-3) and may_spell((1, 2), log_probs, 1e-3)
    assert not may_spell((1, 2), log_probs, 1e-4)
    for units in ((2,), (0,), (0, 1), (0, 2, 2), ()):
        assert not may_spell(units, log_probs, 1e-3)


def test_a_text_that_parts_at_a_tie_is_counted_and_no_error(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference(subject, CLOCK, padded=False)
    question = asked(units=None, tokens=1)
    expected = reference.ask(question)
    logits, log_probs = reference.scores(question.waveform, expected.token_ids)
    second = int(logits[0].topk(2).indices[1])
    found = replace(expected, token_ids=(second,))
    with pytest.raises(RuntimeError):
        check_same(reference, question, expected, found)
    tied = logits.clone()
    tied[0, second] = tied[0].max() - 5e-4
    monkeypatch.setattr(reference, "scores", lambda *_: (tied, log_probs))
    assert not check_same(reference, question, expected, found)


def test_half_precision_says_the_same_or_parts_at_a_tie() -> None:
    half = build(SIZES["tiny"], CPU, torch.bfloat16)
    reference = Reference(half, CLOCK, padded=False)
    question = asked(units=None, tokens=4)
    check_same(reference, question, reference.ask(question), Ours(half, CLOCK).ask(question))


def test_the_time_of_a_token_is_the_mean_of_it_and_the_two_before() -> None:
    answer = Answer(
        token_ids=(1,) * 6, units=(), token_at_ms=(5, 6, 8, 12, 20, 36), first_audio_ms=None,
        total_ms=36, started_ms=0,
    )  # fmt: skip
    assert token_ms(6, answer) == pytest.approx((4 + 8 + 16) / 3)
    assert token_ms(4, answer) == pytest.approx((1 + 2 + 4) / 3)


def test_the_floor_is_the_later_of_reading_and_summing() -> None:
    speed = Speed(gb_per_s=20, gflop_per_s=200)
    assert speed.floor_ms(200_000_000, 1) == pytest.approx(10)
    assert speed.floor_ms(200_000_000, 4_000_000_000) == pytest.approx(20)


def test_operations_of_products_and_attention_are_counted_and_embeddings_not_read() -> None:
    part = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4))
    assert weight_bytes(part) == 4 * (8 * 4 + 4)
    heads = torch.randn(1, 2, 5, 8)
    with torch.inference_mode(), flop_counter() as counter:
        part(torch.tensor([[1, 2, 3]]))
    assert counter.get_total_flops() == 2 * 3 * 8 * 4
    with torch.inference_mode(), flop_counter() as counter:
        F.scaled_dot_product_attention(heads, heads, heads)
    assert counter.get_total_flops() == 2 * (2 * 2 * 5 * 5 * 8)
    with torch.inference_mode(), flop_counter() as counter:
        one_dnn(heads, torch.randn(3, 8), None)
    assert counter.get_total_flops() == 2 * (2 * 5) * 8 * 3


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 6, 5), nn.ConvTranspose1d(4, 6, 5, 2)])
def test_operations_of_packed_convolutions_are_counted_as_torch_counts_its_own(
    layer: nn.Conv1d | nn.ConvTranspose1d,
) -> None:
    x, packed = torch.randn(2, 4, 9), PackedWeight()
    with torch.no_grad(), flop_counter() as counter:
        layer(x)
    with torch.inference_mode(), flop_counter() as of_packed:
        if isinstance(layer, nn.Conv1d):
            packed.convolved(layer, x)
        else:
            packed.transposed(layer, x)
    assert of_packed.get_total_flops() == counter.get_total_flops() > 0


def test_a_table_says_how_many_times_as_fast_each_way_is() -> None:
    row = Row(case={"tokens": "64"}, ms={"reference": 30.0, "padded": 7.5}, pause_ms={"live": 2.0})
    assert Table(title="", rows=[row]).cells() == [
        ["tokens", "reference", "padded", "live, pause"],
        ["64", "30", "7.5 (4.00)", "2.0"],
    ]


def test_a_waterfall_adds_up_the_calls_of_a_stage() -> None:
    def span(stage: str, ms: float) -> Span:
        return Span(stage=stage, start_ms=0, ms=ms, floor_ms=ms / 4)

    spans = (span("encoder", 8), span("LLM step", 2), span("LLM step", 6))
    fall = Waterfall(way="padded", first_audio_ms=20, spans=spans)
    assert fall.totals() == {"encoder": (8, 2), "LLM step": (8, 2)}


def test_stages_are_matched_from_the_first_sound_back(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one run lags behind the microphone, more of its calls come after the last sample."""
    ours, question = Ours(subject, CLOCK), asked()
    answer = ours.ask(question)
    names = ["encoder", "encoder", "prefill", "waveform"]
    runs = iter([
        [_Call(name, place, 1.0, flop=10**9) for place, name in enumerate(names)],
        [_Call(name, place, 2.0, flop=0) for place, name in enumerate(names[1:])],
        [_Call(name, place, 4.0, flop=0) for place, name in enumerate(names[1:])],
    ])  # fmt: skip
    monkeypatch.setattr("serve.bench.latency.stages._calls", lambda *_, **__: (answer, next(runs)))
    speed = Speed(gb_per_s=1e9, gflop_per_s=1.0)
    fall = waterfall("live", ours, question, clock=CLOCK, speed=speed, repeats=2)
    assert [(span.stage, span.ms) for span in fall.spans] == [(n, 3.0) for n in names[1:]]
    assert {span.floor_ms for span in fall.spans} == {1000.0}

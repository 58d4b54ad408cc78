from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.vocoder import HifiGanConfig, NsfConfig, NsfVocoder, UnitHifiGan, Vocoder, vocode
from omni.vocoder.chunking import ChunkSchedule, Fixed, Growing, Paced, Whole
from omni.vocoder.stream_context import StreamContext
from omni.vocoder.streaming import AudioChunk, StreamingVocoder

UNITS = 12
torch.set_num_threads(1)


def tiny(kind: str) -> Vocoder:
    torch.manual_seed(5)
    if kind == "hifigan":
        config = HifiGanConfig(
            num_embeddings=UNITS, embedding_dim=8, upsample_initial_channel=32, duration_width=8
        )
        vocoder: Vocoder = UnitHifiGan(config)
    else:
        vocoder = NsfVocoder(
            NsfConfig(
                num_units=UNITS, width=16, prosody_width=12, mid_width=8, fine_width=8,
                duration_width=8, right_context_frames=RIGHT[kind],
            )
        )  # fmt: skip
    # Durations of 1 to about 5 frames, as real units have.
    torch.nn.init.constant_(vocoder.dur_predictor.proj.bias, 1.2)
    return vocoder.eval()


RIGHT = {"nsf": None, "nsf ahead 4": 4, "nsf ahead 2": 2}
VOCODERS = {kind: tiny(kind) for kind in ("hifigan", *RIGHT)}
every = pytest.mark.parametrize("kind", VOCODERS)


def stream(
    streaming: StreamingVocoder, units: Sequence[int], feeds: Sequence[int]
) -> list[AudioChunk]:
    """Feed `units` in pieces of these sizes (cycled), then finish."""
    state, chunks, place, turn = streaming.initial_state(), [], 0, 0
    while place < len(units):
        size = feeds[turn % len(feeds)]
        made, state = streaming.step(units[place : place + size], state)
        chunks += made
        place, turn = place + size, turn + 1
    return chunks + streaming.finish(state)


def joined(chunks: list[AudioChunk]) -> np.ndarray:
    return np.concatenate([chunk.waveform for chunk in chunks] + [np.zeros(0, np.float32)])


replies = st.lists(st.integers(0, UNITS - 1), max_size=40)
feedings = st.lists(st.integers(1, 12), min_size=1, max_size=5)
schedules = st.one_of(
    st.builds(Whole),
    st.builds(Fixed, st.integers(1, 15)),
    st.builds(Growing, st.lists(st.integers(1, 15), min_size=2, max_size=3).map(tuple)),
)


@every
@settings(max_examples=12, deadline=None)
@given(units=replies, feeds=feedings, schedule=schedules, extra=st.integers(0, 3))
def test_with_full_context_joined_chunks_equal_the_whole(
    kind: str, units: list[int], feeds: list[int], schedule: ChunkSchedule, extra: int
):
    vocoder = VOCODERS[kind]
    context = StreamContext(right_context_frames=vocoder.right_context_frames + extra)
    whole = vocode(vocoder, torch.tensor(units, dtype=torch.int64)).numpy()
    chunks = stream(StreamingVocoder(vocoder, schedule, context), units, feeds)
    np.testing.assert_allclose(joined(chunks), whole, atol=1e-4)
    for index, chunk in enumerate(chunks[:-1]):
        assert chunk.units == schedule.size(index)


@every
@settings(max_examples=12, deadline=None)
@given(
    units=replies,
    feeds=feedings,
    schedule=schedules,
    right=st.integers(0, 8),
    crossfade=st.sampled_from([0, 1, 160, 320, 900]),
)
def test_a_cut_context_changes_neither_length_nor_timing_nor_the_end(
    kind: str, units: list[int], feeds: list[int], schedule: ChunkSchedule, right: int,
    crossfade: int,
):  # fmt: skip
    vocoder = VOCODERS[kind]
    context = StreamContext(
        right_context_frames=right,
        crossfade_samples=crossfade,
    )
    streaming = StreamingVocoder(vocoder, schedule, context)
    true_units = torch.tensor(units, dtype=torch.int64)
    whole = vocode(vocoder, true_units).numpy()
    chunks = stream(streaming, units, feeds)
    sound = joined(chunks)
    assert len(sound) == len(whole)
    # The same sound, however the units arrived.
    np.testing.assert_allclose(joined(stream(streaming, units, [1])), sound, atol=1e-6)
    durations = vocoder.durations(true_units)
    borders = np.cumsum([chunk.units for chunk in chunks])
    assert np.cumsum([c.frames for c in chunks]).tolist() == (
        durations.cumsum(0)[borders - 1].tolist() if units else []
    )
    if chunks:
        exact = max(0, chunks[-1].frames * 320)
        np.testing.assert_allclose(sound[len(sound) - exact :], whole[len(whole) - exact :],
                                   atol=1e-4)  # fmt: skip


@every
def test_chunks_that_are_cut_to_the_last_end_as_the_whole_ends(kind):
    vocoder = VOCODERS[kind]
    units = torch.randint(0, UNITS, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    whole = vocode(vocoder, torch.tensor(units)).numpy()
    streaming = StreamingVocoder(vocoder, Fixed(3), StreamContext(right_context_frames=0))
    # All at once, so that many chunks are left for the end, each cut before the next.
    chunks = streaming.finish(streaming.step(units[:4], streaming.initial_state())[1])
    assert len(chunks) == 2
    chunks = stream(streaming, units, [40])
    sound = joined(chunks)
    assert len(chunks) == 14 and len(sound) == len(whole)
    begin = 320 * sum(chunk.frames for chunk in chunks[:-1])
    np.testing.assert_allclose(sound[begin:], whole[begin:], atol=1e-4)


@every
def test_a_cut_chunk_sounds_as_if_the_reply_ended_behind_its_right_context(kind):
    vocoder = VOCODERS[kind]
    units = torch.randint(0, UNITS, (40,), generator=torch.Generator().manual_seed(4)).tolist()
    frames = torch.tensor(units).repeat_interleave(vocoder.durations(torch.tensor(units)))
    for right in (0, 1, 3):
        context = StreamContext(right_context_frames=right, crossfade_samples=0)
        made = 0
        for chunk in stream(StreamingVocoder(vocoder, Fixed(8), context), units, [5]):
            end = made + chunk.frames
            alone = vocoder.synthesize(frames[: end + right]).detach().numpy()
            np.testing.assert_allclose(
                chunk.waveform, alone[made * 320 : end * 320], atol=1e-4, err_msg=f"{right}, {made}"
            )
            made = end


@pytest.mark.parametrize("kind", ["hifigan", "nsf"])
def test_the_first_chunk_may_wait_for_less_than_the_others(kind):
    vocoder = VOCODERS[kind]
    units = torch.randint(0, UNITS, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = vocode(vocoder, torch.tensor(units)).numpy()
    full = vocoder.right_context_frames
    context = StreamContext(right_context_frames=full, first_right_context_frames=(2, 5))
    assert [context.of_chunk(index) for index in range(4)] == [2, 5, full, full]
    chunks = stream(StreamingVocoder(vocoder, Fixed(10), context), units, [1])
    early, _ = StreamingVocoder(vocoder, Fixed(10), context).step(
        units[:16], StreamingVocoder(vocoder, Fixed(10)).initial_state()
    )
    assert len(early) == 1
    sound = joined(chunks)
    # Where the second chunk was faded into the third, all is exact again.
    begin = 320 * (chunks[0].frames + chunks[1].frames)
    np.testing.assert_allclose(sound[begin:], whole[begin:], atol=1e-4)
    assert np.abs(sound[:begin] - whole[:begin]).max() > 1e-4


@every
def test_more_right_context_brings_the_sound_nearer_to_the_whole(kind):
    vocoder = VOCODERS[kind]
    units = torch.randint(0, UNITS, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = vocode(vocoder, torch.tensor(units)).numpy()
    errors = []
    full = vocoder.right_context_frames
    for right in sorted({0, min(2, full), full // 4, full // 2, full}):
        context = StreamContext(right_context_frames=right)
        sound = joined(stream(StreamingVocoder(vocoder, Fixed(10), context), units, [7]))
        errors.append(float(np.sqrt(np.mean((sound - whole) ** 2) / np.mean(whole**2))))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-1]


@every
def test_a_chunk_waits_for_its_look_ahead_and_its_right_context(kind):
    vocoder = VOCODERS[kind]
    units = [1, 2, 3, 4, 5] * 8
    durations = vocoder.durations(torch.tensor(units)).tolist()
    for right in (0, 8):
        context = StreamContext(right_context_frames=right)
        streaming = StreamingVocoder(vocoder, Fixed(10), context)
        state, fed, chunks = streaming.initial_state(), 0, []
        while not chunks:
            chunks, state = streaming.step(units[fed : fed + 1], state)
            fed += 1
        timed = next(n for n in range(10, 40) if sum(durations[10:n]) >= right)
        assert fed == timed + vocoder.duration_lookahead


@every
def test_sessions_that_share_weights_do_not_hear_each_other(kind):
    streaming = StreamingVocoder(VOCODERS[kind], Growing((3, 8)))
    generator = torch.Generator().manual_seed(2)
    replies = [
        torch.randint(0, UNITS, (length,), generator=generator).tolist() for length in (30, 17, 44)
    ]
    states = [streaming.initial_state() for _ in replies]
    heard: list[list[AudioChunk]] = [[] for _ in replies]
    for start in range(0, 45, 4):
        for row, units in enumerate(replies):
            chunks, states[row] = streaming.step(units[start : start + 4], states[row])
            heard[row] += chunks
    for row, units in enumerate(replies):
        heard[row] += streaming.finish(states[row])
        np.testing.assert_array_equal(joined(heard[row]), joined(stream(streaming, units, [4])))


@every
def test_a_state_can_be_continued_twice(kind):
    streaming = StreamingVocoder(VOCODERS[kind], Fixed(4))
    _, state = streaming.step([1, 2, 3, 4, 5, 6, 7, 8, 9] * 3, streaming.initial_state())
    first = joined(streaming.finish(state))
    streaming.step([5] * 20, state)
    np.testing.assert_array_equal(joined(streaming.finish(state)), first)


@every
def test_memory_of_a_long_reply_stays_bounded(kind):
    vocoder = VOCODERS[kind]
    streaming = StreamingVocoder(vocoder, Fixed(5))
    state, sizes = streaming.initial_state(), []
    for turn in range(60):
        _, state = streaming.step([turn % UNITS] * 5, state)
        sizes.append(len(state.frame_units) + len(state.units))
    assert max(sizes[30:]) <= max(sizes[:30]) + 8


@every
def test_an_unknown_unit_is_refused_while_streaming(kind):
    streaming = StreamingVocoder(VOCODERS[kind], Fixed(5))
    with pytest.raises(ValueError, match=f"unit {UNITS}: this vocoder knows units 0 to"):
        streaming.step([1, UNITS], streaming.initial_state())


def test_a_negative_context_is_refused():
    with pytest.raises(ValueError, match="right_context_frames=-1: must be 0 or more"):
        StreamContext(right_context_frames=-1)


def test_a_negative_context_of_a_first_chunk_is_refused():
    with pytest.raises(ValueError, match="each must be 0 or more"):
        StreamContext(right_context_frames=3, first_right_context_frames=(2, -1))


@every
def test_by_default_the_first_chunk_waits_for_what_is_heard_and_later_ones_for_all(kind):
    vocoder = VOCODERS[kind]
    context = StreamContext.recommended(vocoder)
    assert context.of_chunk(0) == vocoder.recommended_right_context_frames
    assert context.of_chunk(1) == vocoder.right_context_frames
    assert StreamContext.chosen(vocoder, 3).of_chunk(0) == 3
    assert StreamContext.chosen(vocoder, 3).of_chunk(9) == 3
    assert StreamContext.chosen(vocoder) == context


@every
@settings(max_examples=8, deadline=None)
@given(units=replies, feeds=feedings, told=st.floats(0, 60), speed=st.floats(1e-4, 1))
def test_a_paced_schedule_changes_when_sound_comes_and_not_what_is_said(
    kind: str, units: list[int], feeds: list[int], told: float, speed: float
):
    vocoder = VOCODERS[kind]
    ticks = iter(range(10**6))
    streaming = StreamingVocoder(
        vocoder, Paced(3, 9), StreamContext.exact(vocoder), clock=lambda: next(ticks) * speed
    )
    state, chunks, place, turn = streaming.initial_state(), [], 0, 0
    while place < len(units):
        size = feeds[turn % len(feeds)]
        made, state = streaming.step(units[place : place + size], state)
        if turn == 2:
            state = streaming.heard(state, played_until=told)
        chunks += made
        place, turn = place + size, turn + 1
    chunks += streaming.finish(state)
    whole = vocode(vocoder, torch.tensor(units, dtype=torch.int64)).numpy()
    np.testing.assert_allclose(joined(chunks), whole, atol=1e-4)
    assert sum(chunk.units for chunk in chunks) == len(units)
    assert all(chunk.units <= 9 for chunk in chunks)


def test_a_listener_with_much_left_to_play_gets_a_larger_chunk_later():
    vocoder = VOCODERS["nsf ahead 4"]

    def sizes(left_s: float, unit_s: float = 0.01) -> list[int]:
        now = [0.0]
        streaming = StreamingVocoder(vocoder, Paced(4, 40), clock=lambda: now[0])
        state, chunks = streaming.initial_state(), []
        for unit in range(80):
            now[0] += unit_s
            made, state = streaming.step([unit % UNITS], state)
            if made:
                state = streaming.heard(state, played_until=now[0] + left_s)
            chunks += made
        return [chunk.units for chunk in chunks]

    # A unit that lasts long lets several before it have their right context at once.
    assert 4 <= sizes(0.0)[1] <= 8
    assert 16 <= sizes(0.4)[1] <= 24
    # An engine with time to spare is asked for no larger ones, a busy one for the largest.
    assert 16 <= sizes(9.0)[1] <= 24
    assert sizes(9.0, unit_s=0.03)[1] == 40

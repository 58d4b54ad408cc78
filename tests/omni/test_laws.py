"""The laws of the design that join several stages, under any chunking and any batch."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.audio import log_mel
from omni.ctc import best_labels, best_units
from omni.language_model import response_states, run_language_model
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor, pad_features
from omni.prompt import IGNORE
from omni.session.config import SessionConfig
from omni.session.events import Done
from omni.session.sampling import Sampling
from omni.session.session import SpeechSession
from omni.session.speaker import Speaker, SpeakerState
from omni.unit_decoder import UnitDecoder
from omni.values import Frames
from omni.vocoder import Vocoder, vocode
from omni.vocoder.chunking import Fixed, Whole
from omni.vocoder.streaming import StreamContext, StreamingVocoder
from tests.tiny import UNITS, question, tiny_model, tiny_processor
from train.loop.freeze import Freeze

torch.set_num_threads(1)


@cache
def model(gate_fusion: bool = False) -> OmniForConditionalGeneration:
    """gate_fusion: its unit decoder reads of each token the embedding, and letters as well."""
    made = tiny_model(gate_fusion=gate_fusion, spelling=3 if gate_fusion else 0)
    if gate_fusion and made.unit_decoder is not None:
        spelling = made.unit_decoder.spelling
        spelling.codes.copy_(torch.randint(256, spelling.codes.shape))
        torch.nn.init.normal_(spelling.out_proj.weight)
    return made


@cache
def processor() -> OmniProcessor:
    return tiny_processor()


def decoder(gate_fusion: bool = False) -> UnitDecoder:
    found = model(gate_fusion).unit_decoder
    assert found is not None
    return found


def voice() -> Vocoder:
    found = model().vocoder
    assert found is not None
    return found


@st.composite
def chunkings(draw: st.DrawFn, most: int = 14) -> list[int]:
    """Sizes of chunks, some of them 0, that add up to a reply's length of 1 or more."""
    return draw(st.lists(st.integers(0, 5), min_size=1, max_size=most).filter(any))


@settings(max_examples=20, deadline=None)
@given(mels=st.lists(st.integers(1, 120), min_size=1, max_size=3))
def test_every_part_keeps_its_promise_of_shape_and_length(mels: list[int]) -> None:
    config = model().config
    features = torch.zeros(len(mels), config.encoder.n_mels, max(mels))
    mask = torch.arange(max(mels))[None] < torch.tensor(mels)[:, None]
    with torch.no_grad():
        frames = model().speech_encoder(features, mask)
        positions = model().speech_adapter(frames)
        units = decoder()(Frames(torch.zeros(1, 3, config.hidden_size), torch.tensor([3])))
    heard = [(mel + 1) // 2 for mel in mels]
    assert frames.lengths.tolist() == heard
    assert frames.values.shape == (len(mels), max(heard), config.encoder.width)
    stacked = [frames // config.adapter.stack for frames in heard]
    assert positions.lengths.tolist() == stacked
    assert positions.values.shape == (len(mels), max(stacked), config.hidden_size)
    steps = 3 * decoder().config.upsample
    assert units.values.shape == (1, steps, UNITS + 1) and units.lengths.tolist() == [steps]
    torch.testing.assert_close(units.values.exp().sum(-1), torch.ones(1, steps))
    said = torch.tensor([1, 2, 3])
    with torch.no_grad():
        durations = voice().durations(said)
        waveform = voice().synthesize(said.repeat_interleave(durations))
    assert int(durations.min()) >= 1
    assert waveform.shape == (int(durations.sum()) * voice().samples_per_frame,)
    assert waveform.abs().max() <= 1


@settings(max_examples=15, deadline=None)
@given(
    chunks=chunkings(),
    seed=st.integers(0, 99),
    schedule=st.sampled_from([Whole(), Fixed(3)]),
    fused=st.booleans(),
)
def test_any_way_of_feeding_states_gives_the_same_units_and_the_same_sound(
    chunks: list[int], seed: int, schedule: Whole | Fixed, fused: bool
) -> None:
    torch.manual_seed(seed)
    ids = torch.randint(5, 200, (1, sum(chunks)))
    whole = Frames(torch.randn(1, sum(chunks), 32), torch.tensor([sum(chunks)]))
    with torch.inference_mode():
        speaker = Speaker(
            decoder(fused), StreamingVocoder(voice(), schedule, StreamContext.exact(voice()))
        )
        state: SpeakerState = speaker.initial_state()
        whole = speaker.inputs(whole, ids, model(fused).embed_tokens, state).states
        states = whole.values
        units = best_units(decoder(fused)(whole))[0]
        said: list[int] = []
        heard: list[np.ndarray] = []
        start = 0
        for size in chunks:
            part = Frames(states[:, start : start + size], torch.tensor([size]))
            scores, past = decoder(fused).step(part, state.decoder)
            new, state = speaker.merge(past, best_labels(scores)[0].tolist(), state)
            due, state = speaker.vocode(new, state)
            said += new
            heard += [chunk.waveform for chunk in due]
            start += size
        heard += [chunk.waveform for chunk in speaker.finish(state)]
    assert said == units
    expected = vocode(voice(), torch.tensor(units, dtype=torch.int64)).numpy()
    joined = np.concatenate([*heard, np.zeros(0, np.float32)])
    np.testing.assert_allclose(joined, expected, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_prompt_fed_in_pieces_leaves_the_language_model_where_one_forward_does(
    cuts: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    embeddings = torch.randn(1, sum(cuts), 32)
    with torch.inference_mode():
        whole = run_language_model(model().language_model, embeddings)
        cache_, pieces = None, []
        for piece in embeddings.split(cuts, dim=1):
            output = run_language_model(model().language_model, piece, cache=cache_, use_cache=True)
            cache_ = output.cache
            pieces.append(output.hidden)
    torch.testing.assert_close(torch.cat(pieces, 1), whole.hidden, atol=1e-4, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(
    seconds=st.lists(
        st.floats(0.1, 1.5).map(lambda value: round(value, 2)), min_size=1, max_size=4
    ),
    seed=st.integers(0, 99),
)
def test_a_recording_becomes_the_same_positions_in_any_batch(
    seconds: list[float], seed: int
) -> None:
    mels = [processor().features(question(s, seed + n)) for n, s in enumerate(seconds)]
    with torch.no_grad():
        together = model().encode_speech(**pad_features(mels))
        for row, mel in enumerate(mels):
            alone = model().encode_speech(**pad_features([mel]))
            assert int(together.lengths[row]) == processor().positions(mel.shape[1])
            torch.testing.assert_close(
                together.sequence(row), alone.sequence(0), atol=1e-4, rtol=1e-4
            )


@settings(max_examples=20, deadline=None)
@given(loudness=st.floats(0.01, 10.0), other=st.floats(0.01, 10.0))
def test_the_log_mel_maximum_is_each_recordings_own(loudness: float, other: float) -> None:
    mels = [log_mel(loudness * question(0.3), 20), log_mel(other * question(0.4, 1), 20)]
    features = pad_features(mels)["input_features"]
    torch.testing.assert_close(features[0, :, :30], log_mel(loudness * question(0.3), 20))
    # Its own maximum: the range of 8 in log10, scaled as Whisper does, ends at the loudest bin.
    assert float(mels[0].max() - mels[0].min()) <= 2.0 + 1e-5


@settings(max_examples=20, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=4
    ),
    left=st.booleans(),
)
def test_response_states_are_the_predicting_ones_under_any_padding(
    prompts: list[tuple[int, int, int]], left: bool
) -> None:
    longest = max(prompt + response + rest for prompt, response, rest in prompts)
    hidden = torch.zeros(len(prompts), longest, 1)
    predicts = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, (prompt, response, rest) in enumerate(prompts):
        start = longest - (prompt + response + rest) if left else 0
        hidden[row, start : start + prompt + response + rest, 0] = torch.arange(
            prompt + response + rest, dtype=torch.float32
        )
        predicts[row, start + prompt - 1 : start + prompt - 1 + response] = True
    states = response_states(hidden, predicts)
    for row, (prompt, response, _) in enumerate(prompts):
        expected = list(range(prompt - 1, prompt - 1 + response))
        assert states.sequence(row)[:, 0].tolist() == expected


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.integers(1, 12), right=st.integers(0, 30), seed=st.integers(0, 5), fused=st.booleans()
)
def test_the_schedule_never_changes_what_is_said(
    sizes: int, right: int, seed: int, fused: bool
) -> None:
    def said(config: SessionConfig) -> Done:
        done = list(SpeechSession(model(fused), processor(), config).ask(question(0.5, seed)))[-1]
        assert isinstance(done, Done)
        return done

    chunked = said(
        SessionConfig(schedule=Fixed(sizes), right_context_frames=right, max_new_tokens=8)
    )
    whole = said(SessionConfig(schedule=Whole(), max_new_tokens=8))
    assert (chunked.token_ids, chunked.units) == (whole.token_ids, whole.units)
    assert sum(c.samples for c in chunked.chunks) == sum(c.samples for c in whole.chunks)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 9), temperature=st.sampled_from([0.0, 1.0]))
def test_training_generation_and_a_session_read_the_same_tokens_and_letters(
    seed: int, temperature: float
) -> None:
    """The token beside each state is the one that was chosen from it: also where it was drawn."""
    sampling = Sampling(temperature=temperature, seed=seed)
    config = SessionConfig(schedule=Fixed(3), max_new_tokens=8, sampling=sampling)
    done = list(SpeechSession(model(True), processor(), config).ask(question(0.5, seed)))[-1]
    assert isinstance(done, Done)
    batch = processor()(audio=question(0.5, seed))
    asked = batch["input_ids"]
    reply = torch.tensor([done.token_ids])
    batch["input_ids"] = torch.cat([asked, reply], 1)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    labels = torch.cat([torch.full_like(asked, IGNORE), reply], 1)
    inputs = model(True).teacher_forced_inputs(labels=labels, **batch)
    assert torch.equal(inputs.values[..., 32:64], model(True).get_input_embeddings()(reply))
    assert torch.equal(inputs.values[..., 64:].long(), decoder(True).spelling.codes[reply].long())
    with torch.no_grad():
        assert done.units == best_units(decoder(True)(inputs))[0]
    if temperature == 0.0:
        spoken = model(True).generate(
            **processor()(audio=question(0.5, seed)), max_new_tokens=8, do_sample=False,
            return_audio=True, return_dict_in_generate=True,
        )  # fmt: skip
        assert spoken.units == [done.units]
    assert done.units  # else nothing was compared


@pytest.mark.parametrize(
    ("trained", "losses"),
    [
        (("speech_adapter", "language_model"), "response"),
        (("speech_adapter",), "response"),
        (("unit_decoder",), "units"),
    ],
)
def test_only_what_a_stage_names_has_a_gradient_and_changes(
    trained: tuple[str, ...], losses: str
) -> None:
    learner = tiny_model()
    freeze = Freeze(trained)
    freeze.apply(learner)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    if losses == "response":
        batch = processor()(audio=question(0.5))
        labels = batch["input_ids"].masked_fill(
            batch["input_ids"] == learner.config.speech_token_id, -100
        )
        loss = learner(**batch, labels=labels).loss
    else:
        assert learner.unit_decoder is not None
        states = Frames(torch.randn(1, 6, 32), torch.tensor([6]))
        loss = learner.unit_decoder(states).values[..., UNITS].mean()
    loss.backward()
    freeze.check_gradients(learner)
    torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.1).step()
    changed = {
        name.split(".")[0]
        for name, value in learner.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == set(trained)

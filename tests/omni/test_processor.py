"""Recordings and text become one batch; what the model could not hear is refused, not cut."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omni.audio import SAMPLE_RATE, AudioError, log_mel, resample
from omni.files.folders import CheckpointError
from omni.processor import OmniProcessor
from omni.prompt import SPEECH, Message
from tests.tiny import question, tiny_config, tiny_processor


def slots(ids: torch.Tensor) -> list[int]:
    slot = tiny_processor().tokenizer.convert_tokens_to_ids(SPEECH)
    return (ids == slot).sum(-1).tolist()


def test_each_row_has_a_slot_per_speech_position_and_its_own_features() -> None:
    long, short = question(1.23), question(0.5, seed=1)
    batch = tiny_processor()(audio=[long, short])
    assert slots(batch["input_ids"]) == [12, 5]
    assert batch["input_features_mask"].sum(-1).tolist() == [123, 50]
    torch.testing.assert_close(batch["input_features"][1, :, :50], log_mel(short, 20))
    assert not batch["input_features"][1, :, 50:].any()


def test_prompts_end_together_for_generation() -> None:
    batch = tiny_processor()(text=[None, "Tell me more"], audio=[question(1.0), None])
    alone = tiny_processor()(text="Tell me more")
    length = alone["input_ids"].shape[1]
    assert (
        batch["attention_mask"][1].tolist()
        == [0] * (batch["input_ids"].shape[1] - length) + [1] * length
    )
    assert batch["input_ids"][1, -length:].tolist() == alone["input_ids"][0].tolist()
    assert batch["input_features"].shape[0] == 1  # a recording per spoken row


def test_a_batch_of_text_alone_has_no_features() -> None:
    assert set(tiny_processor()(text=["Hi", "Hello"])) == {"input_ids", "attention_mask"}


def test_other_sample_rates_are_resampled() -> None:
    recording = question(1.0)
    at_8k = resample(recording, SAMPLE_RATE, 8_000)
    batch = tiny_processor()(audio=at_8k, sampling_rate=8_000)
    assert slots(batch["input_ids"]) == [10]
    expected = tiny_processor()(audio=resample(at_8k, 8_000, SAMPLE_RATE))
    torch.testing.assert_close(batch["input_features"], expected["input_features"])


def test_positions_are_those_that_the_encoder_and_adapter_make() -> None:
    processor = tiny_processor()
    for samples in (1600, 1760, 4799, 4801, 16_000):
        mel = processor.features(question(samples / SAMPLE_RATE))
        assert processor.positions(mel.shape[1]) == ((mel.shape[1] + 1) // 2) // 5


def test_padding_to_30_s_makes_every_question_equally_long() -> None:
    config = tiny_config(pad_to_window=True)
    batch = tiny_processor(config)(audio=[question(1.0), question(2.0)])
    assert batch["input_features"].shape[-1] == 3000
    assert slots(batch["input_ids"]) == [300, 300]


def test_neither_text_nor_audio_is_refused() -> None:
    with pytest.raises(ValueError, match="no question"):
        tiny_processor()()


def test_audio_beside_a_text_that_has_no_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="text: 0 <speech> for 1 recordings; put one"):
        tiny_processor()(text="Hi", audio=question())
    with pytest.raises(ValueError, match="row 0: 1 <speech> for 0 recordings"):
        tiny_processor()(text=[None, "Hi"], audio=[None, question()])


def test_audio_longer_than_the_encoder_hears_is_refused() -> None:
    with pytest.raises(AudioError, match=r"10\.1 s of audio.*at most 10 s; split"):
        tiny_processor().features(question(10.1))


def test_audio_below_one_position_is_refused() -> None:
    with pytest.raises(AudioError, match="1599 samples of audio: at least 1600"):
        tiny_processor().features(question(1.0)[:1599])
    assert tiny_processor().features(question(1.0)[:1600]).shape == (20, 10)


def test_audio_with_nan_is_refused() -> None:
    with pytest.raises(AudioError, match="1 samples are NaN"):
        tiny_processor().features(np.append(question(), np.float32("nan")))


def test_decoding_leaves_out_control_tokens_and_tidies_nothing_up() -> None:
    processor = tiny_processor()
    ids = processor.prompt([Message(role="user", text="do n't , please .")]).ids
    assert processor.decode(ids) == "do n't , please ."


def test_a_saved_processor_reads_back(tmp_path: Path) -> None:
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    again = OmniProcessor.from_pretrained(tmp_path)
    recording = question()
    for name, value in processor(audio=recording).items():
        torch.testing.assert_close(again(audio=recording)[name], value)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        OmniProcessor.from_pretrained(tmp_path)


def test_a_processor_describes_itself() -> None:
    assert "OmniProcessor" in repr(tiny_processor())

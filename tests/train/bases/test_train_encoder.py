"""An encoder learns letters from speech, nothing from sounds, and goes on from an earlier run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_tools.manifest.record import Manifest, Record, read_manifest
from omni.checkpoint import load_speech_encoder
from omni.files import UserError
from omni.speech_encoder import SpeechEncoderConfig
from tests.tiny import tiny_records
from train.bases.encoder import EncoderForCTC, Utterance, collate, train_encoder, transcribed
from train.loop import LoopConfig

torch.set_num_threads(1)
TINY = SpeechEncoderConfig(
    n_mels=20, width=32, layers=2, heads=2, ffn=64, max_frames=500, block_frames=10, left_blocks=2
)
LOOP = LoopConfig(epochs=1, batch_size=4, learning_rate=1e-3, max_steps=2, eval_steps=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


def silenced(record: Record) -> Record:
    """As a sound has it: a recording, and no text."""
    return replace(record, turns=(replace(record.turns[0], text=""), *record.turns[1:]))


def learn(heard: list[Utterance], output: Path, **options: object) -> dict[str, float]:
    return train_encoder(heard, heard[:3], architecture=TINY, loop=LOOP, output=output, **options)  # type: ignore[arg-type]


def test_a_second_round_goes_on_from_the_weights_of_the_first(
    manifest: Manifest, tmp_path: Path
) -> None:
    heard = transcribed(manifest, "train")
    learn(heard, tmp_path / "first")
    still = replace(LOOP, learning_rate=0.0)
    train_encoder(
        heard, heard[:3], architecture=TINY, loop=still, output=tmp_path / "second",
        begin_with=tmp_path / "first",
    )  # fmt: skip
    first, second = (
        load_speech_encoder(str(tmp_path / run / "encoder")) for run in ("first", "second")
    )
    assert first.config == second.config == TINY
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], weight, atol=1e-3, rtol=1e-3)
    heads = [load_file(tmp_path / run / "letters.safetensors") for run in ("first", "second")]
    torch.testing.assert_close(heads[0], heads[1], atol=1e-3, rtol=1e-3)


def test_a_round_that_began_elsewhere_is_not_gone_on_with(
    manifest: Manifest, tmp_path: Path
) -> None:
    heard = transcribed(manifest, "train")
    learn(heard, tmp_path / "first")
    learn(heard, tmp_path / "second", begin_with=tmp_path / "first")
    learn(heard, tmp_path / "second", begin_with=tmp_path / "first")
    with pytest.raises(UserError, match="begin_with"):
        learn(heard, tmp_path / "second", begin_with=tmp_path / "second")


def test_sounds_teach_that_there_are_no_letters_and_count_in_no_error_rate(
    manifest: Manifest, tmp_path: Path
) -> None:
    records = [silenced(record) if n % 2 else record for n, record in enumerate(manifest.records)]
    heard = transcribed(replace(manifest, records=records), "train")
    assert any(not utterance.text for utterance in heard)
    result = learn(heard, tmp_path)
    assert result["eval_loss"] > 0 and result["eval_cer"] > 0
    sounds = [{"mel": torch.randn(20, 40), "letters": torch.zeros(0, dtype=torch.int64)}] * 2
    loss = EncoderForCTC(TINY)(**collate(sounds))["loss"]
    assert torch.isfinite(loss) and loss > 0


def test_other_languages_are_left_out_where_one_is_asked_for(manifest: Manifest) -> None:
    records = [replace(manifest.records[0], language="fi"), *manifest.records[1:]]
    mixed = replace(manifest, records=records)
    spoken = len(manifest.records[0].turns)
    assert (
        len(transcribed(mixed, "train", language="en")) == len(transcribed(mixed, "train")) - spoken
    )

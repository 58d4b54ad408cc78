"""From dialogues to batches: what is heard, what is read, what is learned."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_tools.manifest.record import Manifest, read_manifest
from data_tools.speech.augmentation import AugmentConfig
from omni.prompt import IGNORE
from tests.tiny import tiny_model, tiny_processor, tiny_records
from train.data.batches import Collate, Dialogues, Example, examples
from train.data.features import LiveEars, cached_ears
from train.loop.order import Item

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


def live(augmentation: AugmentConfig | None = None, seed: int = 1) -> LiveEars:
    return LiveEars(tiny_processor(), augmentation=augmentation, seed=seed)


def dialogues(items: list[Example], **options) -> Dialogues:
    return Dialogues(items, tiny_processor(), live(), **options)


def test_every_answer_is_an_example_with_the_dialogue_before_it(manifest: Manifest) -> None:
    items = {item.id: item for item in examples(manifest, "train")}
    assert len(items) == 8  # six dialogues, two of them with a second question
    first, second = items["dialogue-0#0"], items["dialogue-0#1"]
    assert len(first.turns) == 2 and len(second.turns) == 4
    assert second.turns[:2] == first.turns
    assert [path.name for path in second.recordings] == ["question-0-0.wav", "question-0-1.wav"]
    assert second.answer.text == "It is quite warm."


def test_the_loss_sees_the_response_and_its_end_and_nothing_else(manifest: Manifest) -> None:
    items = examples(manifest, "train")
    tokenizer = tiny_processor().tokenizer
    for index, item in enumerate(items):
        prepared = dialogues(items)[index]
        learned = [label for label in prepared.labels if label != IGNORE]
        assert tokenizer.decode(learned) == item.answer.text + tokenizer.eos_token
        assert prepared.labels[-len(learned) :] == learned


def test_a_batch_is_what_the_model_takes(manifest: Manifest) -> None:
    items = examples(manifest, "train")
    data = dialogues(items)
    batch = Collate(tiny_processor(), live())([data[index] for index in range(len(items))])
    recordings = sum(len(item.recordings) for item in items)
    assert batch["input_features"].shape[0] == recordings > len(items)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    with torch.no_grad():
        assert float(tiny_model().forward(**batch).loss) > 0  # type: ignore[arg-type]


def test_a_recording_read_from_the_cache_gives_the_loss_of_one_encoded_now(
    manifest: Manifest, tmp_path: Path
) -> None:
    model, processor = tiny_model(), tiny_processor()
    items = examples(manifest, "train")
    cached = cached_ears(
        model.speech_encoder, processor, [path for item in items for path in item.recordings],
        augmentation=AugmentConfig(), variants=1, seed=1, folder=tmp_path,
    )  # fmt: skip
    losses = []
    for ears, item in ((live(AugmentConfig()), Item(0, 3)), (cached, Item(0, 3))):
        data = Dialogues(items, processor, ears)
        batch = Collate(processor, ears)([data[item], data[Item(0, 5)]])
        with torch.no_grad():
            losses.append(float(model(**batch).loss))
    # Both take variant 1 of examples 3 and 5, as 0 + 3 and 0 + 5 are odd.
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)  # float16 in the cache


def test_augmentation_depends_on_seed_epoch_and_recording_alone(manifest: Manifest) -> None:
    items = examples(manifest, "train")

    def heard(seed: int, item: Item) -> torch.Tensor:
        ears = live(AugmentConfig(), seed)
        return Dialogues(items, tiny_processor(), ears)[item].heard[0]

    first = heard(1, Item(2, 3))
    heard(1, Item(0, 0))  # what was drawn in between changes nothing
    assert torch.equal(heard(1, Item(2, 3)), first)
    assert not torch.equal(heard(1, Item(3, 3)), first)
    assert not torch.equal(heard(2, Item(2, 3)), first)


def test_a_share_of_the_questions_is_put_in_writing_anew_in_every_epoch(
    manifest: Manifest,
) -> None:
    items = examples(manifest, "train")
    data = dialogues(items, text_share=0.5, seed=4)

    def written(epoch: int) -> list[bool]:
        return [not data[Item(epoch, index)].heard for index in range(len(items))]

    epochs = [written(epoch) for epoch in range(20)]
    assert 0.35 < sum(map(sum, epochs)) / (20 * len(items)) < 0.65
    assert epochs[0] == written(0)
    assert len({tuple(epoch) for epoch in epochs}) > 10
    assert all(prepared.heard for prepared in map(data.__getitem__, range(len(items))))


def test_a_written_question_stands_in_the_prompt_as_text(manifest: Manifest) -> None:
    items = examples(manifest, "train")
    prepared = dialogues(items).prepare(0, 0, written=True)
    assert items[0].question.text in tiny_processor().tokenizer.decode(prepared.ids)
    assert tiny_model().config.speech_token_id not in prepared.ids


def test_training_sees_a_written_question_with_some_words_left_out(manifest: Manifest) -> None:
    items = examples(manifest, "train")
    data = dialogues(items, text_share=0.9, word_dropout=0.5)
    whole = dialogues(items).prepare(0, 0, written=True)
    seen = [data[Item(epoch, 0)] for epoch in range(20)]
    written = [prepared for prepared in seen if not prepared.heard]
    assert len({tuple(prepared.ids) for prepared in written}) > 3
    assert all(len(prepared.ids) <= len(whole.ids) for prepared in written)
    assert data.prepare(0, 0, written=True) == whole
    with pytest.raises(ValueError, match=r"word_dropout=1\.0"):
        dialogues([], word_dropout=1.0)


def test_units_and_speech_stay_with_their_dialogue_however_records_are_ordered(
    manifest: Manifest,
) -> None:
    shuffled = list(manifest.records)
    random.Random(3).shuffle(shuffled)
    other = Manifest(records=shuffled, root=manifest.root)
    assert shuffled != manifest.records
    mixed = {item.id: item for item in examples(other, "train")}
    assert mixed == {item.id: item for item in examples(manifest, "train")}


def test_a_split_that_does_not_exist_is_named_with_those_that_do(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match=r"\.jsonl: .* split exam; .*test, train, validation"):
        examples(manifest, "exam")


def test_missing_recordings_are_named_before_training(tmp_path: Path) -> None:
    manifest = read_manifest(tiny_records(tmp_path))
    (tmp_path / "audio" / "question-2-0.wav").unlink()
    with pytest.raises(ValueError, match=r"1 recordings are missing, .*question-2-0\.wav"):
        _ = dialogues(examples(manifest, "train")).lengths


def test_masked_frames_fall_silent_in_training_anew_in_every_epoch(
    manifest: Manifest, tmp_path: Path
) -> None:
    items = examples(manifest, "train")
    model = tiny_model()
    ears = cached_ears(
        model.speech_encoder, tiny_processor(), [p for item in items for p in item.recordings],
        augmentation=AugmentConfig(), variants=0, seed=1, folder=tmp_path,
    )  # fmt: skip
    data = Dialogues(items, tiny_processor(), ears, frame_masking=0.4)
    whole = torch.cat([frames for index in range(len(items)) for frames in data[index].heard])

    def heard(epoch: int) -> torch.Tensor:
        return torch.cat([f for i in range(len(items)) for f in data[Item(epoch, i)].heard])

    masked = (heard(0) == 0.0).all(-1)
    assert 0.15 < masked.float().mean() < 0.5  # spans may lie on one another
    assert torch.equal(heard(0)[~masked], whole[~masked])
    assert torch.equal(heard(0), heard(0)) and not torch.equal(heard(0), heard(1))
    assert not (whole == 0.0).all(-1).any()  # validation hears everything


def test_masking_of_log_mel_is_refused_with_the_option_that_caches() -> None:
    with pytest.raises(ValueError, match=r"frame_masking=0\.1: .*set cached_variants"):
        dialogues([], frame_masking=0.1)


def test_a_share_of_one_would_leave_nothing_to_hear() -> None:
    with pytest.raises(ValueError, match=r"text_share=1\.0"):
        dialogues([], text_share=1.0)


def test_a_sound_that_is_no_speech_is_never_put_in_writing(manifest: Manifest) -> None:
    item = examples(manifest, "train")[2]
    sound = replace(item, turns=(replace(item.turns[0], text=""), *item.turns[1:]))
    data = dialogues([item, sound], text_share=0.9)
    heard = [[len(data[Item(epoch, place)].heard) for epoch in range(20)] for place in (0, 1)]
    assert 0 in heard[0] and heard[1] == [1] * 20

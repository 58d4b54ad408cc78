"""Every checkpoint has a card that the hub can read, and a card that a person wrote is theirs."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from omni.about.card import front_matter, is_generated, seal
from omni.foreign.llama_omni import read_llama_omni
from omni.loading import NANO
from omni.model import OmniForConditionalGeneration
from omni.unit_decoder import UnitDecoder
from tests.published import CHECKPOINT, ENCODER
from tests.tiny import tiny_bases, tiny_model, tiny_processor
from train.stages.stage2 import add_voice


def card(folder: Path) -> ModelCard:
    return ModelCard.load(folder / "README.md")


def listening(folder: Path) -> OmniForConditionalGeneration:
    """A model as after stage 1, on bases in folders."""
    encoder, llm = tiny_bases(folder)
    model = tiny_model(vocoder=None)
    model.unit_decoder, model.config.unit_decoder = None, None
    model.config.trained = {"stage1": ["speech_adapter"]}
    model.config.bases = {"speech_encoder": encoder, "language_model": llm}
    return model


def test_a_model_that_only_writes_has_a_card_and_stage_2_gives_it_another(tmp_path: Path) -> None:
    listening(tmp_path).save_pretrained(tmp_path / "a", processor=tiny_processor())
    data = card(tmp_path / "a").data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "audio-text-to-text")
    assert "speech-to-text" in data.tags and "no voice yet" in card(tmp_path / "a").text

    decoder = tiny_model().unit_decoder
    assert isinstance(decoder, UnitDecoder)
    add_voice(tmp_path / "a", tmp_path / "b", decoder)
    data = card(tmp_path / "b").data
    assert data.pipeline_tag == "any-to-any"
    assert data.tags == ["omni", "speech-to-speech"]
    assert "| unit_decoder |" in card(tmp_path / "b").text
    assert "# b\n" in card(tmp_path / "b").text


def test_the_card_of_a_converted_checkpoint_says_what_each_part_is(tmp_path: Path) -> None:
    read_llama_omni(CHECKPOINT, whisper=ENCODER).write(tmp_path / "a")
    assert card(tmp_path / "a").data.pipeline_tag == "any-to-any"
    assert "| speech_adapter |" in card(tmp_path / "a").text


def test_bases_of_the_hub_are_told_and_folders_of_this_machine_are_not(tmp_path: Path) -> None:
    model = listening(tmp_path)
    model.save_pretrained(tmp_path / "a")
    assert card(tmp_path / "a").data.base_model is None
    assert str(tmp_path) not in card(tmp_path / "a").content
    assert "base llm" in card(tmp_path / "a").text

    model.config.bases = {"speech_encoder": "large-v3", "language_model": "somebody/an-llm"}
    model.save_pretrained(tmp_path / "b", self_contained=True)  # which names no base any more
    expected = ["openai/whisper-large-v3", "somebody/an-llm"]
    assert card(tmp_path / "b").data.base_model == expected
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "b")
    again.save_pretrained(tmp_path / "c")
    assert card(tmp_path / "c").data.base_model == expected


def test_metadata_that_only_people_know_is_taken_and_kept(tmp_path: Path) -> None:
    known = {"license": "mit", "datasets": ["somebody/questions"], "tags": ["cooking"]}
    tiny_model().save_pretrained(tmp_path / "a", metadata=known, processor=tiny_processor())
    for _ in range(2):
        data = card(tmp_path / "a").data
        assert (data.license, data.datasets) == ("mit", ["somebody/questions"])
        assert data.tags == ["omni", "speech-to-speech", "cooking"]
        tiny_model(seed=1).save_pretrained(tmp_path / "a")
    again = OmniForConditionalGeneration.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert card(tmp_path / "b").data.license == "mit"
    assert card(tmp_path / "b").data.datasets is None  # its own training may have had others


def test_a_card_that_a_person_wrote_or_changed_stays_as_it_is(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "a")
    readme = tmp_path / "a" / "README.md"
    for text in ("My own words.\n", readme.read_text() + "\nNever ask it about Mondays.\n"):
        readme.write_text(text)
        tiny_model(seed=1, vocoder=None).save_pretrained(tmp_path / "a")
        assert readme.read_text() == text


def test_a_card_that_nobody_changed_is_written_anew(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "a")
    assert "| vocoder |" in card(tmp_path / "a").text
    tiny_model(vocoder=None).save_pretrained(tmp_path / "a")
    assert "| vocoder |" not in card(tmp_path / "a").text


def test_the_card_of_another_checkpoint_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """The nano's measured numbers are not those of what somebody makes from it."""
    model = OmniForConditionalGeneration.from_pretrained(NANO)
    assert not is_generated(NANO / "README.md")
    model.save_pretrained(tmp_path / "mine")
    assert "## Gates" not in card(tmp_path / "mine").text
    assert card(tmp_path / "mine").data.license == "apache-2.0"  # it still holds
    model.save_pretrained(tmp_path / "same", carry=NANO)
    assert (tmp_path / "same" / "README.md").read_text() == (NANO / "README.md").read_text()


@pytest.mark.parametrize(
    "broken", ["---\n: [\n---\n", "---\n- a\n---\n", "---\nno end", "", "\xff"]
)
def test_metadata_that_cannot_be_read_are_left_where_they_are(broken: str, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_bytes(broken.encode("latin-1"))
    tiny_model().save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "README.md").read_bytes() == broken.encode("latin-1")
    tiny_model().save_pretrained(tmp_path / "b", carry=tmp_path / "a")


def test_the_seal_breaks_at_the_smallest_change(tmp_path: Path) -> None:
    text = seal(front_matter(speaks=True, license="mit") + "# a\n")
    card = tmp_path / "README.md"
    for changed in (text.replace("# a", "# b"), text + "more\n", "# a\n", ""):
        card.write_text(text)
        assert is_generated(card)
        card.write_text(changed)
        assert not is_generated(card)

"""The teacher of stage 1: the base LLM that has read the question, token by token."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from data_tools.manifest.record import Manifest, read_manifest
from omni.checkpoint.bases import load_language_model
from omni.files import read_json
from omni.loading import load
from omni.model import OmniForConditionalGeneration
from omni.prompt import IGNORE, SPEECH, PromptConfig
from omni.speech_adapter import SpeechAdapterConfig
from tests.tiny import tiny_bases, tiny_processor, tiny_records
from train.data.batches import Collate, Dialogues, Example, examples
from train.data.features import LiveEars
from train.loop.loop import LoopConfig
from train.loop.order import Item
from train.stages.beginning import join_bases
from train.stages.stage1 import LearnsToListen, Lora, Stage1, train_stage1

torch.set_num_threads(1)
RECIPE = Stage1(
    adapter=SpeechAdapterConfig(stack=5, hidden=32),
    prompt=PromptConfig(speech_line=SPEECH),
    loop=LoopConfig(epochs=2, batch_size=4, learning_rate=3e-3, save_steps=3, eval_steps=4),
    language_model="lora",
    lora=Lora(rank=2, alpha=4),
    distillation_weight=0.5,
)
EARS = LiveEars(tiny_processor(), augmentation=None, seed=0)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return tiny_bases(tmp_path_factory.mktemp("bases"))


def student(bases: tuple[str, str], recipe: Stage1 = RECIPE) -> OmniForConditionalGeneration:
    """With LoRA weights that already say something else than the base."""
    model, _ = join_bases(*bases, recipe, seed=1)
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    recipe.freeze.apply(LearnsToListen(model))
    return model


def lessons(items: list[Example], *, text_share: float = 0.0):
    """A batch of all of them, as training takes it."""
    data = Dialogues(items, tiny_processor(), EARS, lessons=True, text_share=text_share)
    return Collate(tiny_processor(), EARS)([data[Item(0, n)] for n in range(len(items))])


def wordless(item: Example) -> Example:
    """The same recording of what has no words."""
    return replace(item, turns=(replace(item.turns[0], text=" "), *item.turns[1:]))


def losses(model: OmniForConditionalGeneration, batch, weight: float) -> Tensor:
    learner = LearnsToListen(model, distillation_weight=weight)
    return learner.train()(**batch)["loss"]


def log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """[n, vocabulary] of one row at its labels."""
    return F.log_softmax(logits[0, :-1][labels[0, 1:] != IGNORE].double(), dim=-1)


def by_hand(model: OmniForConditionalGeneration, base, item: Example) -> Tensor:
    """The divergence of one example, from two forwards without padding."""
    data, collate = Dialogues([item], tiny_processor(), EARS), Collate(tiny_processor(), EARS)
    spoken = collate([data.prepare(0, 0, written=False)])
    written = collate([data.prepare(0, 0, written=True)])
    with torch.no_grad():
        teacher = log_probs(base(written["input_ids"]).logits, written["labels"])
        said = log_probs(model(**spoken).logits, spoken["labels"])
    return (teacher.exp() * (teacher - said)).sum()


def test_the_divergence_is_that_from_the_base_which_reads_token_by_token(
    bases: tuple[str, str], manifest: Manifest
) -> None:
    items = examples(manifest, "train")  # with a history and without, answers of three lengths
    assert {len(item.turns) for item in items} == {2, 4}
    model, base = student(bases), load_language_model(bases[1], dtype=torch.float32)
    batch = lessons(items)
    expected = torch.stack([by_hand(model, base, item) for item in items]).sum()
    tokens = int((batch["labels"] != IGNORE).sum())
    added = losses(model, batch, 0.5) - losses(model, batch, 0.0)
    torch.testing.assert_close(added.double(), 0.5 * expected / tokens, rtol=1e-4, atol=1e-5)
    assert float(expected / tokens) > 0.1
    # Of a step with other batches beside this one, both losses are divided by the tokens of all.
    whole = losses(model, batch | {"num_items_in_batch": torch.tensor(1000)}, 0.5)
    ours = losses(model, batch, 0.5)
    torch.testing.assert_close(whole, ours * tokens / 1000)


def test_a_question_without_text_is_learned_from_its_answer_alone(
    bases: tuple[str, str], manifest: Manifest
) -> None:
    model, base = student(bases), load_language_model(bases[1], dtype=torch.float32)
    items = examples(manifest, "train")
    mixed = [wordless(items[0]), items[3], wordless(items[5]), items[1]]
    batch = lessons(mixed)
    tokens = int((batch["labels"] != IGNORE).sum())
    expected = (by_hand(model, base, items[3]) + by_hand(model, base, items[1])) / tokens
    added = losses(model, batch, 1.0) - losses(model, batch, 0.0)
    torch.testing.assert_close(added.double(), expected, rtol=1e-4, atol=1e-5)
    silent = lessons([wordless(items[0])])
    assert torch.equal(losses(model, silent, 1.0), losses(model, silent, 0.0))


def test_an_untrained_lora_that_reads_is_its_own_teacher(
    bases: tuple[str, str], manifest: Manifest
) -> None:
    model, _ = join_bases(*bases, RECIPE, seed=1)
    batch = lessons(examples(manifest, "train"), text_share=0.99)
    assert "input_features" not in batch
    torch.testing.assert_close(losses(model, batch, 5.0), losses(model, batch, 0.0))


@pytest.mark.parametrize("language_model", ["lora", "frozen"])
def test_the_teacher_has_no_gradient_and_leaves_the_model_as_it_was(
    bases: tuple[str, str], manifest: Manifest, language_model: str
) -> None:
    recipe = replace(RECIPE, language_model=language_model)
    model = student(bases, recipe)
    learner = LearnsToListen(model, distillation_weight=1.0).train()
    before = {name: p.requires_grad for name, p in learner.named_parameters()}
    modes = {name: module.training for name, module in learner.named_modules()}
    learner(**lessons(examples(manifest, "train")))["loss"].backward()
    assert {name: p.requires_grad for name, p in learner.named_parameters()} == before
    assert {name: module.training for name, module in learner.named_modules()} == modes
    recipe.freeze.check_gradients(learner)
    moved = {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("speech_adapter" in name for name in moved)
    assert any("lora_" in name for name in moved) == (language_model == "lora")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_with_a_teacher_is_validated_by_cross_entropy_alone(
    bases: tuple[str, str], manifest: Manifest, tmp_path: Path, checkpointing: bool
) -> None:
    result = train_stage1(
        manifest, speech_encoder=bases[0], language_model=bases[1], output=tmp_path,
        recipe=replace(RECIPE, gradient_checkpointing=checkpointing),
    )  # fmt: skip
    assert read_json(tmp_path / "run.json")["made_of"]["recipe"]["distillation_weight"] == 0.5
    model, _ = load(tmp_path / "checkpoint")
    items = examples(manifest, "validation")
    data = Dialogues(items, tiny_processor(), EARS, lessons=True)
    batch = Collate(tiny_processor(), EARS)([data[n] for n in range(len(items))])
    with torch.no_grad():
        expected = float(model(**batch).loss)
    assert result["eval_loss"] == pytest.approx(expected, abs=1e-4)


def test_a_teacher_brings_the_student_nearer_to_the_base(
    bases: tuple[str, str], manifest: Manifest, tmp_path: Path
) -> None:
    base = load_language_model(bases[1], dtype=torch.float32)
    far = {}
    for weight in (0.0, 4.0):
        recipe = replace(
            RECIPE, distillation_weight=weight, loop=replace(RECIPE.loop, epochs=8, save_steps=100)
        )
        train_stage1(
            manifest, speech_encoder=bases[0], language_model=bases[1], recipe=recipe,
            output=tmp_path / str(weight),
        )  # fmt: skip
        model, _ = load(tmp_path / str(weight) / "checkpoint")
        items = examples(manifest, "train")
        far[weight] = float(sum(by_hand(model, base, item) for item in items))
    assert far[4.0] < 0.7 * far[0.0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"language_model": "full"}, r"distillation_weight=0\.5: .*\(--train-llm lora"),
        ({"distillation_weight": -1.0}, r"distillation_weight=-1\.0: must be 0"),
    ],
)
def test_a_recipe_without_a_teacher_for_its_weight_is_refused(
    change: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        replace(RECIPE, **change)


def test_an_answer_with_other_tokens_after_the_written_question_is_refused(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = tiny_processor()
    data = Dialogues(examples(manifest, "train"), processor, EARS, lessons=True)
    plain = processor.prompt

    def shifted(messages):
        prompt = plain(messages)
        written = all(message.positions is None for message in messages)
        return replace(prompt, response_start=prompt.response_start + written)

    monkeypatch.setattr(processor, "prompt", shifted)
    with pytest.raises(ValueError, match="dialogue-0#0: its answer has other tokens"):
        data[Item(0, 0)]

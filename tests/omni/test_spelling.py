"""The unit decoder's letters: how tokens are spelled, and words that no answer had."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni.about import describe
from omni.ctc import best_units
from omni.spelling import spelled
from omni.unit_decoder import UnitDecoder, UnitDecoderConfig
from omni.values import Frames
from tests.tiny import tiny_model, tiny_processor, tiny_tokenizer
from train.stages.stage2 import LearnsToSpeak

LETTERS = "abcdef"
WORDS = [first + second for first in LETTERS for second in LETTERS]
NEW = [7, 14, 22, 27]  # words of letters that others have, too
SPELLS = UnitDecoderConfig(
    input_width=16, width=32, layers=1, heads=2, ffn=64, num_units=len(LETTERS), upsample=6,
    step_embedding=True, gate_fusion=True, spelling=3, vocabulary=len(WORDS),
)  # fmt: skip


def test_the_letters_of_a_text_are_those_of_its_tokens_spaces_among_them() -> None:
    tokenizer = tiny_tokenizer()
    codes = spelled(tokenizer, len(tokenizer), letters=24)
    text = "The capital of France, it's 2."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) < len(text)
    said = [bytes(code for code in codes[number].tolist() if code) for number in ids]
    assert b"".join(said) == text.encode()
    assert any(word.startswith(b" ") for word in said)


def test_a_long_token_is_cut_and_special_ones_are_spelled_with_nothing() -> None:
    tokenizer = tiny_tokenizer()
    whole = spelled(tokenizer, len(tokenizer) + 5, letters=24)
    short = spelled(tokenizer, len(tokenizer) + 5, letters=2)
    assert torch.equal(short, whole[:, :2])
    assert whole[:, 2].any()
    assert tokenizer.all_special_ids
    assert not whole[tokenizer.all_special_ids].any()
    assert not whole[len(tokenizer) :].any()  # ids that the tokenizer does not have


def decoder(config: UnitDecoderConfig) -> UnitDecoder:
    torch.manual_seed(0)
    made = UnitDecoder(config)
    if config.spelling:
        for number, word in enumerate(WORDS):
            made.spelling.codes[number, :2] = torch.tensor(list(word.encode()))
    return made


def wrong(config: UnitDecoderConfig) -> float:
    """The share of the units of words never trained on that are wrong after training on others."""
    made = decoder(config)
    table = torch.randn(len(WORDS), config.input_width)
    sounds = torch.tensor([[LETTERS.index(letter) for letter in word] for word in WORDS])
    known = torch.tensor([number for number in range(len(WORDS)) if number not in NEW])
    module = LearnsToSpeak(made)
    optimiser = torch.optim.AdamW(module.parameters(), 5e-3)

    def batch(ids: torch.Tensor) -> dict[str, torch.Tensor]:
        states = Frames(torch.randn(*ids.shape, config.input_width), torch.full((len(ids),), 4))
        read = made.inputs(states, ids, lambda ids: table[ids])
        return {
            "states": read.values, "state_lengths": read.lengths,
            "labels": sounds[ids].flatten(1), "label_lengths": torch.full((len(ids),), 8),
        }  # fmt: skip

    for _ in range(300):
        loss = module.train()(**batch(known[torch.randint(len(known), (8, 4))]))["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    after = module.eval()(**batch(torch.tensor(NEW)[torch.randint(len(NEW), (8, 4))]))
    return int(after["errors"].sum()) / int(after["lengths"].sum())


def test_only_with_letters_is_a_word_said_that_no_answer_had() -> None:
    assert wrong(SPELLS) < 0.2
    assert wrong(replace(SPELLS, spelling=0, vocabulary=0)) > 0.5


def test_before_training_the_letters_change_nothing() -> None:
    spells = decoder(SPELLS).eval()
    plain = UnitDecoder(replace(SPELLS, spelling=0, vocabulary=0)).eval()
    plain.load_state_dict(
        {name: one for name, one in spells.state_dict().items() if not name.startswith("spelling.")}
    )
    states, ids = Frames(torch.randn(1, 5, 16), torch.tensor([5])), torch.randint(9, (1, 5))
    table = torch.randn(9, 16)
    said = [made(made.inputs(states, ids, lambda i: table[i])) for made in (spells, plain)]
    assert torch.equal(said[0].values, said[1].values)
    assert best_units(said[0]) == best_units(said[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_byte_is_read_as_it_is_from_states_of_any_type(dtype: torch.dtype) -> None:
    made = decoder(replace(SPELLS, vocabulary=256))
    made.spelling.codes[:, 0] = torch.arange(256)
    ids = torch.arange(256)[None]
    states = Frames(torch.zeros(1, 256, 16, dtype=dtype), torch.tensor([256]))
    read = made.inputs(states, ids, lambda ids: torch.zeros(1, 256, 16))
    assert read.values.dtype == dtype
    assert torch.equal(read.values[0, :, -3].long(), torch.arange(256))


def test_letters_without_a_vocabulary_are_refused_and_so_is_the_other_way_round() -> None:
    for spelling, vocabulary in ((3, 0), (0, 9), (-1, -1)):
        with pytest.raises(ValueError, match=f"spelling={spelling}, vocabulary={vocabulary}: both"):
            replace(SPELLS, spelling=spelling, vocabulary=vocabulary)


def test_the_table_of_letters_is_told_as_letters_and_not_as_parameters(tmp_path: Path) -> None:
    model = tiny_model(gate_fusion=True, spelling=3)
    model.save_pretrained(tmp_path, processor=tiny_processor())
    (part,) = [part for part in describe(tmp_path).parts if part.name == "unit_decoder"]
    assert model.unit_decoder is not None
    assert part.parameters == sum(weight.numel() for weight in model.unit_decoder.parameters())
    assert part.shape.endswith("gate fusion, 3 letters of a token")

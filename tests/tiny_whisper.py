"""A whole Whisper of a few thousand weights in the formats of its three packages, seeded.

What it writes is nonsense, yet always the same.
"""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

LETTERS = sorted(ByteLevel.alphabet())
END, START, ENGLISH, TRANSCRIBE = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|transcribe|>",
)
BEFORE_TIMES = "<|notimestamps|>"
SPECIAL = [
    END, START, ENGLISH, "<|translate|>", TRANSCRIBE, "<|startoflm|>", "<|startofprev|>",
    "<|nospeech|>", BEFORE_TIMES, *(f"<|{0.02 * step:.2f}|>" for step in range(1501)),
]  # fmt: skip


def write_transformers(folder: Path, seed: int = 6) -> Path:
    """A folder as transformers saves it, for English. seed: of the weights; not all say words."""
    ids = {text: place for place, text in enumerate([*LETTERS, *SPECIAL])}
    tokenizer = WhisperTokenizer(
        vocab={text: ids[text] for text in [*LETTERS, END]}, merges=[],
        unk_token=END, bos_token=END, eos_token=END, pad_token=END,
        extra_special_tokens=SPECIAL[1:9],
    )  # fmt: skip
    tokenizer.add_tokens(SPECIAL[9:])
    assert all(tokenizer.convert_tokens_to_ids(text) == place for text, place in ids.items())
    config = WhisperConfig(
        vocab_size=len(ids), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_mel_bins=80, bos_token_id=ids[END], eos_token_id=ids[END],
        pad_token_id=ids[END], decoder_start_token_id=ids[START], suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
        for weight in model.parameters():
            if weight.dim() == 2:
                torch.nn.init.normal_(weight, std=0.25)
    model.generation_config = GenerationConfig(
        is_multilingual=True, lang_to_id={ENGLISH: ids[ENGLISH]},
        task_to_id={"transcribe": ids[TRANSCRIBE], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids[BEFORE_TIMES], decoder_start_token_id=ids[START],
        bos_token_id=ids[END], eos_token_id=ids[END], pad_token_id=ids[END], max_length=24,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def write_openai(file: Path) -> Path:
    """A file as openai-whisper publishes them, of English alone."""
    dims = {
        "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 32, "n_audio_head": 2,
        "n_audio_layer": 1, "n_vocab": 51864, "n_text_ctx": 32, "n_text_state": 32,
        "n_text_head": 2, "n_text_layer": 1,
    }  # fmt: skip
    from whisper.model import ModelDimensions, Whisper

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Whisper(ModelDimensions(**dims)).state_dict()
        for name, value in state.items():
            if name.endswith("positional_embedding"):
                state[name] = torch.randn_like(value)
    torch.save({"dims": dims, "model_state_dict": state}, file)
    return file

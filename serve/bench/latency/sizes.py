"""Models of stated sizes with random weights: what they say is nonsense, what it costs is not."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, PreTrainedTokenizerFast

from omni.config import OmniConfig
from omni.foreign import CHAT_TEMPLATE, SYSTEM
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from omni.prompt import LLAMA_OMNI_LINE, PromptConfig, add_speech_token, special_id
from omni.speech_adapter import SpeechAdapterConfig
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from omni.unit_decoder import UnitDecoderConfig
from omni.vocoder import HifiGanConfig, UnitHifiGan

UNITS = 1000
# Merged units of the published voice last 1.7 frames on average (29 units a second).
FRAMES_PER_UNIT = 1.7
# Of the vectors that tell the steps of a state apart: a token then has about ten units, as in the
# paper's data (554 units an answer). Without them, random repeats all say one unit.
STEP_SPREAD = 0.2
BEGIN, END, PAD = "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")


@dataclass(frozen=True, kw_only=True)
class Size:
    """The sizes of every part, and how long a reply is where it is waited for as a whole."""

    encoder: SpeechEncoderConfig
    adapter: SpeechAdapterConfig = field(default_factory=SpeechAdapterConfig)
    language_model: dict[str, Any]  # fields of LlamaConfig
    decoder: dict[str, Any]  # fields of UnitDecoderConfig
    vocoder: HifiGanConfig
    reply_tokens: int
    long_replies: tuple[int, ...]  # tokens
    timed_tokens: tuple[int, ...]  # places in the longest of them


SIZES = {
    "tiny": Size(
        encoder=SpeechEncoderConfig(n_mels=20, width=32, layers=1, heads=2, ffn=32),
        adapter=SpeechAdapterConfig(stack=5, hidden=32),
        language_model=dict(
            vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=64, max_position_embeddings=1024,
        ),
        decoder=dict(width=32, layers=2, heads=2, ffn=64, upsample=5),
        vocoder=HifiGanConfig(
            num_embeddings=UNITS, embedding_dim=8, upsample_initial_channel=32, duration_width=8,
            resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),),
        ),
        reply_tokens=8,
        long_replies=(4, 8, 16),
        timed_tokens=(6, 16),
    ),
    # The smallest whose parts cost what they cost in a real one, in proportion.
    "mid": Size(
        encoder=SpeechEncoderConfig(n_mels=128, width=384, layers=4, heads=6, ffn=1536),
        language_model=dict(
            vocab_size=32_000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8,
            num_key_value_heads=2, intermediate_size=2048, max_position_embeddings=4096,
        ),
        decoder=dict(width=512, layers=2, heads=8, ffn=2048, upsample=25),
        vocoder=HifiGanConfig(),
        reply_tokens=64,
        long_replies=(64, 128, 256),
        timed_tokens=(32, 256),
    ),
    # Whisper-large-v3, Llama-3.1-8B and the unit decoder of the paper.
    "8b": Size(
        encoder=SpeechEncoderConfig(n_mels=128, width=1280, layers=32, heads=20, ffn=5120),
        language_model=dict(
            vocab_size=128_256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, intermediate_size=14_336, max_position_embeddings=131_072,
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        decoder=dict(width=4096, layers=2, heads=32, ffn=11_008, upsample=25),
        vocoder=HifiGanConfig(),
        reply_tokens=64,
        long_replies=(64, 128, 256),
        timed_tokens=(32, 256),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A model and the processor of its configuration."""

    model: OmniForConditionalGeneration
    processor: OmniProcessor


def build(size: Size, device: torch.device, dtype: torch.dtype, *, seed: int = 0) -> Subject:
    """A model of that size with random weights, made where it will run and in its type.

    A reply never ends by itself: its last token is the one that the caller's limit makes the last.
    """
    tokenizer = word_tokenizer(size.language_model["vocab_size"])
    config = omni_config(size, tokenizer)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        with device, _default_dtype(dtype):
            model = OmniForConditionalGeneration(config)
        with device:  # a vocoder counts time, and stays float32
            vocoder = UnitHifiGan(size.vocoder)
        _spread(model)
        assert model.unit_decoder is not None
        nn.init.normal_(model.unit_decoder.step_embedding.weight, std=STEP_SPREAD)
    nn.init.constant_(vocoder.dur_predictor.proj.bias, math.log(1 + FRAMES_PER_UNIT))
    model.vocoder = vocoder
    # The speech slot lies beyond the LLM's vocabulary, so it is never said.
    model.generation_config.eos_token_id = config.speech_token_id
    return Subject(model.eval(), OmniProcessor(tokenizer, config))


def variant(
    subject: Subject, *, pad_to_window: bool = False, block_frames: int | None = None
) -> Subject:
    """The same weights under another configuration of the speech encoder."""
    old = subject.model
    config = OmniConfig.from_dict(old.config.to_dict())
    config.pad_to_window = pad_to_window
    config.audio_config.block_frames = block_frames
    with torch.device("meta"):  # every part is replaced by the one that is there
        encoder = SpeechEncoder(config.encoder)
        model = OmniForConditionalGeneration(config, old.language_model, encoder)
    encoder.load_state_dict(old.speech_encoder.state_dict(), assign=True)
    model.speech_adapter, model.unit_decoder = old.speech_adapter, old.unit_decoder
    model.vocoder, model.generation_config = old.vocoder, old.generation_config
    return Subject(model.eval(), OmniProcessor(subject.processor.tokenizer, config))


def parts_of(model: OmniForConditionalGeneration) -> dict[str, nn.Module]:
    """The parts of the figure, by name."""
    assert model.unit_decoder is not None and model.vocoder is not None
    return {
        "speech_encoder": model.speech_encoder,
        "speech_adapter": model.speech_adapter,
        "language_model": model.language_model,
        "unit_decoder": model.unit_decoder,
        "vocoder": model.vocoder,
    }


def parameter_counts(model: OmniForConditionalGeneration) -> dict[str, int]:
    """How many weights each part has."""
    return {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in parts_of(model).items()
    }


def omni_config(size: Size, tokenizer: PreTrainedTokenizerFast) -> OmniConfig:
    """The configuration, with the prompt of the published weights."""
    text = LlamaConfig(
        **size.language_model,
        bos_token_id=special_id(tokenizer, "bos"),
        eos_token_id=special_id(tokenizer, "eos"),
        pad_token_id=special_id(tokenizer, "pad"),
    )
    decoder = UnitDecoderConfig(
        input_width=text.hidden_size, num_units=UNITS, step_embedding=True, **size.decoder
    )
    prompt = PromptConfig(speech_line=LLAMA_OMNI_LINE, system=SYSTEM, extra_bos=True)
    return OmniConfig(
        audio_config=size.encoder.to_whisper(),
        text_config=text,
        speech_adapter=asdict(size.adapter),
        unit_decoder=asdict(decoder),
        prompt=asdict(prompt),
        speech_token_id=add_speech_token(tokenizer),
    )


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """The words of the published prompt, and made-up ones up to that many tokens.

    A word is a token, so that the prompt is about as long as Llama's own tokenizer makes it.
    """
    pieces = pre_tokenizers.Split(Regex(r"\s?\w+|\s+|[^\w\s]"), "isolated")
    said = " ".join([SYSTEM, LLAMA_OMNI_LINE, "system user assistant"])
    texts = [said, "system", "user", "assistant", "\n", "\n\n"]
    words = [piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)]
    names = [*dict.fromkeys([BEGIN, END, PAD, *HEADERS, "<|unknown|>", *words])]
    names += [f" word{number}" for number in range(vocabulary - len(names))]
    tokenizer = Tokenizer(
        models.WordLevel({name: place for place, name in enumerate(names)}, "<|unknown|>")
    )
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD,
        additional_special_tokens=[*HEADERS],
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _spread(model: OmniForConditionalGeneration) -> None:
    """Draw every matrix anew, so large that another question gives another answer."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        for part in (model.speech_encoder, model.language_model):
            for name, parameter in part.named_parameters():
                # Else attention takes the mean of all positions, which is the same for everything.
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    parameter *= 2


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""OmniForConditionalGeneration: joins the parts. The only file that knows more than one of them.

log-mel -> speech_encoder -> speech_adapter -> language_model -> unit_decoder -> vocoder
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from omni.audio import encoder_frames
from omni.config import OmniConfig
from omni.files import ReadFrom
from omni.generation import generate_speech, repeated, speaks
from omni.language_model import (
    CACHE_NAME,
    LanguageModelOutput,
    embed,
    response_states,
    response_tokens,
    run_language_model,
)
from omni.products import quicken
from omni.prompt import IGNORE
from omni.speech_adapter import SpeechAdapter, splice
from omni.speech_encoder import SpeechEncoder
from omni.unit_decoder import UnitDecoder
from omni.values import Frames
from omni.vocoder import Vocoder

# What carries recordings: a row each, whichever rows of the prompts they belong to.
SPEECH = ("input_features", "input_features_mask", "encoder_frames", "encoder_lengths")


class OmniForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Any causal LM with ears and a voice.

    `speech_encoder`, `speech_adapter`, `language_model`, `unit_decoder` (None before stage 2) and
    `vocoder` (None if the checkpoint has none) are the parts of the paper's figure.
    """

    config_class = OmniConfig
    main_input_name = "input_ids"
    # As transformers' own speech models say it, whatever the base declares.
    input_modalities = ("audio", "text")  # pyright: ignore[reportAssignmentType]
    output_modalities = ("text", "audio")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(
        self,
        config: OmniConfig,
        language_model: PreTrainedModel | None = None,
        speech_encoder: SpeechEncoder | None = None,
    ) -> None:
        """language_model, speech_encoder: bases that are there already; None builds them anew."""
        if language_model is not None and language_model.config is config.text_config:
            # super() clears the attention kind of sub-configs, and a causal LM without one gets no
            # mask: it looks ahead, trains to a fine loss and says nonsense.
            config.text_config = copy.deepcopy(config.text_config)
        super().__init__(config)
        self.speech_encoder = speech_encoder or SpeechEncoder(config.encoder)
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        # How to end and how to sample is the LLM's: a Llama has several end tokens.
        self.generation_config = copy.deepcopy(self.language_model.generation_config)
        # From now on they are settings of their own: marked as derived from a model's config.json,
        # transformers would drop what it does not know, such as the chunk schedule.
        self.generation_config._from_model_config = False  # pyright: ignore[reportPrivateUsage]
        self.speech_adapter = SpeechAdapter(
            config.adapter,
            input_width=self.speech_encoder.width,
            output_width=config.hidden_size,
        )
        units = config.units
        self.unit_decoder: UnitDecoder | None = UnitDecoder(units) if units else None
        self.vocoder: Vocoder | None = None
        self.read_from: ReadFrom | None = None
        self.speech_encoder.requires_grad_(False)
        quicken(self)

    def _init_weights(self, module: nn.Module) -> None:
        """Every part has initialised itself; transformers must not do it again."""

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> OmniForConditionalGeneration:
        """Read a checkpoint folder or hub id; see omni.checkpoint.pretrained.read_checkpoint."""
        from omni.checkpoint import read_checkpoint

        for name in ("_from_auto", "_from_pipeline", "adapter_kwargs", "trust_remote_code"):
            kwargs.pop(name, None)  # of the Auto classes and pipelines
        if "torch_dtype" in kwargs:  # its name before transformers 5
            kwargs["dtype"] = kwargs.pop("torch_dtype")
        return read_checkpoint(cls, source, **kwargs)

    # Fewer keywords than the base: those that a checkpoint of ours has a meaning for.
    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, folder: str | Path, **kwargs: Any
    ) -> None:
        """Write a checkpoint folder; see omni.checkpoint.saving.save_pretrained."""
        from omni.checkpoint import save_pretrained

        save_pretrained(self, folder, **kwargs)

    def push_to_hub(  # pyright: ignore[reportIncompatibleVariableOverride]  # as above
        self, repo_id: str, **kwargs: Any
    ) -> Any:
        """Upload the whole checkpoint, with tokenizer and model card; see omni.checkpoint.push."""
        from omni.checkpoint import push

        return push(self, repo_id, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The LLM's; speech positions have none."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module | None:
        """The LLM's."""
        return self.language_model.get_output_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Only the LLM is worth it."""
        self.language_model.gradient_checkpointing_enable(*args, **kwargs)
        self.language_model.enable_input_require_grads()

    def encode_speech(self, input_features: Tensor, input_features_mask: Tensor) -> Frames:
        """Log-mel of R recordings -> LLM positions [R, P, H].

        input_features: [R, n_mels, M]; input_features_mask: [R, M].
        """
        with torch.no_grad():  # frozen in both stages
            frames = self.speech_encoder(input_features, input_features_mask)
        return self.adapt_speech(frames)

    def adapt_speech(self, frames: Frames) -> Frames:
        """Encoder frames [R, F, D], fresh or read from a cache -> LLM positions [R, P, H]."""
        dtype = self.speech_adapter.linear1.weight.dtype
        heard = Frames(frames.values.to(dtype), frames.lengths)
        return self.speech_adapter(heard, self.get_input_embeddings())

    def embed_prompt(self, input_ids: Tensor, speech: Frames | None) -> Tensor:
        """[B, T] ids and the speech that fills their slots -> [B, T, H]."""
        slot = self.config.speech_token_id
        embeddings = embed(self.language_model, input_ids, slot)
        if speech is None:
            if bool((input_ids == slot).any()):
                raise ValueError(
                    "input_ids hold speech slots, but no input_features came with them; "
                    "OmniProcessor makes both"
                )
            return embeddings
        return splice(embeddings, input_ids == slot, speech)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """[B, N] ids that the LLM says or reads -> [B, N, H]."""
        return self.embed_prompt(ids, None)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        encoder_frames: Tensor | None = None,
        encoder_lengths: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,  # generate asks for it; there is no other form
        tokenizer: Any = None,  # generate's, where it looks for stop strings
    ) -> CausalLMOutputWithPast:
        """Stage 1: cross-entropy on the response.

        input_ids [B, T] with one speech slot per speech position; input_features [R, n_mels, M]
        and input_features_mask [R, M] (or encoder_frames [R, F, D] and encoder_lengths [R], the
        frozen encoder's output read from a cache); labels [B, T], -100 where no loss looks.
        logits_to_keep: the last so many positions, or a tensor of positions; the loss looks at
        these alone.
        num_items_in_batch: labels in all micro-batches of an optimiser's step, which the loss is
        divided by; None counts those of this batch. cache: keys and values so far; releases of
        transformers before 5.24 call it past_key_values.
        """
        output = self._language_states(
            input_ids, attention_mask, input_features, input_features_mask, encoder_frames,
            encoder_lengths, inputs_embeds=inputs_embeds,
            cache=past_key_values if cache is None else cache, use_cache=bool(use_cache),
            position_ids=position_ids, logits_to_keep=logits_to_keep,
        )  # fmt: skip
        loss = None
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
            keep = logits_to_keep
            targets = targets[:, keep if isinstance(keep, Tensor) else slice(-keep, None)]
            looked_at = targets != IGNORE
            # float32: bfloat16 sums of thousands of classes drift.
            logits = output.logits[looked_at].float()
            total = F.cross_entropy(logits, targets[looked_at], reduction="sum")
            loss = total / (looked_at.sum() if num_items_in_batch is None else num_items_in_batch)
        named: dict[str, Any] = {"loss": loss, "logits": output.logits, CACHE_NAME: output.cache}
        layers: Any = output.layers if output_hidden_states else None
        return CausalLMOutputWithPast(**named, hidden_states=layers)

    def generate(
        self,
        *args: Any,
        return_audio: bool | None = None,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """transformers' `generate`; with return_audio=True (or generation_mode="audio", as its
        pipelines say) the replies are also spoken, see omni.generation.generate_speech."""
        theirs: Any = super()
        if not speaks(return_audio, generation_mode):
            return theirs.generate(*args, **kwargs)
        return generate_speech(self, theirs.generate, *args, **kwargs)

    def create_masks_for_generate(
        self, attention_mask: Tensor | None = None, **_: Any
    ) -> Tensor | None:
        """The padding as it is, for caches of fixed size too: the LLM makes its masks of it itself.
        transformers' own would ask our configuration how the LLM attends, which only it knows."""
        return attention_mask

    def _expand_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **inputs: Any,
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """transformers' own, which repeats rows, and here each row with its recordings."""
        theirs: Any = super()
        speech = {name: inputs.pop(name) for name in SPEECH if inputs.get(name) is not None}
        if speech and expand_size > 1 and input_ids is not None:
            frames = speech.get("encoder_lengths")
            if frames is None:
                frames = encoder_frames(speech["input_features_mask"].sum(-1))
            slots = (input_ids == self.config.speech_token_id).sum(-1)
            order = repeated(slots, frames // self.config.adapter.stack, expand_size)
            speech = {name: value[order] for name, value in speech.items()}
        ids, expanded = theirs._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids,
            **inputs,
        )  # fmt: skip
        return ids, expanded | speech

    def _language_states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        input_features: Tensor | None,
        input_features_mask: Tensor | None,
        encoder_frames: Tensor | None,
        encoder_lengths: Tensor | None,
        *,
        inputs_embeds: Tensor | None = None,
        cache: Cache | None = None,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> LanguageModelOutput:
        if inputs_embeds is None:
            speech = None
            if encoder_frames is not None and encoder_lengths is not None:
                speech = self.adapt_speech(Frames(encoder_frames, encoder_lengths))
            elif input_features is not None:
                if input_features_mask is None:
                    raise ValueError(
                        "input_features came without input_features_mask; OmniProcessor makes both"
                    )
                speech = self.encode_speech(input_features, input_features_mask)
            if input_ids is None:
                raise ValueError("input_ids or inputs_embeds must be given")
            inputs_embeds = self.embed_prompt(input_ids, speech)
        return run_language_model(
            self.language_model, inputs_embeds, attention_mask, cache=cache, use_cache=use_cache,
            **kwargs,
        )  # fmt: skip

    @torch.no_grad()
    def teacher_forced_states(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **speech: Any
    ) -> Frames:
        """Stage 2's input: the states that predict each label, from one frozen forward."""
        output = self._language_states(
            input_ids, attention_mask, speech.get("input_features"),
            speech.get("input_features_mask"), speech.get("encoder_frames"),
            speech.get("encoder_lengths"), logits_to_keep=1,
        )  # fmt: skip
        predicts = F.pad(labels[:, 1:] != IGNORE, (0, 1))
        return response_states(output.hidden, predicts)

    def teacher_forced_inputs(self, labels: Tensor, **batch: Tensor) -> Frames:
        """What the unit decoder reads for each label: its state, under fusion its token too."""
        assert self.unit_decoder is not None
        states = self.teacher_forced_states(labels=labels, **batch)
        return self.unit_decoder.inputs(states, response_tokens(labels), self.embed_tokens)

"""The published algorithm (LLaMA-Omni, Fang et al. 2024, arXiv 2409.06666), plainly.

Every question is padded to Whisper's 30 s; at each token the unit decoder is run again over the
whole of the text so far; each chunk of units is vocoded alone. Where the paper leaves open how, the
quicker way is taken: the LLM keeps keys and values, the prompt's logits are made for its last
position alone, and a chunk is vocoded once its units are there. Nothing here is omni.session's:
what both say must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from omni.audio import pad_to_window
from omni.ctc import best_units
from omni.language_model import run_language_model
from omni.prompt import Message
from omni.values import Frames
from omni.vocoder import ChunkSchedule, vocode
from serve.bench.latency.answer import Answer, Asked, Clock
from serve.bench.latency.sizes import Subject


class Reference:
    """padded=False: the same at true length, which the published weights never saw."""

    def __init__(self, subject: Subject, clock: Clock, *, padded: bool = True) -> None:
        self._model, self._processor = subject.model, subject.processor
        self._clock = clock
        self._padded = padded

    @torch.inference_mode()
    def ask(self, asked: Asked) -> Answer:
        """Answer greedily; the question is given whole."""
        started = self._clock()
        model, first_audio, cache = self._model, None, None
        embeddings = self.prompt(asked.waveform)
        states: list[Tensor] = []  # [1, 1, H] of each token, the one that predicts it
        ids: list[int] = []
        token_at: list[float] = []
        units: list[int] = []
        vocoded, chunks = 0, 0
        while len(ids) < asked.tokens:
            output = run_language_model(
                model.language_model, embeddings, cache=cache, use_cache=True, logits_to_keep=1
            )
            cache = output.cache
            states.append(output.hidden[:, -1:])
            ids.append(int(output.logits[0, -1].argmax()))
            token_at.append(self._clock() - started)
            embeddings = model.embed_tokens(torch.tensor([ids[-1:]], device=model.device))
            units = self.units(torch.cat(states, dim=1))
            last = len(ids) == asked.tokens
            for end in chunk_ends(asked.schedule, len(units), vocoded, chunks, last=last):
                self.sound(units[vocoded:end])
                vocoded, chunks = end, chunks + 1
                if first_audio is None:
                    first_audio = self._clock() - started
            if asked.until_sound and first_audio is not None:
                break
        return Answer(
            token_ids=tuple(ids),
            units=tuple(units),
            token_at_ms=tuple(token_at),
            first_audio_ms=first_audio,
            total_ms=self._clock() - started,
            started_ms=started,
        )

    def prompt(self, waveform: np.ndarray) -> Tensor:
        """[samples] -> [1, T, H]: all that the LLM reads before it answers."""
        model = self._model
        heard = pad_to_window(waveform) if self._padded else waveform
        mel = model.speech_encoder.config.log_mel(heard)[None].to(model.device)  # [1, n_mels, M]
        mask = torch.ones(1, mel.shape[-1], dtype=torch.bool, device=model.device)
        speech = model.encode_speech(mel, mask)
        message = Message(role="user", positions=int(speech.lengths))
        ids = torch.tensor([self._processor.prompt([message]).ids], device=model.device)
        return model.embed_prompt(ids, speech)

    def scores(self, waveform: np.ndarray, ids: Sequence[int]) -> tuple[Tensor, Frames]:
        """What all of the text would have scored, in one forward that keeps nothing.

        ids: the text, N tokens. Returns logits [N, vocabulary] and the unit decoder's
        log-probabilities [1, N * upsample, K + 1].
        """
        model = self._model
        with torch.inference_mode():
            text = model.embed_tokens(torch.tensor([list(ids[:-1])], device=model.device).long())
            whole = torch.cat([self.prompt(waveform), text], dim=1)
            output = run_language_model(model.language_model, whole, logits_to_keep=len(ids))
            return output.logits[0], self.log_probs(output.hidden[:, -len(ids) :])

    def units(self, states: Tensor) -> list[int]:
        """[1, N, H] of all tokens so far -> all units so far."""
        return best_units(self.log_probs(states))[0]

    def log_probs(self, states: Tensor) -> Frames:
        """[1, N, H] of all tokens so far -> [1, N * upsample, K + 1]."""
        assert self._model.unit_decoder is not None
        lengths = torch.tensor([states.shape[1]], device=states.device)
        return self._model.unit_decoder(Frames(states, lengths))

    def sound(self, units: Sequence[int]) -> np.ndarray:
        """One chunk, as if there were nothing before and behind it: [W] at 16 kHz."""
        assert self._model.vocoder is not None
        return vocode(self._model.vocoder, torch.tensor(units)).cpu().numpy()


def chunk_ends(
    schedule: ChunkSchedule | None, units: int, vocoded: int, chunks: int, *, last: bool
) -> list[int]:
    """Up to which unit each chunk goes that is due, of a reply with so many units by now."""
    ends: list[int] = []
    while schedule is not None and vocoded < units:
        size = schedule.size(chunks + len(ends))
        end = units if size is None else vocoded + size
        if not last and (size is None or end > units):
            break
        vocoded = min(end, units)
        ends.append(vocoded)
    return ends

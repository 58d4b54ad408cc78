"""A model's steps compiled before anybody waits for them: what `--compile` does."""

from __future__ import annotations

from collections.abc import Callable

from omni.batching import Backend, Size, compile_language_model, compile_unit_decoder
from omni.model import OmniForConditionalGeneration

# Room of the compiled buffers. A step goes over all of its buffer, taken or not, so they are
# small; a reply that is older than the largest runs on as without compilation.
POSITIONS = (256, 512, 1024)  # of the LLM: conversation, question and answer
TOKENS = (20, 40, 80)  # of the unit decoder: its reply so far


def compile_steps(
    model: OmniForConditionalGeneration,
    *,
    sessions: int = 1,
    backend: Backend = "inductor",
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Compile the next step of LLM and unit decoder; every session of the model then uses it.

    sessions: how many may be stepped together; there is a size for one, two, four and so on.
    backend: of torch.compile. progress: called with (sizes so far, sizes in all).

    Nothing fails: what can't be compiled is told by a warning, and runs as before.
    """
    slots = slots_for(sessions)
    text_config = model.language_model.config.get_text_config()
    most = getattr(text_config, "max_position_embeddings", POSITIONS[-1])
    positions = sorted({min(capacity, most) for capacity in POSITIONS})
    decoder = model.unit_decoder
    total = len(slots) * (len(positions) + (len(TOKENS) if decoder is not None else 0))
    done = 0
    told = progress or (lambda done, total: None)

    def advance() -> None:
        nonlocal done
        done += 1
        told(done, total)

    told(done, total)
    compile_language_model(
        model.language_model,
        [Size(rows, capacity) for rows in slots for capacity in positions],
        backend=backend,
        progress=advance,
    )
    if decoder is not None:
        compile_unit_decoder(
            decoder,
            [Size(rows, decoder.upsample * tokens) for rows in slots for tokens in TOKENS],
            backend=backend,
            progress=advance,
        )
    told(total, total)


def slots_for(sessions: int) -> list[int]:
    """1, 2, 4 ... up to where all of them fit."""
    slots = [1]
    while slots[-1] < sessions:
        slots.append(2 * slots[-1])
    return slots

"""First audio stage by stage: when each began, what it took, and its floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from omni.vocoder import StreamingVocoder
from serve.bench.latency.answer import Answer, Asked, Clock
from serve.bench.latency.asking import Ours
from serve.bench.latency.floor import Speed, flop_counter, weight_bytes
from serve.bench.latency.measuring import first_audio_of
from serve.bench.latency.report import Span, Waterfall
from serve.bench.latency.sizes import parts_of


@dataclass(frozen=True)
class _Call:
    stage: str
    start_ms: float
    ms: float
    flop: int


def waterfall(
    way: str, ours: Ours, asked: Asked, *, clock: Clock, speed: Speed, repeats: int
) -> Waterfall:
    """Ask once to count the operations of each call, and `repeats` times to time it."""
    read = {stage: weight_bytes(part) for stage, part in _parts(ours).items()}
    _, counted = _calls(ours, asked, clock, count=True)
    timed = [_calls(ours, asked, clock, count=False) for _ in range(repeats)]
    # Where work was behind the microphone, calls for earlier pieces stand before the common ones.
    shared = min(len(counted), *(len(calls) for _, calls in timed))
    spans: list[Span] = []
    for place, call in zip(range(-shared, 0), counted[-shared:], strict=True):
        same = [calls[place] for _, calls in timed]
        span = Span(
            stage=call.stage,
            start_ms=statistics.median(other.start_ms for other in same),
            ms=statistics.median(other.ms for other in same),
            floor_ms=speed.floor_ms(read.get(call.stage, 0), call.flop),
        )
        spans.append(span)
    return Waterfall(
        way=way,
        first_audio_ms=statistics.median(first_audio_of(answer) for answer, _ in timed),
        spans=tuple(spans),
    )


def _parts(ours: Ours) -> dict[str, nn.Module]:
    """The stages whose floor is the reading of a part's weights."""
    parts = parts_of(ours.subject.model)
    return {
        "encoder": parts["speech_encoder"],
        "adapter": parts["speech_adapter"],
        "prefill": parts["language_model"],
        "LLM step": parts["language_model"],
        "unit decoder": parts["unit_decoder"],
        "waveform": parts["vocoder"],
    }


def _calls(ours: Ours, asked: Asked, clock: Clock, *, count: bool) -> tuple[Answer, list[_Call]]:
    """The answer, and the calls up to its first sound that the question's end had to wait for."""
    with _watched(ours, clock, count=count) as calls:
        answer = ours.ask(asked)
    began = answer.started_ms
    after = [replace(call, start_ms=call.start_ms - began) for call in calls]
    return answer, [call for call in after if call.start_ms >= 0]


@contextmanager
def _watched(ours: Ours, clock: Clock, *, count: bool) -> Generator[list[_Call]]:
    """Within the block, every call of a stage is noted."""
    model = ours.subject.model
    encoder, llm = model.speech_encoder, model.language_model
    calls: list[_Call] = []
    with ExitStack() as stack:
        for owner, names, stage_of in (
            (ours.subject.processor, ["features"], _always("log-mel")),
            (encoder, ["forward", "step", "finish"], _always("encoder")),
            (model.speech_adapter, ["forward"], _always("adapter")),
            (llm, ["forward"], _language_model),
            (model.unit_decoder, ["step"], _always("unit decoder")),
            (StreamingVocoder, ["step", "finish"], _vocoder),  # a session makes one of its own
        ):
            for name in names:
                noted = _noting(getattr(owner, name), stage_of, clock, calls, count=count)
                stack.enter_context(_replaced(owner, name, noted))
        yield calls


def _noting(
    original: Callable[..., Any],
    stage_of: Callable[[Mapping[str, Any], Any], str],
    clock: Clock,
    calls: list[_Call],
    *,
    count: bool,
) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        if count:
            with flop_counter() as counter:
                result = original(*args, **kwargs)
            flop = counter.get_total_flops()
        else:
            result, flop = original(*args, **kwargs), 0
        calls.append(_Call(stage_of(kwargs, result), started, clock() - started, flop))
        return result

    return noted


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Generator[None]:
    """An attribute of an object or a class, for as long as the block lasts."""
    own = vars(owner).get(name)  # None: it is the class's, and comes to light again
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _always(stage: str) -> Callable[[Mapping[str, Any], Any], str]:
    return lambda kwargs, result: stage


def _language_model(kwargs: Mapping[str, Any], result: Any) -> str:
    return "prefill" if kwargs["inputs_embeds"].shape[1] > 1 else "LLM step"


def _vocoder(kwargs: Mapping[str, Any], result: Any) -> str:
    """Most calls only find how long units last; those that make sound do both."""
    chunks = result[0] if isinstance(result, tuple) else result
    return "waveform" if chunks else "durations"

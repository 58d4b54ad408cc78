"""What sessions have to know of the model that serves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import dumps

import numpy as np

from omni.session import SessionConfig
from serve.realtime.session_object import FunctionTool
from serve.realtime.wire import Refused

Recogniser = Callable[[np.ndarray], str]  # [n] float32, 16 kHz -> what was said


@dataclass(frozen=True, kw_only=True)
class Model:
    """base: how the checkpoint answers. takes_system: whether it was taught system messages.
    takes_tools: whether its chat template does anything with tools. longest_s: of a spoken
    question. control_token_in: the first token in a text that would steer the model. recogniser:
    what writes down what clients say; None: nothing does.
    """

    name: str
    base: SessionConfig
    takes_system: bool
    takes_tools: bool
    longest_s: float
    control_token_in: Callable[[str], str | None]
    recogniser: Recogniser | None = None


def check_control_tokens(
    text: str, where: str, control_token_in: Callable[[str], str | None]
) -> None:
    """Raise Refused for a client's text that would steer the model; where: its place."""
    if token := control_token_in(text):
        raise Refused(
            "invalid_value", f"{where}: holds {token}, which steers the model; remove it",
            param=where,
        )  # fmt: skip


def check_told(
    instructions: str | None,
    tools: Sequence[FunctionTool] | None,
    where: str,
    control_token_in: Callable[[str], str | None],
) -> None:
    """The same for what a session or a response tells the model beside the conversation."""
    check_control_tokens(instructions or "", f"{where}.instructions", control_token_in)
    for place, tool in enumerate(tools or []):
        told = dumps(tool.template_form(), ensure_ascii=False)
        check_control_tokens(told, f"{where}.tools[{place}]", control_token_in)

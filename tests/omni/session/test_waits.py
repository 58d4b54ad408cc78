"""How often a step has to wait for the device: each wait leaves a GPU without work."""

from collections.abc import Iterator

import pytest
import torch

from omni.session import SessionConfig, SpeechSession, Stepper
from omni.session.turn import Turn
from omni.vocoder import Fixed
from tests.standin_device import standin_device, waits
from tests.tiny import tiny_model, tiny_processor

torch.set_num_threads(1)
SILENT = SessionConfig(speak=False, max_new_tokens=20)


@pytest.fixture
def device() -> Iterator[torch.device]:
    with standin_device() as there:
        yield there


def begun(device: torch.device, many: int, config: SessionConfig) -> tuple[Stepper, list[Turn]]:
    model, turns = tiny_model().to(device), []
    for number in range(many):
        talk = SpeechSession(model, tiny_processor(), config)
        talk.push_text("How warm is it? " * (1 + number))
        turns.append(talk.begin())
    return Stepper(model), turns


def waited(stepper: Stepper, turns: list[Turn]) -> int:
    with waits() as found:
        told = list(stepper.step([turn.reply for turn in turns]))
    assert told and not [event for _, event in told if isinstance(event, Exception)]
    return len(found)


@pytest.mark.parametrize("many", [1, 2, 5])
def test_a_step_waits_once_for_all_tokens_and_once_for_all_units(
    device: torch.device, many: int
) -> None:
    stepper, turns = begun(device, many, SILENT)
    waited(stepper, turns)  # the prompts, each by itself
    assert [waited(stepper, turns) for _ in range(6)] == [2] * 6


def test_beyond_that_it_waits_once_for_the_durations_of_each_that_has_new_units(
    device: torch.device,
) -> None:
    stepper, turns = begun(device, 3, SessionConfig(max_new_tokens=20, schedule=Fixed(1000)))
    waited(stepper, turns)
    for _ in range(6):
        before = [len(turn.reply._units) for turn in turns]
        count = waited(stepper, turns)
        spoke = sum(len(turn.reply._units) > n for turn, n in zip(turns, before, strict=True))
        assert count <= 2 + spoke


def test_the_stand_in_counts_what_has_to_be_waited_for(device: torch.device) -> None:
    there = torch.arange(4.0).to(device)
    with waits() as found:
        total = there.sum() + there[2]  # stays there
        chosen = there[there > 1]
        read = (float(total), there.cpu(), there.tolist(), chosen, there.nonzero())
    assert len(found) == len(read)

"""Before the first answer: what is imported, how threads wait, how many there are."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from omni.cli import app
from omni.commands.process import without_garbage_collection
from omni.commands.starting import settle_threads
from omni.commands.threads import choose_threads, recall_threads
from omni.files.memory import cache_folder
from omni.loading import NANO
from omni.session.config import SessionConfig
from tests.paths import ROOT
from tests.tiny import tiny_model, tiny_processor


@pytest.fixture(autouse=True)
def two_threads_and_a_cache_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def answering(faster: int, asked: list[int]) -> Callable[[], float]:
    """Takes a second with that number of threads, ten with another; notes each answer."""

    def answer() -> float:
        asked.append(torch.get_num_threads())
        return 1.0 if torch.get_num_threads() == faster else 10.0

    return answer


@pytest.mark.parametrize("faster", [1, 2])
def test_the_faster_number_of_threads_is_kept_and_found_again_without_trying(faster: int) -> None:
    asked: list[int] = []
    assert not recall_threads(tiny_model())
    choose_threads(tiny_model(), answering(faster, asked))
    assert torch.get_num_threads() == faster and sorted(asked) == [1, 1, 2, 2, 2]
    torch.set_num_threads(2)
    assert recall_threads(tiny_model()) and torch.get_num_threads() == faster
    torch.set_num_threads(2)
    choose_threads(tiny_model(), answering(3 - faster, asked))  # a new process
    assert torch.get_num_threads() == faster and len(asked) == 5


@pytest.mark.parametrize(
    "question", ["platform.node", "os.cpu_count", "torch.backends.cpu.get_cpu_capability"]
)
def test_another_model_or_machine_is_tried_anew(
    question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    choose_threads(tiny_model(), answering(1, asked))
    torch.set_num_threads(2)
    choose_threads(tiny_model(vocoder=None), answering(1, asked))
    assert len(asked) == 10
    monkeypatch.setattr(question, lambda: "something else")
    torch.set_num_threads(2)
    choose_threads(tiny_model(), answering(1, asked))
    assert len(asked) == 15


@pytest.mark.parametrize("content", ["no JSON", '{"a": 1}', "[]"])
def test_a_memory_that_cannot_be_read_is_written_anew(content: str) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "threads.json").write_text(content)
    choose_threads(tiny_model(), answering(1, []))
    assert torch.get_num_threads() == 1
    assert 1 in json.loads((cache_folder() / "threads.json").read_text()).values()


def test_without_a_place_to_remember_the_choice_is_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    choose_threads(tiny_model(), answering(1, []), memory=tmp_path / "file" / "threads.json")
    assert torch.get_num_threads() == 1


def test_the_threads_of_a_session_are_those_that_answered_soonest() -> None:
    settle_threads(tiny_model(), tiny_processor(), SessionConfig())
    (choice,) = json.loads((cache_folder() / "threads.json").read_text()).values()
    assert choice in (1, 2) and torch.get_num_threads() == choice


@pytest.mark.parametrize("warm", [False, True])
def test_the_first_answer_does_not_wait_for_the_trial_unless_it_shall_be_a_warm_one(
    warm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[bool] = []
    output = tmp_path / "answer.wav"
    monkeypatch.setattr("omni.commands.settle_threads", lambda *_: answered.append(output.exists()))
    options = ["--text", "Hello", "-o", str(output), *(["--warm-up"] if warm else [])]
    done = CliRunner().invoke(app, ["ask", *options, "--max-new-tokens", "2"])
    assert done.exit_code == 0, done.output
    assert answered == [not warm]


def test_garbage_is_not_sought_while_things_are_loaded_and_is_again_afterwards() -> None:
    with pytest.raises(KeyError), without_garbage_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.unfreeze()


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["omni", "omni.cli", "train.cli", "data_tools.cli", "serve.cli"])
def test_a_command_shows_its_help_without_torch_or_transformers(module: str) -> None:
    heavy = "sorted({'torch', 'transformers', 'datasets'} & sys.modules.keys())"
    assert run(f"import sys, {module}; print({heavy})") == "[]"


@pytest.mark.parametrize("module", ["omni.cli", "train.cli", "data_tools.cli", "serve.cli"])
def test_the_threads_of_a_command_sleep_while_they_wait(module: str) -> None:
    code = f"import os, {module}; print(os.environ['OMP_WAIT_POLICY'])"
    assert run(f"import os; os.environ.pop('OMP_WAIT_POLICY', None); {code}") == "passive"
    assert run(f"import os; os.environ['OMP_WAIT_POLICY'] = 'active'; {code}") == "active"


def test_an_answer_needs_nothing_that_transformers_imports_for_other_models() -> None:
    code = f"""
import sys
from omni.commands.process import FOR_OTHERS, without_packages_for_others
with without_packages_for_others():
    from omni.commands import start
    from omni.session import SpeechSession
    parts = start({str(NANO)!r})
*_, done = SpeechSession(*parts).ask("What is the capital of France?")
print(done.text, [name for name in FOR_OTHERS if name in sys.modules])
import scipy.optimize  # which is here, and is found again
"""
    assert run(code) == "The capital of France is Paris. []"


def test_nothing_is_hidden_from_a_process_that_knows_transformers() -> None:
    code = """
import transformers
from omni.commands.process import without_packages_for_others
with without_packages_for_others():
    import scipy.optimize
print("found")
"""
    assert run(code) == "found"

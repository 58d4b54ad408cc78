"""Devices and types by name: what is there is taken, what is not is refused in one line."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from omni.devices import choose_device, choose_dtype, is_fast_in_bfloat16, move, product
from omni.files.errors import UserError
from tests.logged import own_messages
from tests.tiny import tiny_model

CPU = torch.device("cpu")


def has(monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


def test_auto_takes_a_gpu_then_apples_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="omni.devices")
    has(monkeypatch, gpus=2, mps=True)
    assert choose_device("auto") == torch.device("cuda", 0)
    has(monkeypatch, mps=True)
    assert choose_device("auto") == torch.device("mps")
    has(monkeypatch)
    assert choose_device("auto") == CPU
    assert own_messages(caplog) == ["device: cuda:0", "device: mps", "device: cpu"]


def test_a_gpu_is_taken_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gpus=2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cuda") == torch.device("cuda", 0)


def test_of_several_processes_on_a_machine_each_has_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has(monkeypatch, gpus=2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda", 1)
    has(monkeypatch, gpus=1)  # a launcher that shows each process its own GPU alone
    assert choose_device("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("name", "gpus", "told"),
    [
        ("gpu", 2, r"device='gpu': must be auto, cpu, cuda, cuda:N or mps; auto takes"),
        ("cuda:one", 2, r"device='cuda:one': must be auto, cpu, cuda"),
        ("cuda:2", 2, r"device='cuda:2': must be .* cuda:0 to cuda:1; take one of them, or cuda"),
        ("cuda", 0, r"device='cuda': must be .* finds no CUDA GPU; take auto or cpu"),
        ("mps", 0, r"device='mps': must be .* finds no Apple GPU; take auto or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_to_take(
    name: str, gpus: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, gpus=gpus)
    with pytest.raises(UserError, match=told):
        choose_device(name)


def test_weights_are_rounded_and_the_frequencies_of_their_positions_are_not() -> None:
    """As transformers loads an LLM in bfloat16, so is one that is moved into it."""
    llm = tiny_model().language_model
    before = {name: buffer.clone() for name, buffer in llm.named_buffers()}
    move(llm, dtype=torch.bfloat16)
    assert {weight.dtype for weight in llm.parameters()} == {torch.bfloat16}
    assert before and all(torch.equal(b, before[name]) for name, b in llm.named_buffers())
    assert llm.get_input_embeddings().weight is llm.get_output_embeddings().weight


def test_quantised_weights_stay_the_whole_numbers_that_they_are() -> None:
    module = torch.nn.Linear(2, 2)
    module.packed = torch.nn.Parameter(torch.tensor([3, 7], dtype=torch.uint8), requires_grad=False)
    move(module, dtype=torch.bfloat16)
    assert module.weight.dtype == torch.bfloat16
    assert module.packed.dtype == torch.uint8 and module.packed.tolist() == [3, 7]


def test_a_type_is_taken_by_its_name(tmp_path: Path) -> None:
    assert choose_dtype("float16", CPU, memory=tmp_path / "types.json") == torch.float16
    with pytest.raises(UserError, match=r"dtype='fp8': must be auto, float32, bfloat16, float16"):
        choose_dtype("fp8", CPU)
    assert not list(tmp_path.iterdir())  # nothing was measured


def taking(float32: float, bfloat16: float, asked: list[int]) -> Callable[[torch.dtype], float]:
    """Seconds per type; every other try meets a busy machine."""

    def seconds(dtype: torch.dtype) -> float:
        asked.append(0)
        busy = 10.0 if len(asked) % 4 < 2 else 0.0
        return busy + (bfloat16 if dtype == torch.bfloat16 else float32)

    return seconds


@pytest.mark.parametrize(("bfloat16", "fast"), [(0.4, True), (0.9, False), (5.0, False)])
def test_bfloat16_must_be_clearly_faster_than_float32(bfloat16: float, fast: bool) -> None:
    assert is_fast_in_bfloat16(taking(1.0, bfloat16, [])) == fast


@pytest.mark.parametrize("fast", [True, False])
def test_the_type_is_measured_once_and_found_again(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="omni.devices")
    asked: list[int] = []
    machine = taking(1.0, 0.1 if fast else 2.0, asked)
    monkeypatch.setattr("omni.devices.product", lambda device: machine)
    expected = torch.bfloat16 if fast else torch.float32
    memory = tmp_path / "cache" / "types.json"
    assert choose_dtype("auto", CPU, memory=memory) == expected
    measured = len(asked)
    assert choose_dtype("auto", CPU, memory=memory) == expected and len(asked) == measured > 0
    assert own_messages(caplog) == [f"dtype: {str(expected)[6:]} on cpu"] * 2
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    choose_dtype("auto", CPU, memory=memory)
    assert len(asked) == 2 * measured
    assert list(json.loads(memory.read_text()).values()) == [fast, fast]


def test_the_measured_product_is_real(tmp_path: Path) -> None:
    seconds = product(CPU)
    assert 0 < seconds(torch.float32) < 60 and 0 < seconds(torch.bfloat16) < 60
    assert choose_dtype("auto", CPU, memory=tmp_path / "file") in (torch.float32, torch.bfloat16)


def test_a_cuda_gpu_says_itself_whether_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    supports = {True: torch.bfloat16, False: torch.float32}  # a T4 only emulates it
    monkeypatch.setattr("torch.cuda.device", lambda device: torch.no_grad())
    for real, expected in supports.items():
        monkeypatch.setattr(
            "torch.cuda.is_bf16_supported", lambda including_emulation, real=real: real
        )
        assert choose_dtype("auto", torch.device("cuda", 0)) == expected

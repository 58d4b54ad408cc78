"""Writing a converted LLaMA-Omni: its progress, a disk that fills up, and the memory it takes."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from omni.foreign.llama_omni import read_llama_omni
from omni.foreign.llama_omni_format import expected_parts, foreign_names, omni_config
from omni.foreign.vocoder import read_vocoder
from omni.foreign.whisper import read_whisper
from tests.published import CHECKPOINT, ENCODER, VOCODER, checkpoint_copy, write_shards

torch.set_num_threads(1)


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    conversion = read_llama_omni(CHECKPOINT, whisper=ENCODER)
    written = 0

    def full(count: int) -> None:
        nonlocal written
        written += count
        if written > conversion.nbytes // 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        conversion.write(tmp_path / "target", full)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_byte(tmp_path):
    conversion = read_llama_omni(CHECKPOINT, whisper=ENCODER, vocoder=read_vocoder(VOCODER))
    counts: list[int] = []
    conversion.write(tmp_path / "target", counts.append)
    assert sum(counts) == conversion.nbytes


# In a process of its own, whose memory is the conversion's alone. Pages that are mapped from files
# are the system's to take back; what a conversion has to have is anonymous.
MEASURE = """
import re, sys
from pathlib import Path
from omni.foreign.llama_omni import read_llama_omni

small, large, encoder, target = sys.argv[1:]
read_llama_omni(small, whisper=encoder).write(target + "-small")  # imports and their memory
print("ready", flush=True)
input()
read_llama_omni(large, whisper=encoder).write(target)
"""


def anonymous_bytes(process: int) -> int:
    """0 once the process has ended."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def peak_growth(arguments: list[str]) -> int:
    """Anonymous memory that the large conversion takes at most, looked at every millisecond."""
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        before = peak = anonymous_bytes(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.001)
    assert process.returncode == 0
    return peak - before


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_peak_memory_is_the_largest_tensor_and_a_tenth_of_the_model(tmp_path):
    large = checkpoint_copy(tmp_path / "large")
    sizes = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8,
        "num_key_value_heads": 8, "num_hidden_layers": 6,
    }  # fmt: skip
    config = json.loads((large / "config.json").read_text()) | sizes
    (large / "config.json").write_text(json.dumps(config))
    settings = omni_config(config, read_whisper(ENCODER), 512, where="")
    names = foreign_names(settings)
    tensors = {
        names[part][name]: torch.zeros(tensor.shape, dtype=torch.float16)
        for part, shapes in expected_parts(settings).items()
        for name, tensor in shapes.items()
    }
    (large / "model.safetensors").unlink()
    write_shards(large, tensors, 4)
    model = sum(tensor.nbytes for tensor in tensors.values())
    largest = max(tensor.nbytes for tensor in tensors.values())
    assert model > 200e6
    del tensors
    arguments = [CHECKPOINT, large, ENCODER, tmp_path / "target"]
    assert peak_growth(list(map(str, arguments))) <= largest + model / 10

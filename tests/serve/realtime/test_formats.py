"""Sound on the wire: what goes out comes back, in pieces as in one."""

import base64

import numpy as np
import pytest

from omni.audio import resample
from serve.realtime.formats import RATES, Kind, WireDecoder, WireEncoder, duration_ms, read_base64
from serve.realtime.wire import Refused
from tests.tiny import question

KINDS: list[Kind] = ["audio/pcm", "audio/pcmu", "audio/pcma"]


def in_pieces(data: bytes, kind: Kind, size: int) -> np.ndarray:
    decoder = WireDecoder(kind)
    pieces = [decoder.decode(data[at : at + size]) for at in range(0, len(data), size)]
    return np.concatenate([*pieces, decoder.decode(b"", last=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_sound_that_goes_out_and_comes_back_is_what_it_was(kind: Kind) -> None:
    before = question(1.0)
    data = WireEncoder(kind).encode(before, last=True)
    assert duration_ms(data, kind) == pytest.approx(1_000, abs=1)
    after = in_pieces(data, kind, 480)
    through = resample(resample(before, 16_000, RATES[kind]), RATES[kind], 16_000)
    size = min(len(after), len(through))
    assert size == pytest.approx(16_000, abs=16)
    error = np.abs(after[:size] - through[:size]).max()
    assert error < (2e-4 if kind == "audio/pcm" else 2e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_join_without_a_seam(kind: Kind) -> None:
    encoder, whole = WireEncoder(kind), WireEncoder(kind).encode(question(1.0), last=True)
    pieces = np.array_split(question(1.0), 7)
    joined = b"".join(encoder.encode(piece) for piece in pieces)
    joined += encoder.encode(np.empty(0, np.float32), last=True)
    assert joined == whole
    assert np.array_equal(in_pieces(whole, kind, 320), in_pieces(whole, kind, 4_800))


def test_the_laws_are_those_of_g711() -> None:
    """Silence, full scale and a value between, by the recommendation's own tables."""
    decode = {kind: WireDecoder(kind) for kind in KINDS[1:]}
    constant = {"audio/pcmu": (0x80, 32_124), "audio/pcma": (0xAA, 32_256)}
    for kind, decoder in decode.items():
        byte, level = constant[kind]
        samples = decoder.decode(bytes([byte]) * 800, last=True)
        assert np.median(samples) * 32_768 == pytest.approx(level, rel=1e-3)
    quiet = WireEncoder("audio/pcmu").encode(np.zeros(1_600, np.float32), last=True)
    assert set(quiet) == {0xFF}


def test_too_loud_is_cut_and_not_turned_over() -> None:
    data = WireEncoder("audio/pcm").encode(np.full(1_600, 1.5, np.float32), last=True)
    assert np.frombuffer(data, "<i2")[200:-200].min() == 32_767


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(Refused, match="not base64") as caught:
        read_base64("!!!!", "audio/pcm", "audio")
    assert (caught.value.code, caught.value.param) == ("invalid_base64", "audio")
    with pytest.raises(Refused, match="3 bytes"):
        read_base64(base64.b64encode(b"abc").decode(), "audio/pcm", "audio")
    assert read_base64(base64.b64encode(b"abc").decode(), "audio/pcmu", "audio") == b"abc"
    with pytest.raises(Refused):
        read_base64("äöü", "audio/pcm", "audio")

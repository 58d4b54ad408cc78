"""How natural speech sounds, by DNSMOS (Reddy et al. 2022), which needs no reference.

Trained on human speech in noise, it is good only for a difference to the teacher voice.
"""

# pyright: reportMissingImports=false
# speechmos: the extra `metrics` has it, which the checks may run without.

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from omni.audio import SAMPLE_RATE
from omni.files import UserError, need

log = logging.getLogger(__name__)


def load_dnsmos() -> Callable[[np.ndarray], float] | None:
    """[samples] float at 16 kHz -> overall opinion score, 1 to 5; None without extra `metrics`."""
    try:
        need("speechmos", "metrics", "DNSMOS")
    except UserError as error:
        log.warning("%s; the report will be without it", error)
        return None
    from speechmos import dnsmos

    return lambda waveform: float(dnsmos.run(np.clip(waveform, -1.0, 1.0), SAMPLE_RATE)["ovrl_mos"])

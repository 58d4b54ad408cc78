"""The nano's model card, with the numbers that its own evaluation measured."""

from __future__ import annotations

from typing import Any

from train.report import table_rows

TEXT = """---
license: apache-2.0
language: en
library_name: transformers
---
# omni nano

A speech-in, speech-out model small enough to be embedded: it hears a question, answers in text and
in speech at once. It was trained on synthetic voices (flite, festival, espeak-ng) in a closed
domain of a few hundred facts (capitals, animals, sums up to twenty and the like). It shows that
every part of the pipeline works; it knows nothing else, and human voices were not trained on.

Made by `make nano`: bases, units, voice and both training stages, on CPU, from data that the same
command speaks. No pretrained weights went into it.

## Measured

Held-out phrasings; test_seen by the voices of training, test_unseen by a voice never heard. An
answer is right if its words equal the reference. "Heard" is pocketsphinx: with a bigram of the
domain's sentences, or with its own full model, in each case against the text that the model
itself said.

{table}

{more}
"""


def model_card(report: dict[str, Any]) -> str:
    """README.md of a checkpoint, in markdown."""
    splits = list(report["splits"])
    lines = ["| | " + " | ".join(splits) + " |", "|---" * (len(splits) + 1) + "|"]
    lines += ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in table_rows(report)]
    more = []
    if report["text_in_right"] is not None:
        more.append(f"- The same questions in writing: {report['text_in_right']:.1%} right.")
    for chunks, timing in report.get("timing", {}).items():
        if timing:
            more.append(
                f"- Chunks of {chunks} units: first audio after "
                f"{timing['first_audio_ms_median']:.0f} ms (median), real-time factor "
                f"{timing['real_time_factor_median']:.2f}; {report['threads']} CPU threads, load "
                f"average {report['load_average']:.1f}."
            )
    return TEXT.format(table="\n".join(lines), more="\n".join(more))

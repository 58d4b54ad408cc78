"""The model card: what it promises is compared with what was measured, met or missed alike."""

import pytest

from train.nano.card import Gate, gates, model_card


def report(seen: float, heard: float | None) -> dict:
    """As `omni-train evaluate` makes it, with two numbers that vary."""

    def split(right: float) -> dict:
        words = {"10": heard, "teacher": 0.01, "vocoder": 0.02}
        return {
            "questions": 8, "right": right, "right_numbers": right, "right_without_numbers": right,
            "right_shuffled_audio": 0.0, "right_by_skill": {"capitals": right}, "cer": 0.1,
            "loss": 0.1,
            "speech": {
                "sentences": 4, "wer_domain": words, "wer_full": words, "duration_ratio": 1.0,
                "dnsmos": {"teacher": 2.5, "vocoder": 2.0},
            },
        }  # fmt: skip

    timing = {
        "first_audio_ms_median": 90.0, "first_audio_ms_p95": 120.0,
        "real_time_factor_median": 0.2,
    }  # fmt: skip
    return {
        "splits": {"test_seen": split(seen), "test_unseen": split(0.5)},
        "text_in_right": 0.96, "threads": 1, "load_average": 0.5, "timing": {"10": timing},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        (Gate("right", 0.91, low=0.90), "met"),
        (Gate("right", 0.89, low=0.90), "**missed**"),
        (Gate("errors", 0.06, high=0.05), "**missed**"),
        (Gate("length", 0.6, low=0.7, high=1.4, share=False), "**missed**"),
        (Gate("length", 1.4, low=0.7, high=1.4, share=False), "met"),
    ],
)
def test_a_gate_is_met_up_to_its_bound_and_missed_beyond(gate: Gate, verdict: str) -> None:
    assert gate.row().split("|")[3].strip() == verdict


def test_what_was_not_measured_is_said_so() -> None:
    assert "not measured" in Gate("right", None, low=0.9).row()
    rows = [gate.row() for gate in gates(report(0.95, None))]
    assert sum("not measured" in row for row in rows) == 1


def test_the_card_shows_missed_gates_and_every_parts_own_validation() -> None:
    card = model_card(report(0.8, 0.2), {"encoder": {"eval_cer": 0.0986}, "lm": {}})
    assert "| right answers, voices of training: at least 90.0 % | 80.0 % | **missed** |" in card
    assert "chunks of 10: at most 5.0 % | 19.0 % | **missed** |" in card
    assert "DNSMOS above natural: at least -0.40 | -0.50 | **missed** |" in card
    assert "cer 0.099" in card and "capitals 80 / 50" in card

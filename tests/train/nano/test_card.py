"""The model card: what it promises is compared with what was measured, met or missed alike."""

import pytest

from train.nano.card import Gate, gates, model_card


def report(seen: float, heard: float | None) -> dict:
    """As `measure` makes it, with two numbers that vary."""

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

    def one(**right: float) -> dict:
        timing = {
            "first_audio_ms_median": 90.0, "first_audio_ms_p95": 120.0,
            "real_time_factor_median": 0.2,
        }  # fmt: skip
        return {
            "splits": {f"test_{name}": split(share) for name, share in right.items()},
            "text_in_right": 0.96, "threads": 1, "load_average": 0.5, "timing": {"10": timing},
        }  # fmt: skip

    reports = {
        "known": one(known=seen, known_rms=0.5),
        "wide": one(wide=0.9, wide_ked=0.71, wide_rms=0.69),
        "refuse": one(unknown=0.4, refuse=0.95),
    }
    reports["wide"]["splits"]["test_wide"]["questions_refused"] = 0.04
    return reports


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
    rows = [gate.row() for gate in gates(report(0.95, None), {})]
    missing = [row.split("|")[1] for row in rows if "not measured" in row]
    assert [name for name in missing if "refused" not in name] == [
        " size in MB ", " word errors above the teacher's, chunks of 10 ",
    ]  # fmt: skip
    assert sum("questions refused" in name for name in missing) == 4  # of five splits one was


def test_the_card_shows_missed_gates_and_every_parts_own_validation() -> None:
    made = {"encoder": {"eval_cer": 0.0986}, "lm": {}, "checkpoint": {"megabytes": 41.0}}
    card = model_card(report(0.8, 0.2), made)
    assert "| known phrasings, voices of training, right: at least 90.0 % | 80.0 % | **mis" in card
    assert "chunks of 10: at most 5.0 % | 19.0 % | **missed** |" in card
    assert "DNSMOS above natural: at least -0.40 | -0.50 | **missed** |" in card
    assert "size in MB: at most 40.00 | 41.00 | **missed** |" in card
    assert "cer 0.099" in card and "capitals 90 / 71 / 69" in card


def test_the_card_holds_free_wordings_and_refusals_to_what_was_promised() -> None:
    card = model_card(report(0.95, 0.02), {})
    assert "free wordings in writing, right: at least 85.0 % | 96.0 % | met |" in card
    assert "never heard (test_wide_ked), right: at least 70.0 % | 71.0 % | met |" in card
    assert "never heard (test_wide_rms), right: at least 70.0 % | 69.0 % | **missed** |" in card
    assert "sounds and other languages refused: at least 90.0 % | 95.0 % | met |" in card
    assert "questions refused (test_wide): at most 3.0 % | 4.0 % | **missed** |" in card
    assert "| | test_wide | test_wide_ked | test_wide_rms | lowest to highest |" in card

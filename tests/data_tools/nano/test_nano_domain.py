"""The nano's domain: splits, speakable texts, right answers."""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from data_tools.nano.domain.dialogue import FOLLOW_UPS, Dialogue, dialogues
from tests.paths import ROOT

SPEAKABLE = re.compile(r"[A-Z][A-Za-z', ]*[.?]( [A-Z][A-Za-z', ]*[.?])?")
NUMBER = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def history(dialogue: Dialogue) -> tuple[str, ...]:
    return tuple(question for question, _ in dialogue.turns)


def of_split(split: str) -> list[Dialogue]:
    return [dialogue for dialogue in dialogues() if dialogue.split == split]


@cache
def train_templates() -> dict[str, set[str]]:
    """template -> facts it is trained with."""
    found = defaultdict(set)
    for dialogue in of_split("train"):
        found[dialogue.template].add(dialogue.fact)
    return found


def test_the_domain_has_the_size_that_the_recipe_counts_on():
    assert 3_500 <= len(dialogues()) <= 4_100
    assert 260 <= len(of_split("test")) <= 300
    assert 110 <= len(of_split("validation")) <= 130
    arithmetic = [d for d in dialogues() if d.skill in ("sums", "differences")]
    assert len(arithmetic) <= len(dialogues()) / 4


def test_ids_are_unique():
    assert max(Counter(dialogue.id for dialogue in dialogues()).values()) == 1


def test_no_history_of_questions_is_asked_twice():
    asked = Counter(tuple(" ".join(words(q)) for q in history(d)) for d in dialogues())
    assert [questions for questions, count in asked.items() if count > 1] == []


def test_every_fact_has_one_answer_and_at_least_five_phrasings():
    answers = defaultdict(set)
    phrasings = Counter()
    for dialogue in dialogues():
        answers[dialogue.fact].add(dialogue.turns[-1][1])
        phrasings[dialogue.fact] += 1
    assert all(len(found) == 1 for found in answers.values())
    assert min(phrasings.values()) >= 5
    assert max(phrasings.values()) <= 10


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_held_out_phrasing_has_its_fact_and_its_template_in_train(split):
    trained = Counter(dialogue.fact for dialogue in of_split("train"))
    for dialogue in of_split(split):
        assert trained[dialogue.fact] >= 3, dialogue.id
        assert len(train_templates()[dialogue.template] - {dialogue.fact}) >= 2, dialogue.id


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_skill_is_in_every_split(split):
    assert {d.skill for d in of_split(split)} == {d.skill for d in dialogues()}


def test_first_questions_of_follow_ups_are_trained_on_alone_with_the_same_answer():
    trained = {d.turns[0] for d in of_split("train") if len(d.turns) == 1}
    two_turns = [dialogue for dialogue in dialogues() if dialogue.skill == FOLLOW_UPS]
    assert two_turns
    assert all(len(d.turns) == 2 and d.turns[0] in trained for d in two_turns)


def test_a_follow_up_is_answered_as_the_full_question_would_be():
    alone = {d.turns[0][1] for d in dialogues() if len(d.turns) == 1}
    assert {d.turns[1][1] for d in dialogues() if d.skill == FOLLOW_UPS} <= alone


def test_every_text_can_be_spoken_as_written():
    for dialogue in dialogues():
        for question, answer in dialogue.turns:
            assert SPEAKABLE.fullmatch(question), question
            assert SPEAKABLE.fullmatch(answer), answer
            assert len(words(answer)) <= 12, answer
            assert len(words(question)) <= 12, question


def test_the_vocabulary_stays_small():
    spoken = {w for d in dialogues() for turn in d.turns for text in turn for w in words(text)}
    assert len(spoken) < 1_300


def test_every_word_is_in_the_dictionary_of_the_judge():
    pocketsphinx = pytest.importorskip("pocketsphinx")
    path = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    known = {line.split(" ", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()}
    spoken = {w for d in dialogues() for turn in d.turns for text in turn for w in words(text)}
    assert sorted(spoken - known) == []


def test_sums_and_differences_are_right():
    checked = 0
    for dialogue in dialogues():
        for _, answer in dialogue.turns:
            found = re.fullmatch(r"(\w+) (plus|minus) (\w+) is (\w+)\.", answer)
            if not found:
                continue
            a, b, result = (NUMBER[found[group].lower()] for group in (1, 3, 4))
            assert result == (a + b if found[2] == "plus" else a - b), answer
            checked += 1
    assert checked > 700


def test_questions_of_arithmetic_name_the_numbers_of_their_answer_in_order():
    for dialogue in dialogues():
        if dialogue.skill not in ("sums", "differences"):
            continue
        question, answer = dialogue.turns[0]
        asked = [NUMBER[word] for word in words(question) if word in NUMBER]
        if "away from" in question or "take" in question:
            asked.reverse()
        assert asked == [NUMBER[word] for word in words(answer) if word in NUMBER][:2], question


def test_doubles_are_right():
    answers = {d.turns[0][1] for d in dialogues() if d.skill == "doubles"}
    for answer in answers:
        _, _, x, _, result = words(answer)
        assert NUMBER[result] == 2 * NUMBER[x]
    assert len(answers) == 10


def test_counting_goes_up_by_one_between_the_numbers_asked_for():
    for dialogue in dialogues():
        if not dialogue.skill.startswith("count_"):
            continue
        question, answer = dialogue.turns[0]
        counted = [NUMBER[word] for word in words(answer)]
        asked = [NUMBER[word] for word in words(question) if word in NUMBER]
        assert counted == list(range(counted[0], asked[-1] + 1)), question
        assert counted[0] == (asked[0] if dialogue.skill == "count_between" else 1), question


def test_spelled_letters_join_to_the_word():
    for dialogue in dialogues():
        if dialogue.skill == "spelling":
            word, _, _, *letters = words(dialogue.turns[0][1])
            assert "".join(letters) == word


def test_another_process_makes_the_same_dialogues():
    code = "from data_tools.nano.domain.dialogue import dialogues; import hashlib; " + (
        "print(hashlib.sha256(repr(dialogues()).encode()).hexdigest())"
    )
    # Another hash seed each: the order of a set would show.
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1

"""Open questions: which are taken, and how they sound; and which answers are kept."""

import json
from pathlib import Path

import pytest

from data_tools.mini.answers import HONEST, knows, loops, sound
from data_tools.mini.texts import SETS, as_rows, from_rows, questions_in
from omni.files.errors import UserError


def folder(tmp_path: Path, **files: list[dict]) -> Path:
    for name, rows in files.items():
        path = tmp_path / f"{name.replace('_', '-')}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def web(question: str, *answers: str) -> dict:
    return {"qText": question, "answers": list(answers)}


def asked(where: Path) -> list[str]:
    return [question.text for question in questions_in(where)]


def test_a_search_gets_capitals_names_and_its_question_mark(tmp_path: Path) -> None:
    rows = [
        web("where was i born", "New York City"),
        web("what is new york city's oldest park", "Bowling Green"),
    ]
    assert asked(folder(tmp_path, webquestions_train=rows)) == [
        "Where was I born?",
        "What is New York City's oldest park?",
    ]


def test_a_name_of_one_word_counts_if_it_is_often_an_answer_and_no_common_noun(
    tmp_path: Path,
) -> None:
    rows = [web("who speaks spanish in spain", "Spain")] + 2 * [web("where is it now", "Spain")]
    rows += [web("who is the singer of abba", "Singer"), *3 * [web("what is she then", "Singer")]]
    found = asked(folder(tmp_path, webquestions=rows))
    assert found[0] == "Who speaks spanish in Spain?" and "Who is the singer of abba?" in found


def test_numbers_become_words_and_what_is_long_short_or_doubled_is_left_out(tmp_path: Path) -> None:
    rows = [
        web("who won in 2010"),
        web("Who won in 2010?"),
        web("why"),
        web(" ".join(["what"] * 20)),
        web("what does \u6c34 mean here"),
    ]
    assert asked(folder(tmp_path, webquestions=rows)) == ["Who won in twenty ten?"]


def test_instructions_that_need_a_text_are_left_out(tmp_path: Path) -> None:
    seeds = [
        {"instruction": "Suggest a good film.", "instances": [{"input": "", "output": "x"}]},
        {"instruction": "Sum up this text.", "instances": [{"input": "long", "output": "x"}]},
    ]
    dolly = [
        {"instruction": "Why is the sky blue?", "context": "", "category": "open_qa"},
        {"instruction": "Who wrote this text?", "context": "A book", "category": "open_qa"},
        {"instruction": "Sort these names now.", "context": "", "category": "classification"},
    ]
    oasst = [
        {"text": "Tell me about bees.", "role": "prompter", "parent_id": None, "lang": "en"},
        {"text": "Bees can fly well.", "role": "assistant", "parent_id": "1", "lang": "en"},
    ]
    where = folder(
        tmp_path, self_instruct_seeds=seeds, databricks_dolly_15k=dolly, oasst2_trees=oasst
    )
    assert set(asked(where)) == {
        "Suggest a good film.",
        "Why is the sky blue?",
        "Tell me about bees.",
    }


def test_a_question_names_its_set_and_licence_and_goes_through_a_file(tmp_path: Path) -> None:
    where = folder(tmp_path, nq_open_dev=[{"question": "who is he", "answer": ["Bob", "Bo"]}])
    (question,) = questions_in(where)
    assert (question.source, question.licence) == (
        "google-research-datasets/nq_open",
        "CC BY-SA 3.0",
    )
    assert question.gold == ("Bob", "Bo")
    rows = json.loads(json.dumps(list(as_rows([question]))))
    assert from_rows(rows) == [question]
    assert all(text_set.licence for text_set in SETS)


def test_a_folder_without_a_known_file_says_which_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="webquestions, nq-open"):
        questions_in(tmp_path)
    with pytest.raises(UserError, match="begins as"):
        questions_in(tmp_path / "missing")
    with pytest.raises(UserError, match="none of qText, question"):
        questions_in(folder(tmp_path, webquestions=[{"text": "where"}]))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Bread needs flour. And water. And time.", "Bread needs flour. And water."),
        ("It is blue and it is blue and it is blue.", ""),
        ("I am ready to assist you.", ""),
        ("As a chatbot I can not eat.", ""),
        ("Yes.", ""),
        ("", ""),
        (f"Bread needs flour. {' '.join('abcdefghijklmnopqrstuvwxyz' * 2)}.", "Bread needs flour."),
    ],
)
def test_two_sentences_are_kept_without_loops_and_asides(said: str, kept: str) -> None:
    assert sound(said) == kept


def test_what_the_sets_answers_contradict_is_not_kept() -> None:
    assert sound("It is the city of Paris.", ["Lyon", "Paris"]) == "It is the city of Paris."
    assert sound("It is the city of Rome.", ["Paris"]) is None
    assert sound("That was in nineteen eighty eight.", ["1988"])
    assert all(sound(honest) == honest for honest in HONEST)


def test_a_name_is_found_as_words_and_not_as_a_part_of_one() -> None:
    assert knows("He met Ann Lee.", "ann lee") and not knows("He met Annabel.", "Ann")
    assert not knows("Anything.", "!")
    assert loops("a b c d a b c".split()) and not loops("a b a b".split())

"""Prose to be said back: which sentences are taken from texts and WordNet, and what they become."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import data_tools.mini.data
from data_tools.cli import app
from data_tools.manifest import Record, read_manifest
from data_tools.mini.asks import ASK_TO_REPEAT, KINDS
from data_tools.mini.data import Summary, build_mini
from data_tools.mini.plan import PROSE_SHARES, SHARES
from data_tools.mini.prose import as_rows, from_rows, prose_in
from omni.files.errors import UserError
from tests.mini_data import Tones

WORDS = (
    "baker teacher doctor farmer sailor painter singer writer dancer door window garden river hill "
    "market school church bridge street tower wall old young red blue cold warm quiet slowly often"
).split()


def written(path: Path, *paragraphs: str) -> Path:
    path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    return path


def taken(path: Path) -> list[str]:
    return [sentence.text for sentence in prose_in(path)]


def glosses(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"00001740 03 n 01 thing 0 000 | {line}  \n" for line in lines))
    return path


def test_a_text_is_cut_into_its_statements_over_the_ends_of_lines(tmp_path: Path) -> None:
    text = written(
        tmp_path / "tale.txt",
        "The Old House",
        "The old man went down\nto the sea again. Was the water really that cold? \u201cGo home at "
        "once,\u201d said the boy. He didn\u2019t want to go home yet.",
        "It rained, and nobody saw the two-masted ship.",
    )
    assert taken(text) == [
        "The old man went down to the sea again.",
        "He didn't want to go home yet.",
        "It rained, and nobody saw the two-masted ship.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "He came too late.",  # four words
        f"He {'walked on and ' * 6}stopped.",  # twenty
        "He was born in 1984 near here.",
        "They met at the NATO office there.",
        "Vitamin B is in all of it.",
        "He bought bread, milk, etc on his way.",
        "They spoke of a caf\u00e9 near the river.",
        "He said (and meant) that it was late.",
        "it has no capital at its start.",
        "What a lovely day this is today!",
    ],
)
def test_what_is_spoken_otherwise_or_no_plain_statement_is_left_out(
    tmp_path: Path, sentence: str
) -> None:
    plain = "This one is as plain as any."
    assert taken(written(tmp_path / "a.txt", sentence, plain)) == [plain]


def test_no_sentence_begins_behind_an_abbreviation_or_an_initial(tmp_path: Path) -> None:
    text = written(
        tmp_path / "a.txt",
        "We waited for Mr. Smith who came late at night. John F. Miller had seen him at noon. "
        "Then both of them went home together.",
    )
    assert taken(text) == ["Then both of them went home together."]


def test_of_sentences_with_five_words_in_a_row_in_common_the_first_is_taken(
    tmp_path: Path,
) -> None:
    written(tmp_path / "a.txt", "She put the red book on the table.")
    written(tmp_path / "b.txt", "He put the red book on a shelf.", "She put a book on the table.")
    assert taken(tmp_path) == [
        "She put the red book on the table.",
        "She put a book on the table.",
    ]


def test_of_wordnets_files_the_examples_that_read_as_clauses_are_taken(tmp_path: Path) -> None:
    glosses(
        tmp_path / "data.noun",
        'a state of rest; "the whole house was very quiet"; "a man of very great wealth"',
        'a person; "a man who had lost his way"; "the man had lost his whole way"',
        'a person (offensive); "they are all of them fools"',
        "without any example",
    )
    glosses(tmp_path / "data.verb", 'put in; "pour the water into the glass"; "Go"')
    (tmp_path / "index.noun").write_text('thing "this is not read by anyone at all"\n')
    found = prose_in(tmp_path)
    assert [sentence.text for sentence in found] == [
        "The whole house was very quiet.",
        "The man had lost his whole way.",
        "Pour the water into the glass.",
    ]
    assert {(sentence.source, sentence.licence) for sentence in found} == {
        ("wordnet", "WordNet 3.0")
    }


def test_sentences_go_through_a_file(tmp_path: Path) -> None:
    found = prose_in(written(tmp_path / "my tale.txt", "The old man went down to the sea."))
    assert (found[0].source, found[0].licence) == ("my tale", "not told")
    assert from_rows(json.loads(json.dumps(list(as_rows(found))))) == found


def test_what_holds_no_prose_says_what_would(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no \.txt and none of data\.noun"):
        prose_in(tmp_path)
    with pytest.raises(UserError, match=r"missing\.txt: is no \.txt"):
        prose_in(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="no statement of 5 to 18 plain words"):
        prose_in(written(tmp_path / "a.txt", "No."))
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 in the old days was small.")
    with pytest.raises(UserError, match="isn't in UTF-8"):
        prose_in(tmp_path)


def tale(path: Path) -> Path:
    """300 statements of which the most are short, in no words of others' order."""
    rng = np.random.default_rng(0)
    lengths = [5, 6] * 140 + [12, 17] * 10
    rows = [" ".join(rng.choice(WORDS, size=length)) for length in lengths]
    return written(path, *(f"{row.capitalize()}." for row in rows))


def build(folder: Path, **options: Any) -> Summary:
    settings: dict[str, Any] = {"questions": 300, "workers": 1, "make_tts": Tones}
    return build_mini(folder, **(settings | options))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tale, an open set, and the data that were made of both."""
    place = tmp_path_factory.mktemp("prose")
    tale(place / "tale.txt")
    texts = place / "texts"
    texts.mkdir()
    rows = [{"question": f"who painted the {word} wall", "answer": ["Ann"]} for word in WORDS]
    (texts / "nq-open-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(place / "data", texts=texts, prose=place / "tale.txt")
    return place


@pytest.fixture(scope="module")
def records(place: Path) -> list[Record]:
    return list(read_manifest(place / "data" / "records.jsonl").records)


def prose_of(records: list[Record], split: str) -> list[Record]:
    return [r for r in records if r.split == split and r.provenance["kind"] == "prose"]


def test_every_kind_has_its_share_and_less_where_there_is_prose(records: list[Record]) -> None:
    assert set(PROSE_SHARES) == set(KINDS) == {*SHARES, "prose"}
    assert sum(PROSE_SHARES.values()) == pytest.approx(1) == sum(SHARES.values())
    train = [record for record in records if record.split == "train"]
    found = Counter(record.provenance["kind"] for record in train)
    assert found["prose"] == round(0.35 * 300)
    assert found["refuse"] == round(0.05 * 300)
    # With the open questions, which nobody has answered.
    assert found["repeat"] == round((0.18 + 0.15) * 300)


def test_prose_is_said_back_in_training_by_many_voices(records: list[Record]) -> None:
    train = prose_of(records, "train")
    for record in train:
        said, again = record.turns[-2:]
        assert said.speech and again.speech and said.text.endswith(again.text)
        assert record.provenance["source"] == "tale"
        assert record.provenance["licence"].startswith("not told; ")
    asked = Counter(record.turns[0].text == ASK_TO_REPEAT for record in train)
    assert asked[True] > asked[False] > 0
    assert len({record.turns[-2].voice for record in train}) > 20


def test_long_sentences_are_not_lost_among_many_short_ones(records: list[Record]) -> None:
    lengths = Counter(len(r.turns[-1].text.split()) for r in prose_of(records, "train"))
    assert min(lengths[12], lengths[17]) >= 8  # of 10, but for those that are held out


def test_prose_is_held_out_by_text(records: list[Record]) -> None:
    train = {record.turns[-1].text for record in prose_of(records, "train")}
    held_out = prose_of(records, "validation") + prose_of(records, "test_seen")
    assert held_out and not train & {record.turns[-1].text for record in held_out}
    assert all(record.turns[0].text == ASK_TO_REPEAT for record in held_out)


def test_a_later_run_needs_no_prose_and_refuses_another(place: Path, tmp_path: Path) -> None:
    assert build(place / "data", texts=place / "texts").made_clips == 0
    other = written(tmp_path / "other.txt", "The old man went down to the sea.")
    with pytest.raises(ValueError, match="begun with other words, or other voices"):
        build(place / "data", texts=place / "texts", prose=other)


def test_without_prose_the_data_are_those_of_the_other_kinds(place: Path, tmp_path: Path) -> None:
    """So that a folder that was begun before there was any goes on."""
    build(tmp_path / "data", texts=place / "texts", questions=20)
    state = json.loads((tmp_path / "data" / "state.json").read_text())
    assert state["kinds"] == list(SHARES)
    assert not (tmp_path / "data" / "prose.jsonl").exists()
    again = build(tmp_path / "data", texts=place / "texts", questions=20, kinds=list(SHARES))
    assert again.made_clips == 0


def test_prose_that_is_asked_for_by_name_has_to_be_given(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a file or a folder of it with --prose"):
        build(tmp_path / "data", kinds=("prose", "refuse"))
    assert not (tmp_path / "data").exists()
    build(tmp_path / "data", kinds=("prose",), prose=place / "tale.txt", questions=20)
    made = read_manifest(tmp_path / "data" / "records.jsonl").records
    assert {record.provenance["kind"] for record in made} == {"prose"}


def test_the_command_takes_prose(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_tools.mini.data, "engines", lambda piper: Tones())
    arguments = ["mini", str(tmp_path / "data"), "--questions", "9", "--kinds", "prose"]
    result = CliRunner().invoke(app, [*arguments, "--prose", str(place / "tale.txt")])
    assert result.exit_code == 0, result.output
    assert "(prose 9)" in result.output

"""rewrite and respond: text dialogues become spoken ones, one to one by id, and runs go on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, read_manifest, write_manifest
from data_tools.steps.journal import LeftOut
from data_tools.steps.steps import run_step
from data_tools.writers.base import Reply, Request
from data_tools.writers.respond import RespondStep
from data_tools.writers.rewrite import RewriteStep
from data_tools.writers.rules import RulesConfig
from data_tools.writers.step import read_prompt
from tests.standin import Answer, StandIn, stand_in


def dialogue(name: str, *texts: str, **fields: Any) -> Record:
    turns = tuple(
        RecordTurn(role="assistant" if number % 2 else "user", text=text)
        for number, text in enumerate(texts)
    )
    return Record(id=name, turns=turns, **fields)


def texts(record: Record | LeftOut) -> list[str]:
    assert isinstance(record, Record), record
    return [turn.text for turn in record.turns]


@dataclass
class Scripted:
    """A writer, and its configuration, that replies by a function; remembers what was asked."""

    reply: Any
    asked: list[Request] = field(default_factory=list)
    batch_size: int = 8
    label: str = "scripted"

    def settings(self) -> dict[str, Any]:
        return {"writer": "scripted"}

    def build(self) -> "Scripted":
        return self

    def complete(self, requests: Sequence[Request]) -> Any:
        self.asked += requests
        for index in reversed(range(len(requests))):  # any order is allowed
            yield index, self.reply(requests[index])

    def close(self) -> None: ...


def worked(step: Any, records: Sequence[Record], root: Path) -> list[Record | LeftOut]:
    work = step.open(root)
    try:
        return list(work(records))
    finally:
        work.close()


PLAIN = RulesConfig(fillers=0, politeness=0)


def test_rules_reword_every_question_and_touch_no_answer(tmp_path: Path) -> None:
    record = dialogue("a", "What is 2+2?", "4", "And 3 * 3?", "9", split="dev")
    (said,) = worked(RewriteStep(writer=PLAIN), [record], tmp_path)
    assert texts(said) == ["What is two plus two?", "4", "And three times three?", "9"]
    assert isinstance(said, Record) and (said.id, said.split) == ("a", "dev")
    assert said.provenance == {"rewritten_by": "rules"}


def test_rules_trim_every_answer_and_touch_no_question(tmp_path: Path) -> None:
    record = dialogue("a", "What is 2+2?", "It is 4. That is all (I think).")
    (said,) = worked(RespondStep(writer=PLAIN, max_words=5), [record], tmp_path)
    assert texts(said) == ["What is 2+2?", "It is four."]
    assert isinstance(said, Record) and said.provenance == {"answered_by": "rules"}


def test_what_has_a_recording_is_said_already(tmp_path: Path) -> None:
    turns = (
        RecordTurn(role="user", text="2?", speech="q.wav", voice="me"),
        RecordTurn(role="assistant", text="3.", speech="a.wav", units=(1, 2)),
    )
    record = Record(id="a", turns=turns)
    for step in (RewriteStep(writer=PLAIN), RespondStep(writer=PLAIN)):
        assert worked(step, [record], tmp_path) == [record]


def test_a_model_is_given_the_prompt_and_what_it_says_is_made_speakable(tmp_path: Path) -> None:
    writer = Scripted(lambda _: '<think>Hm {7}</think>\n"Hey, give me **3** tips (quickly)!"')
    step = RewriteStep(writer=writer, prompt="Say aloud in {language}: {instruction}")
    (said,) = worked(step, [dialogue("a", "Tips {instruction} [3].")], tmp_path)
    assert texts(said) == ["Hey, give me three tips, quickly!"]
    (asked,) = writer.asked
    assert [(m.role, m.content) for m in asked.messages] == [
        ("user", "Say aloud in en: Tips {instruction} [3].")
    ]


def test_a_dialogue_is_answered_turn_by_turn_knowing_what_was_said(tmp_path: Path) -> None:
    writer = Scripted(lambda request: f"Answer to {request.messages[-1].content}")
    step = RespondStep(writer=writer, prompt="{instruction} ({answer})")
    records = [dialogue("a", "One?", "old", "Two?"), dialogue("b", "Three?", "older")]
    first, second = worked(step, records, tmp_path)
    assert texts(first) == ["One?", "Answer to One? Old.", "Two?", "Answer to Two?"]
    assert texts(second) == ["Three?", "Answer to Three? Older."]
    last = next(request for request in writer.asked if request.key == "a/3")
    assert [(m.role, m.content) for m in last.messages] == [
        ("user", "One?"),
        ("assistant", "Answer to One? Old."),
        ("user", "Two? ()"),
    ]


def too_long(request: Request) -> Reply:
    return "one two three four five"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (RewriteStep(writer=Scripted(too_long), max_words=4), "turn 1: 5 words, at most 4"),
        (RespondStep(writer=Scripted(too_long), max_words=4), "turn 2: its first sentence"),
        (RewriteStep(writer=Scripted(lambda _: "...")), "turn 1: nothing to say"),
        (RespondStep(writer=Scripted(lambda _: "")), "turn 2: nothing to say"),
        (RewriteStep(writer=Scripted(lambda _: LeftOut("no"))), "turn 1: no"),
        (RespondStep(writer=Scripted(lambda _: LeftOut("no"))), "turn 2: no"),
    ],
)
def test_a_record_without_a_good_text_is_left_out_with_the_reason(
    tmp_path: Path, step: Any, reason: str
) -> None:
    (said,) = worked(step, [dialogue("a", "What?", "That.", "Why?", "So.")], tmp_path)
    assert isinstance(said, LeftOut) and said.reason.startswith(reason)


def test_a_prompt_needs_a_place_for_the_instruction(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Say it.")
    with pytest.raises(ValueError, match=r"p\.txt: must hold {instruction}"):
        read_prompt(tmp_path / "p.txt")
    assert "{instruction}" in RewriteStep().prompt and "{instruction}" in RespondStep().prompt


def test_a_limit_below_one_word_is_refused() -> None:
    with pytest.raises(ValueError, match="max_words=0"):
        RewriteStep(max_words=0)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def echo(asked: dict[str, Any]) -> Answer:
    text = asked["messages"][-1]["content"].rpartition("Instruction: ")[2]
    reply = {"message": {"content": f"Please {text}"}, "finish_reason": "stop"}
    return Answer(json.dumps({"choices": [reply]}).encode())


def rewrite_by(service: StandIn, source: Path, out: Path, *more: object) -> tuple[int, str]:
    options = ["--writer", "openai", "--model", "m", "--url", service.url, "--concurrency", 1]
    return run("rewrite", source, "-o", out, *options, *more)


def test_a_run_that_ended_early_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    """The server refuses the fourth call; the next run ends with the file of an unbroken one."""
    source, out, whole = (tmp_path / name for name in ("s.jsonl", "out.jsonl", "w/out.jsonl"))
    write_manifest(source, [dialogue(f"r{number}", f"say {number}.") for number in range(6)])
    limit = [4]

    def refusing(asked: dict[str, Any]) -> Answer:
        return Answer(status=401) if len(service.requests) == limit[0] else echo(asked)

    with stand_in(refusing) as service:
        code, output = rewrite_by(service, source, out)
        assert code == 2 and "status 401" in output and not out.exists()
        assert len(service.requests) == 4
        limit[0] = 0
        assert rewrite_by(service, source, out)[0] == 0
        assert len(service.requests) == 4 + 3
        assert rewrite_by(service, source, whole)[0] == 0
    assert out.read_bytes() == whole.read_bytes()
    assert texts(read_manifest(out).records[0]) == ["Please say zero."]


def test_another_limit_costs_no_new_replies(tmp_path: Path) -> None:
    source, out = tmp_path / "s.jsonl", tmp_path / "out.jsonl"
    write_manifest(source, [dialogue("a", "say it."), dialogue("b", "say it to all of them.")])
    with stand_in(echo) as service:
        rewrite_by(service, source, out)
        code, output = rewrite_by(service, source, out, "--max-words", 4)
        assert code == 0 and "1 records, 2 new, 1 left out" in output
        assert len(service.requests) == 2
    left_out = json.loads((tmp_path / "out.left_out.jsonl").read_text())
    assert left_out["id"] == "b" and "7 words" in left_out["reason"]


def test_the_commands_go_from_written_to_spoken_by_rules(tmp_path: Path) -> None:
    rows = [{"id": "a", "instruction": "List 2 fruits.", "output": "1. Kiwi\n2. Fig"}]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    manifests = [tmp_path / name for name in ("text.jsonl", "asked.jsonl", "said.jsonl")]
    assert run("import", tmp_path / "alpaca.json", "-o", manifests[0])[0] == 0
    assert run("rewrite", manifests[0], "-o", manifests[1], "--seed", 3)[0] == 0
    assert run("respond", manifests[1], "-o", manifests[2])[0] == 0
    (record,) = read_manifest(manifests[2]).records
    question, answer = texts(record)
    assert "two fruits" in question and answer == "Kiwi. Fig."
    assert record.provenance == {
        "source": "alpaca.json",
        "rewritten_by": "rules",
        "answered_by": "rules",
    }


def test_a_prompt_of_ones_own_is_used(tmp_path: Path) -> None:
    source, prompt = tmp_path / "s.jsonl", tmp_path / "p.txt"
    write_manifest(source, [dialogue("a", "say it.")])
    prompt.write_text("My way. Instruction: {instruction}\n")
    with stand_in(echo) as service:
        assert rewrite_by(service, source, tmp_path / "o.jsonl", "--prompt", prompt)[0] == 0
        (asked,) = service.requests
    assert asked["messages"] == [{"role": "user", "content": "My way. Instruction: say it."}]


def test_steps_keep_every_id_once_whatever_the_batch(tmp_path: Path) -> None:
    records = [dialogue(f"r{number}", f"say {number}.", "yes") for number in range(20)]
    results = []
    for size in (1, 7):
        step = RewriteStep(writer=RulesConfig(batch_size=size))
        results.append(run_step(records, step, root=tmp_path, journal=tmp_path / f"j{size}"))
    assert [record.id for record in results[0].records] == [record.id for record in records]
    assert results[0].records == results[1].records

"""A small grammar of how people ask: the core of a question in a frame around it.

A core comes in one of four forms, and every form has frames of its own, from the bare fragment to
the polite or hesitant sentence. Whole sentences that fit no frame stand beside them, and the
held-out ones are whole sentences as well, with cores that no frame of training has.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

QUESTION_FRAMES = (
    "{core}?",
    "Hey, {core}?",
    "So {core}?",
    "Um, {core}?",
    "Okay, {core}?",
    "{core}, please?",
    "Well, {core}?",
    "Quick question, {core}?",
    "Hello, {core}?",
    "Uh, {core}?",
    "I have a question, {core}?",
    "One more thing, {core}?",
    "Hi there, {core}?",
    "And {core}?",
    "Let me ask you something, {core}?",
    "Sorry, {core}?",
    "{core}, do you know?",
    "{core}, can you tell me?",
)
CLAUSE_FRAMES = (
    "Can you tell me {core}?",
    "Could you tell me {core}?",
    "Do you know {core}?",
    "I wonder {core}.",
    "I would like to know {core}.",
    "I'd like to know {core}.",
    "Please tell me {core}.",
    "Tell me {core}.",
    "Do you have any idea {core}?",
    "Do you happen to know {core}?",
    "I forgot {core}.",
    "I need to know {core}.",
    "I want to know {core}, please.",
    "Um, do you know {core}?",
    "Would you tell me {core}?",
    "Could you please tell me {core}?",
    "Can you remind me {core}?",
    "Hey, can you tell me {core}?",
    "I'm not sure {core}.",
    "I'm trying to find out {core}.",
    "My friend asked me {core}.",
    "So, do you know {core}?",
)
NAME_FRAMES = (
    "{core}, please.",
    "{core}?",
    "Tell me {core}.",
    "Please tell me {core}.",
    "What is {core}?",
    "What's {core}?",
    "I'm looking for {core}.",
    "Can you tell me {core}?",
    "Could you give me {core}, please?",
    "Do you know {core}?",
    "Give me {core}.",
    "I forgot {core}.",
    "Uh, {core}?",
    "So, what's {core}?",
    "{core}, what is it?",
    "{core}, do you know it?",
    "Hey, what's {core}?",
    "I need to know {core}.",
    "Remind me of {core}.",
    "Okay, {core}.",
)
ORDER_FRAMES = (
    "{core}.",
    "Please {core}.",
    "Can you {core}?",
    "Could you {core}?",
    "Could you please {core}?",
    "Would you {core} for me?",
    "{core}, please.",
    "I want you to {core}.",
    "I would like you to {core}.",
    "Go ahead and {core}.",
    "Now {core}.",
    "Hey, {core}.",
    "Try to {core}.",
    "Um, can you {core}?",
    "Can you please {core}?",
    "Okay, now {core}.",
    "Will you {core}?",
    "I need you to {core}.",
    "I'd like to hear you {core}.",
    "So, can you {core}?",
)
WANT_FRAMES = (
    "{core}, please.",
    "Give me {core}.",
    "I'd like {core}.",
    "I want {core}.",
    "Let me hear {core}.",
    "Can I have {core}?",
    "Could I hear {core}?",
    "How about {core}?",
    "I would love {core}.",
    "Um, {core}, please.",
    "May I have {core}, please?",
    "I need {core}.",
    "Can you give me {core}?",
)
TIMES_AS_MANY = 5  # wide templates for each of the plain ones


@dataclass(frozen=True, kw_only=True)
class Wording:
    """The ways of one skill, as templates of its facts' slots, in lower case where they begin.

    questions: "what is the capital of {x}". clauses: "what the capital of {x} is". names: "the
    capital of {x}", a thing to be told. wants: "a joke about {x}", a thing to be given. orders:
    "count to {y}". whole: complete sentences. validation and test: complete sentences that
    training has nothing like.
    """

    questions: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def framed(self) -> Iterator[str]:
        """Every core in every frame of its kind, as templates."""
        for cores, frames in (
            (self.questions, QUESTION_FRAMES),
            (self.clauses, CLAUSE_FRAMES),
            (self.names, NAME_FRAMES),
            (self.wants, WANT_FRAMES),
            (self.orders, ORDER_FRAMES),
        ):
            for core in cores:
                for frame in frames:
                    yield frame.replace("{core}", core)


@dataclass(frozen=True, kw_only=True)
class Template:
    """text: with the slots of its facts. split: train, validation or test."""

    text: str
    split: str

    @property
    def key(self) -> str:
        """Its name in an id: it stays if other templates come or go."""
        return "w" + hashlib.sha256(self.text.encode()).hexdigest()[:8]


def templates(
    skill: str, wording: Wording, plain: tuple[str, ...], free: tuple[str, ...] = ()
) -> list[Template]:
    """The wide templates of a skill: the held-out ones, five of training for each plain one, and
    the free sentences.

    plain: the skill's plain templates, which are not made again. free: more of training.
    """
    whole = [text for text in wording.whole if asked(text) not in set(map(asked, plain))]
    taken = {asked(text) for text in (*plain, *whole, *wording.validation, *wording.test)}
    framed: dict[str, str] = {}
    for text in wording.framed():
        if asked(text) not in taken:
            framed.setdefault(asked(text), text)
    # Drawn by hash, so that a new core moves few of the others.
    drawn = sorted(framed.values(), key=lambda text: digest(skill, text))
    wanted = max(0, TIMES_AS_MANY * len(plain) - len(whole))
    return [
        *(Template(text=text, split="train") for text in (*whole, *drawn[:wanted], *free)),
        *(Template(text=text, split="validation") for text in wording.validation),
        *(Template(text=text, split="test") for text in wording.test),
    ]


def asked(template: str) -> str:
    """A template's words and slots: equal for templates that sound alike."""
    return " ".join(re.findall(r"[a-z']+|\{\w+\}", template.lower()))


def digest(*parts: str) -> bytes:
    """A hash of the parts in their order, to sort by."""
    return hashlib.sha256("/".join(parts).encode()).digest()

"""What is asked of the nano: its facts in known and in wide wording, and what it is to refuse."""

from collections.abc import Iterable

from data_tools.nano.domain import Dialogue, dialogues, wide_dialogues
from data_tools.talk import (
    REFUSE,
    REFUSE_SHARES,
    Ask,
    in_turn,
    mixed,
    refusal_pools,
    shuffled,
)

# Plain wording: of what is held out the template and the fact are trained on, each with others.
KNOWN = "known"
WIDE = "wide"  # whole templates are held out
SHARES = {KNOWN: 0.2, WIDE: 0.7, REFUSE: 0.1}  # of what is spoken for training
SOURCE = "nano_domain"


def nano_asks(*, seed: int) -> dict[str, list[Ask]]:
    """Of every kind all there is, in an order drawn by the seed.

    Wide wordings come template by template in turn, so that the first of a split have all of them.
    """
    refusals = refusal_pools(source=SOURCE, seed=seed)
    return {
        KNOWN: shuffled(of_dialogues(dialogues(), KNOWN), seed),
        WIDE: in_turn(of_dialogues(wide_dialogues(), WIDE), seed, group=lambda ask: ask.template),
        REFUSE: mixed(refusals, REFUSE_SHARES),
    }


def of_dialogues(made: Iterable[Dialogue], kind: str) -> list[Ask]:
    """Under their own ids, which are file names: "capitals-france-2"."""
    return [
        Ask(
            kind=kind,
            skill=dialogue.skill,
            template=dialogue.template,
            split=dialogue.split,
            turns=dialogue.turns,
            source=SOURCE,
            name=dialogue.id.replace("/", "-"),
        )
        for dialogue in made
    ]

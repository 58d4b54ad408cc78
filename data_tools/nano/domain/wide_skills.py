"""The wide wordings of facts about the world: countries, animals, colors, the calendar."""

from data_tools.nano.domain.wording import Wording


def _neighbor(kind: str, where: str) -> Wording:
    """kind: day or month. where: after or before."""
    follows = "follows" if where == "after" else "precedes"
    next_ = "next" if where == "after" else "previous"
    comes = "comes right" if where == "after" else "comes just"
    then = (
        "Today is {x}. What is tomorrow?"
        if where == "after"
        else "Today is {x}. What was yesterday?"
    )
    if kind == "month":
        then = (
            "This month is {x}. Which one is next?"
            if where == "after"
            else "This month is {x}. Which one was last?"
        )
    return Wording(
        questions=(
            f"what {kind} is {where} {{x}}",
            f"which {kind} is right {where} {{x}}",
            f"what {kind} {follows} {{x}}",
            f"what {comes} {where} {{x}}",
            f"what's the {next_} {kind} if this one is {{x}}",
        ),
        clauses=(
            f"what {kind} comes {where} {{x}}",
            f"which {kind} {follows} {{x}}",
            f"what the {kind} {where} {{x}} is",
        ),
        names=(f"the {kind} {where} {{x}}", f"the {kind} that comes {where} {{x}}"),
        orders=(
            f"tell me which {kind} is {where} {{x}}",
            f"name the {kind} {where} {{x}}",
        ),
        whole=(
            then,
            f"{{x}}, and the {kind} {where} that?",
            f"{where.capitalize()} {{x}}, what {kind} is it?",
            f"{where.capitalize()} {{x}} comes what?",
        ),
        validation=(f"It's {{x}} now, so the {next_} {kind} would be what?",),
        test=(
            f"Help me with the calendar, {where} {{x}} we have which {kind}?",
            f"If I go one {kind} {'past' if where == 'after' else 'back from'} {{x}}, "
            "where do I land?",
            f"{{x}} has a neighbor {where} it, which one?",
            f"One {kind} {'later' if where == 'after' else 'earlier'} than {{x}} is called what?",
        ),
    )


WIDE_SKILLS = {
    "capitals": Wording(
        questions=(
            "what is the capital of {x}",
            "what's {x}'s capital",
            "which city is {x}'s capital",
            "what city is the capital of {x}",
            "what is {x}'s capital city called",
            "{x} has which capital",
        ),
        clauses=(
            "what the capital of {x} is",
            "which city is the capital of {x}",
            "what {x}'s capital is",
        ),
        names=("the capital of {x}", "{x}'s capital city", "the capital city of {x}"),
        orders=("name the capital of {x}", "tell me {x}'s capital"),
        whole=(
            "Capital of {x}?",
            "The capital of {x} is what?",
            "The capital of {x} is which city?",
            "{x}, what's the capital?",
            "What is the name of the capital in {x}?",
            "In {x}, what is the capital called?",
        ),
        validation=("Which town does {x} call its capital?",),
        test=(
            "Where does the government of {x} sit?",
            "If I went to {x}, what would the main city be?",
            "For {x}, which capital do I write down?",
            "{x} is governed from which city?",
        ),
    ),
    "continents": Wording(
        questions=(
            "what continent is {x} in",
            "which continent is {x} on",
            "what continent does {x} belong to",
            "where is {x}",
            "{x} is on which continent",
            "where can I find {x}",
        ),
        clauses=("which continent {x} is in", "what continent {x} belongs to", "where {x} is"),
        names=("the continent of {x}", "the continent where {x} is"),
        orders=("name the continent of {x}", "tell me where {x} is"),
        whole=(
            "{x} is in what part of the world?",
            "{x} lies on which continent?",
            "What's the continent that {x} is part of?",
        ),
        validation=("On a map of the world, where do I look for {x}?",),
        test=(
            "If I fly to {x}, on which continent do I land?",
            "Is {x} in Africa, in Europe, or somewhere else?",
            "People in {x} live on which continent?",
            "Which big piece of land has {x} in it?",
        ),
    ),
    "opposites": Wording(
        questions=(
            "what is the opposite of {x}",
            "what's the opposite of {x}",
            "what word is the opposite of {x}",
            "{x} is the opposite of what",
            "what would be the opposite of {x}",
        ),
        clauses=("what the opposite of {x} is", "which word is the opposite of {x}"),
        names=(
            "the opposite of {x}",
            "the opposite of the word {x}",
            "a word that means the opposite of {x}",
        ),
        orders=("say the opposite of {x}", "name the opposite of {x}"),
        whole=(
            "The opposite of {x} is what?",
            "Opposite of {x}?",
            "The word {x}, what is its opposite?",
            "Not {x}, but the opposite?",
        ),
        validation=("If something isn't {x}, then it is what?",),
        test=(
            "Turn the word {x} around, what do you get in meaning?",
            "Which word is the contrary of {x}?",
            "{x} and its counterpart, what is the second word?",
            "I say {x}, and you say the reverse.",
        ),
    ),
    "animal_sounds": Wording(
        questions=(
            "what sound does {x} make",
            "what does {x} sound like",
            "what noise does {x} make",
            "how does {x} sound",
            "what kind of sound does {x} make",
        ),
        clauses=("what sound {x} makes", "how {x} sounds", "what noise {x} makes"),
        names=("the sound of {x}", "the sound that {x} makes", "the noise of {x}"),
        orders=("tell me what {x} sounds like", "describe the sound of {x}"),
        whole=(
            "{x} makes what sound?",
            "{x} makes which noise?",
            "When {x} makes a noise, what is it?",
        ),
        validation=("When I hear {x}, what do I hear?",),
        test=(
            "What does {x} say?",
            "{x} wants to be heard, so what does it do?",
            "In the story there is {x}, how does it call?",
            "Which word do we use for the voice of {x}?",
        ),
    ),
    "animal_babies": Wording(
        questions=(
            "what is a baby {x} called",
            "what's a baby {x} called",
            "what do you call a young {x}",
            "what do people call a baby {x}",
            "what is the name for a young {x}",
        ),
        clauses=(
            "what a baby {x} is called",
            "what you call a baby {x}",
            "how we call a young {x}",
        ),
        names=("the name for a baby {x}", "the word for a baby {x}", "the name of a young {x}"),
        orders=("name the baby of {ax}", "tell me the word for a young {x}"),
        whole=(
            "A baby {x} is called what?",
            "The baby of {ax} is called what?",
            "A young {x} has what name?",
        ),
        validation=("When {ax} is still little, what is it called?",),
        test=(
            "{ax} just had a little one, so what is it?",
            "What is the proper word for the child of {ax}?",
            "Which animal grows up to be {ax}?",
            "What's a {x} before it is grown up?",
        ),
    ),
    "animal_legs": Wording(
        questions=(
            "how many legs does {ax} have",
            "how many legs are on {ax}",
            "{ax} has how many legs",
            "how many legs do you see on {ax}",
        ),
        clauses=("how many legs {ax} has", "how many legs there are on {ax}"),
        names=("the number of legs of {ax}", "the number of legs on {ax}"),
        orders=("count the legs of {ax}", "say how many legs {ax} has"),
        whole=("Legs of {ax}, how many?", "{ax}, how many legs?", "How many legs for {ax}?"),
        validation=("On how many legs does {ax} walk?",),
        test=(
            "If I draw {ax}, how many legs do I draw?",
            "{ax} stands on how many feet?",
            "How many shoes would {ax} need?",
            "When it comes to legs, how many has {ax} got?",
        ),
    ),
    "colors": Wording(
        questions=(
            "what color is {x}",
            "what's the color of {x}",
            "which color does {x} have",
            "what color does {x} have",
            "{x} is what color",
        ),
        clauses=("what color {x} is", "which color {x} has", "what the color of {x} is"),
        names=("the color of {x}",),
        orders=("name the color of {x}", "tell me the color of {x}"),
        whole=(
            "Color of {x}?",
            "{x} has which color?",
            "{x}, what color is that?",
            "The color of {x} is what?",
        ),
        validation=("If I paint {x}, which color do I need?",),
        test=(
            "How would you describe {x}, is it red, or green, or what?",
            "Picture {x}. Which color do you see?",
            "I want to draw {x}, so which pencil should I take?",
            "When you look at {x}, what color is there?",
        ),
    ),
    "day_after": _neighbor("day", "after"),
    "day_before": _neighbor("day", "before"),
    "month_after": _neighbor("month", "after"),
    "month_before": _neighbor("month", "before"),
    "days_in_month": Wording(
        questions=(
            "how many days does {x} have",
            "how many days are there in {x}",
            "how many days has {x}",
            "how long is {x}",
            "{x} has how many days",
        ),
        clauses=("how many days {x} has", "how many days there are in {x}", "how long {x} is"),
        names=("the number of days in {x}", "the length of {x} in days"),
        orders=("count the days in {x}", "say how many days {x} has"),
        whole=("Days in {x}?", "{x}, how many days?", "How many days long is {x}?"),
        validation=("What's the last date in {x}?",),
        test=(
            "If I'm away all through {x}, how many days is that?",
            "Does {x} have thirty days or not?",
            "From the start to the end of {x}, how many days pass?",
            "How many mornings are there in {x}?",
        ),
    ),
}

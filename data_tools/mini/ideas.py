"""Requests that a language model answers better than a table: advice, cooking, ideas."""

from data_tools.talk import Talk

IDEAS = (
    Talk(
        skill="advice",
        ways=(
            "How do I {task}?",
            "How can I {task}?",
            "[Give me|I need|I'd like] a tip on how to {task}[|, please].",
            "[What is|What's] the best way to {task}?",
            "[Tell me|Explain to me] how to {task}.",
        ),
        validation=("I never learned to {task}, what should I do?",),
        test=("Teach me to {task}.", "Is it hard to {task}?"),
    ),
    Talk(
        skill="about",
        ways=(
            "Tell me [something|a fact|a little|something interesting] about {subject}.",
            "Why do people like {subject}?",
            "What is special about {subject}?",
            "What do you think about {subject}?",
            "What do you know about {subject}?",
            "[Say|Tell me] one sentence about {subject}.",
        ),
        validation=("I want to learn about {subject}.",),
        test=("What makes {subject} so interesting?", "Surprise me with something on {subject}."),
    ),
    Talk(
        skill="recipes",
        ways=(
            "How do I make {dish}?",
            "What do I need for {dish}?",
            "[Give me|Tell me] a recipe for {dish}.",
            "How long does it take to cook {dish}?",
            "What goes well with {food}?",
        ),
        validation=("I want to cook {dish}, where do I begin?",),
        test=("Help me to cook {dish}.", "What could I do with some {food}?"),
    ),
    Talk(
        skill="suggestions",
        ways=(
            "What should I [wear|bring|cook|do] for {occasion}?",
            "[Give me|I need] an idea for {occasion}.",
            "What is a good gift for {person}?",
            "Suggest a [game|song|movie|snack] for {occasion}.",
            "What could I do with {person} on a {weekday}?",
            "Make up a [story|poem|rhyme|riddle] about {subject}.",
            "Write one [sentence|line] about {subject} and {subject}.",
        ),
        validation=("I'm planning {occasion}, any ideas?",),
        test=("{person} is hard to please, what gift is good?", "Help me to enjoy {occasion}."),
    ),
)

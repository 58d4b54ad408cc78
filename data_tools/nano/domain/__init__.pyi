from .dialogue import dialogues as dialogues

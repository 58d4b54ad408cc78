from .dialogue import Dialogue as Dialogue
from .dialogue import dialogues as dialogues
from .wide import wide_dialogues as wide_dialogues

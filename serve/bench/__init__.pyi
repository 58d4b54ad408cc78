from .connects import connects_command as connects_command
from .fuzz import fuzz_command as fuzz_command
from .latency import latency_command as latency_command
from .lengths import true_length_command as true_length_command
from .load import load_command as load_command
from .robustness import load_robustness_command as load_robustness_command
from .sessions import sessions_command as sessions_command
from .vocoding import vocoder_command as vocoder_command

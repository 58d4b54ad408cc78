from .latency import latency_command as latency_command
from .lengths import true_length_command as true_length_command
from .robustness import load_robustness_command as load_robustness_command

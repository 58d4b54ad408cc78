from .command import latency_command as latency_command

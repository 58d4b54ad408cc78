from .command import load_command as load_command

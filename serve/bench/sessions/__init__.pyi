from .command import sessions_command as sessions_command

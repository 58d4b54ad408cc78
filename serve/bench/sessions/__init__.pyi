from .command import counts_of as counts_of
from .command import sessions_command as sessions_command

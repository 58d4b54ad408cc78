from .command import protocol_command as protocol_command

from .command import talk_command as talk_command

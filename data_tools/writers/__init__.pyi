from .base import WRITERS as WRITERS
from .base import Reply as Reply
from .base import Request as Request
from .base import WriterConfig as WriterConfig
from .base import writer_config as writer_config
from .respond import RespondStep as RespondStep
from .rewrite import RewriteStep as RewriteStep
from .step import read_prompt as read_prompt

from .answering import Gone as Gone
from .answering import unless_gone as unless_gone
from .errors import ApiError as ApiError
from .errors import ErrorAnswer as ErrorAnswer
from .making import FULL as FULL
from .making import tell_of_full as tell_of_full
from .routes import chat_router as chat_router
from .routes import describe_request as describe_request

from .errors import ApiError as ApiError
from .errors import ErrorAnswer as ErrorAnswer
from .routes import chat_router as chat_router
from .routes import describe_request as describe_request

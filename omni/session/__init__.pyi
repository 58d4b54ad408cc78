from .events import AudioDelta as AudioDelta
from .events import Chunk as Chunk
from .events import Done as Done
from .events import TextDelta as TextDelta
from .events import Timings as Timings
from .session import SessionConfig as SessionConfig
from .session import SpeechSession as SpeechSession

from .config import SessionConfig as SessionConfig
from .events import AudioDelta as AudioDelta
from .events import Chunk as Chunk
from .events import Done as Done
from .events import TextDelta as TextDelta
from .events import Timings as Timings
from .session import SpeechSession as SpeechSession
from .turn import Turn as Turn

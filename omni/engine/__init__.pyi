from .past import Exchange as Exchange
from .past import Recording as Recording
from .runs import Begun as Begun
from .runs import Deliver as Deliver
from .runs import EngineEvent as EngineEvent
from .sessions import Engine as Engine
from .sessions import EngineFull as EngineFull
from .sessions import EngineSession as EngineSession

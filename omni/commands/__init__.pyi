from .describe import CheckpointInfo as CheckpointInfo
from .describe import StageInfo as StageInfo
from .describe import describe as describe
from .process import wait_without_spinning as wait_without_spinning
from .process import without_garbage_collection as without_garbage_collection
from .start import settle_threads as settle_threads
from .start import start as start
from .start import warm_up as warm_up

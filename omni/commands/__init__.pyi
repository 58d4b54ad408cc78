from . import start as start
from .process import wait_without_spinning as wait_without_spinning
from .process import without_garbage_collection as without_garbage_collection
from .start import settle_threads as settle_threads
from .start import warm_up as warm_up

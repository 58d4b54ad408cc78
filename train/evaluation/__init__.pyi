from .choosing import choose_ear as choose_ear
from .choosing import common_language as common_language
from .evaluate import Evaluation as Evaluation
from .evaluate import EvaluationConfig as EvaluationConfig
from .judges import Ear as Ear
from .report import difference as difference
from .table import table_head as table_head
from .table import table_rows as table_rows

from .evaluate import Evaluation as Evaluation
from .evaluate import EvaluationConfig as EvaluationConfig
from .report import table_rows as table_rows

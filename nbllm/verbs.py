"""The building blocks of a verb of your own.

from dataclasses import dataclass
import nbllm
from nbllm.verbs import Verb, option, text_task

@dataclass(frozen=True)
class Options:
    tone: str = option("The tone of the new text.", "formal")

class Rewrite(Verb[Options]):
    '''Rewrite each text in another tone.'''

    name = "rewrite"
    options = Options

    def task(self, model, subject, options):
        return text_task(model, self.name, f"Rewrite the text so that it is {options.tone}.")

nbllm.register_verb(Rewrite())
df.llm.rewrite("review", tone="cheerful")
"""

from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.request import Baseline, EvaluationRequest, evaluate_answers
from nbllm.frame.tasks.base import Task
from nbllm.frame.tasks.custom import label_task, text_task

__all__ = [
    "Baseline",
    "EvaluationRequest",
    "Task",
    "Verb",
    "evaluate_answers",
    "label_task",
    "option",
    "text_task",
]

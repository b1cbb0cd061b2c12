"""Training: a model from scratch, or one that is there made better at a frame's own rows.

Thin over transformers' Trainer and peft. trl is not used: what its SFTTrainer adds (chat
templates, masked prompts, packing) has to be done here by the parts that also ask the verbs, so
that a model is trained on exactly what it is asked afterwards.
"""

# Before all else: it imports transformers without the talk of what that brings in.
from nbllm.models import architecture  # noqa: F401

"""Training: pretraining from random weights, and fine-tuning on a frame's rows.

Thin over transformers' Trainer and peft. trl is not used: what its SFTTrainer adds (chat
templates, masked prompts, packing) has to be done here by the parts that also make the verbs'
prompts, so that a model is trained on exactly the prompt that it answers afterwards.
"""

# Before all else: it imports transformers without the talk of what that brings in.
from nbllm.models import architecture  # noqa: F401

"""nbllm on GPUs that are not there."""

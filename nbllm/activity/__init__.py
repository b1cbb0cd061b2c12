"""Records of the models and jobs of this user's processes, on disk, for other processes to read.

A busy kernel answers no messages, and a dead one never will. So each process writes small files
into nbllm's home, which displays read. Where they cannot be written, nothing else is affected.
"""

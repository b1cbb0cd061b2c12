"""Records of what each process of this user holds and does, on disk, for the others to read.

A kernel that computes answers no messages, and one that died answers none ever again. So each
writes small files into nbllm's home, and whoever shows them reads those. Where they cannot be
written, all goes on without them.
"""

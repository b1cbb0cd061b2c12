"""What each process of this user holds and does, on disk, where the others can read it.

A kernel that computes answers no messages, and one that died answers none ever again. So each
writes what it does into small files in nbllm's home, and whoever shows it reads those. Where
they cannot be written, all goes on without them.
"""

"""Evaluation of answers against the right ones, one module for each kind of answer."""

"""Forecasts of the memory that a model takes."""

"""One file a task: its prompt, its labels or length, its examples and calibration texts."""

"""The run display below a cell: progress, findings and a cancel button."""

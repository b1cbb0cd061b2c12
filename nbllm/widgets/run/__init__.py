"""The run display: progress, findings and a way to cancel, in the cell that runs it."""

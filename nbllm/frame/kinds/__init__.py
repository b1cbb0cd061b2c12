"""The kinds of task: what each asks of which model, and the columns its answers make."""

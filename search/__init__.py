"""What is tried, in what order, and what came of it."""

"""Training: one explicit loop, the task it optimises, and what it writes down."""

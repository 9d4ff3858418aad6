"""What is made of usage for those who ask: periods of time, sums by group, and what they cost."""

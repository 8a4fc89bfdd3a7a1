"""Damaged and hostile inputs by Hypothesis: each gives a right answer or one InputError."""

"""Runs trees: one run per tree, its calls and attempts, and the ownership, recovery and drain of trees."""

"""Operators for Stably."""

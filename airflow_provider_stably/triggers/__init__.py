"""Triggers for Stably."""

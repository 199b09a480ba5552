"""Hooks for Stably."""

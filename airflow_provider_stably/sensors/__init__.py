"""Sensors for Stably."""

"""Made-up names that tests share."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
KEY = "sk-stably-0123456789abcdef"
PROJECT = "project-1"

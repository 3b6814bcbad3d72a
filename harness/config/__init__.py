"""YAML words -> core.Rollout, all problems together. `load` a file, `parse` a plain document, `json_schema` for editors."""

from harness.config.loading import digest, load, parse
from harness.config.schema import json_schema

__all__ = ["digest", "json_schema", "load", "parse"]

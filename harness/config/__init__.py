"""YAML words -> core.Rollout, all problems together. `load` a file (`load_all`: one of several challengers), `parse` a plain document,
`json_schema` for editors.
"""

from harness.config.loading import chosen, digest, load, load_all, parse, parse_all
from harness.config.schema import json_schema

__all__ = ["chosen", "digest", "json_schema", "load", "load_all", "parse", "parse_all"]

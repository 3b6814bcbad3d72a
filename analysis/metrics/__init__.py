"""Metrics: pair table -> contributions -> sufficient statistics that add up. One fold for every kind of metric."""

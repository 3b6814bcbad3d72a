"""What no gate uses and callers of the package may want: boundaries, calibrators, estimates that lean on predictions."""

"""Sequential tests: valid at every look at once. One file a method; `designs` chooses the constants of a gate before its data."""

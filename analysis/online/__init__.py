"""The two arms of a canary: units that one model or the other serves, what happens to them, and which arm does better."""

"""What the statistics promise, measured on seeded streams with known truth; `make calibrate` prints it for docs/statistics.md."""

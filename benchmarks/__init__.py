"""What the audit costs, told as ratios to what OpenTelemetry costs in the same run: ``python -m benchmarks``."""

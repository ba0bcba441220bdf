"""The scaler, with DPDK's telemetry played."""

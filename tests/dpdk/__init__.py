"""The telemetry client and the scaler against a real DPDK process."""

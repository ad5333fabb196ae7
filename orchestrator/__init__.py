"""The driver: plans, hands out shards, stores, reduces and reports. Imports no torch."""

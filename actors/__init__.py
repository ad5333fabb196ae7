"""What runs on the device: loading a variant, scoring, generating, measuring memory."""

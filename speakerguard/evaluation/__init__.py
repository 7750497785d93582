"""How good it is: trials, error rates, calibration."""

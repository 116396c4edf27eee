"""What every system's HTTP shares: one caller, one retry strategy, one table of errors, one throttle a host, tokens."""

"""What ``run`` and ``worker`` do: serve one connection or many, cycle after cycle, until they are stopped."""

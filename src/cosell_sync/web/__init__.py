"""What the daemon shows over HTTP: health, metrics, webhooks and the console."""

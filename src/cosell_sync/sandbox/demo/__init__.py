"""The demo: what sellers and Microsoft do, and whether both systems agree afterwards."""

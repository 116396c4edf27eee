"""The values of the co-sell choice fields that both CRMs offer their sellers."""

CLOSED_REASONS = (
    "Budget insufficient", "Customer did not respond", "Other vendor chosen", "Requirement not met",
    "Not a customer", "Timeline too short", "Abuse, spam or phishing", "Other",
)  # fmt: skip
HELP_KINDS = (
    "Workload-specific value proposition", "Customer technical architecture", "Proof of concept or demo",
    "Quotes or licensing", "Post-sales customer success", "General or other",
)  # fmt: skip

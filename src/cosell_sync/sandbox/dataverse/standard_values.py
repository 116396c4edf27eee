"""The values that an environment starts with: currencies and connection roles."""

CONNECTION_ROLES = {
    "Stakeholder": 1000, "Decision Maker": 1000, "Economic Buyer": 1000, "Technical Buyer": 1000, "Influencer": 1000,
    "Champion": 1000, "End User": 1000, "Key Employee": 1000, "Account Manager": 1001, "Sales Professional": 1001,
    "Industry Expert": 1001, "Product Expert": 1001, "Delivery Professional": 1001, "Territory Manager": 1001,
}  # fmt: skip

CURRENCIES = {
    "USD": ("US Dollar", "$", "1", 2), "EUR": ("Euro", "€", "0.92", 2), "GBP": ("Pound Sterling", "£", "0.79", 2),
    "JPY": ("Yen", "¥", "151", 0), "CHF": ("Swiss Franc", "CHF", "0.89", 2), "CAD": ("Canadian Dollar", "$", "1.37", 2),
}  # fmt: skip

"""The values that an org starts with: stages, currencies, countries and states."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """An opportunity stage."""

    name: str
    probability: int
    category: str
    closed: bool = False
    won: bool = False


STAGES = (
    Stage("Prospecting", 10, "Pipeline"),
    Stage("Qualification", 10, "Pipeline"),
    Stage("Needs Analysis", 20, "Pipeline"),
    Stage("Value Proposition", 50, "Pipeline"),
    Stage("Id. Decision Makers", 60, "Pipeline"),
    Stage("Perception Analysis", 70, "Pipeline"),
    Stage("Proposal/Price Quote", 75, "Pipeline"),
    Stage("Negotiation/Review", 90, "Pipeline"),
    Stage("Closed Won", 100, "Closed", closed=True, won=True),
    Stage("Closed Lost", 0, "Omitted", closed=True),
)

CATEGORY_LABELS = {"BestCase": "Best Case", "Forecast": "Commit", "MostLikely": "Most Likely"}

CURRENCIES = {"USD": "1", "EUR": "0.92", "GBP": "0.79", "JPY": "151", "CHF": "0.89", "CAD": "1.37"}

CORPORATE_CURRENCY = "USD"

COUNTRIES = {
    "US": "United States", "CA": "Canada", "MX": "Mexico", "BR": "Brazil", "GB": "United Kingdom", "IE": "Ireland",
    "DE": "Germany", "AT": "Austria", "CH": "Switzerland", "FR": "France", "ES": "Spain", "PT": "Portugal",
    "IT": "Italy", "NL": "Netherlands", "BE": "Belgium", "DK": "Denmark", "SE": "Sweden", "NO": "Norway",
    "FI": "Finland", "PL": "Poland", "CZ": "Czech Republic", "AU": "Australia", "NZ": "New Zealand", "JP": "Japan",
    "IN": "India", "SG": "Singapore", "ZA": "South Africa", "AE": "United Arab Emirates", "IL": "Israel",
    "KR": "Korea, Republic of",
}  # fmt: skip

STATES = {
    "US": {
        "AZ": "Arizona", "CA": "California", "CO": "Colorado", "FL": "Florida", "GA": "Georgia", "IL": "Illinois",
        "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota", "NC": "North Carolina", "NJ": "New Jersey",
        "NY": "New York", "OH": "Ohio", "OR": "Oregon", "PA": "Pennsylvania", "TX": "Texas", "UT": "Utah",
        "VA": "Virginia", "WA": "Washington",
    },
    "CA": {"AB": "Alberta", "BC": "British Columbia", "ON": "Ontario", "QC": "Quebec"},
    "AU": {"NSW": "New South Wales", "QLD": "Queensland", "VIC": "Victoria", "WA": "Western Australia"},
}  # fmt: skip

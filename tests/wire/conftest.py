"""Every acceptance scenario plays with both CRMs; pytest plays all of a module with one before it takes the other."""

from __future__ import annotations

import pytest
from crm_vocabulary import CRMS


@pytest.fixture(scope="module", params=CRMS)
def crm(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name

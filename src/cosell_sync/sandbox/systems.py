"""Starts the three fake systems together, served over TLS on loopback and filled with sample deals.

The demo, the `sandbox` command and the wire tests use it. A client learns the addresses and credentials from environment
variables of the documented configuration (`Sandbox.environment`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID, CLIENT_SECRET
from cosell_sync.sandbox.dataverse.seller import DataverseSeller
from cosell_sync.sandbox.dataverse.service import Dataverse
from cosell_sync.sandbox.demo.seed import sales_pipeline
from cosell_sync.sandbox.exchange import App, Request, Response
from cosell_sync.sandbox.partner_center import samples
from cosell_sync.sandbox.partner_center.service import PartnerCenter
from cosell_sync.sandbox.salesforce.auth import CONSUMER_KEY, CONSUMER_SECRET
from cosell_sync.sandbox.salesforce.seller import SalesforceSeller
from cosell_sync.sandbox.salesforce.service import Salesforce
from cosell_sync.sandbox.seller import Seller
from cosell_sync.sandbox.server import Server


class Sandbox:
    """Partner Center, Salesforce and Dataverse, served on loopback. Also a context manager."""

    def __init__(
        self,
        *,
        deals: int = 0,
        seed: int = 7,
        clock: Callable[[], datetime] | None = None,
        installed: bool = True,
        of_earlier_version: bool = False,
        crm: str = "salesforce",
    ) -> None:
        """``installed``: whether the CRM holds our fields already; ``of_earlier_version``: only those that an earlier version
        made. ``crm``: the one that `environment` names.
        """
        self.crm = crm
        self.clock = clock or Clock()
        self.certificates = Certificates()
        self.partner_center = PartnerCenter(self.clock)
        self.salesforce = Salesforce(
            self.clock, cosell_fields_installed=installed, of_earlier_version=of_earlier_version
        )
        self.dynamics = Dataverse(
            self.clock, cosell_installed=installed, of_earlier_version=of_earlier_version
        )
        self.seller: Seller = (
            SalesforceSeller(self.salesforce) if crm == "salesforce" else DataverseSeller(self.dynamics)
        )
        for email in samples.USERS:
            first, last, phone = samples.PEOPLE[email]
            self.salesforce.add_user(first, last, email, phone)
            self.dynamics.add_user(first, last, email, phone)
        if deals:
            self.partner_center.load(sales_pipeline(deals, seed=seed, now=self.clock()))
        context = self.certificates.server_context()
        self.partner_center_server = Server(self._dated(self.partner_center), context, name="partner center")
        self.salesforce_server = Server(self._dated(self.salesforce), context, name="salesforce")
        self.dynamics_server = Server(self._dated(self.dynamics), context, name="dynamics")

    @property
    def crm_server(self) -> Server:
        """The server of the CRM that `environment` names."""
        return self.salesforce_server if self.crm == "salesforce" else self.dynamics_server

    @property
    def servers(self) -> tuple[Server, ...]:
        """Partner Center, Salesforce, Dynamics."""
        return self.partner_center_server, self.salesforce_server, self.dynamics_server

    def _dated(self, app: App) -> App:
        """Sets the Date header of every answer to the time of the sandbox's clock."""

        def answer(request: Request) -> Response:
            response = app(request)
            response.headers.setdefault("Date", format_datetime(self.clock(), usegmt=True))
            return response

        return answer

    def start(self) -> Self:
        for server in self.servers:
            server.start()
        self.partner_center.webhooks.address = self.partner_center_server.url
        return self

    def stop(self) -> None:
        self.partner_center.webhooks.stop()
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self, home: Path) -> dict[str, str]:
        """The variables with which `cosell-sync` finds this sandbox; files go into ``home``."""
        authority = home / "sandbox-ca.pem"
        self.certificates.write(authority)
        signing = home / "sandbox-signing-root.pem"
        signing.write_bytes(self.partner_center.webhooks.authority_pem)
        entra = self.partner_center.entra
        return {
            "SSL_CERT_FILE": str(authority),
            "REQUESTS_CA_BUNDLE": str(authority),
            "CURL_CA_BUNDLE": str(authority),
            "COSELL_PARTNER_CENTER__BASE_URL": self.partner_center_server.url,
            "COSELL_DEFAULT_PARTNER_CENTER__WEBHOOK_BASE_URL": self.partner_center_server.url,
            "COSELL_DEFAULT_WEBHOOKS__TRUSTED_ROOTS": str(signing),
            "COSELL_DEFAULT_WEBHOOKS__CERTIFICATE_HOSTS": self.partner_center_server.url.removeprefix(
                "https://"
            ),
            "COSELL_PARTNER_CENTER__AUTHORITY": self.partner_center_server.url,
            "COSELL_PARTNER_CENTER__TENANT_ID": entra.tenant,
            "COSELL_PARTNER_CENTER__CLIENT_ID": entra.client_id,
            **({"COSELL_PARTNER_CENTER__CLIENT_SECRET": entra.client_secret} if entra.client_secret else {}),
            "COSELL_PARTNER_CENTER__REFRESH_TOKEN": entra.refresh_token,
            "COSELL_STORE__URL": f"sqlite:///{home / 'cosell-sync.db'}",
            "COSELL_CRM": self.crm,
            **(self._salesforce() if self.crm == "salesforce" else self._dynamics()),
        }

    def _salesforce(self) -> dict[str, str]:
        return {
            "COSELL_SALESFORCE__LOGIN_URL": self.salesforce_server.url,
            "COSELL_SALESFORCE__CONSUMER_KEY": CONSUMER_KEY,
            "COSELL_SALESFORCE__CONSUMER_SECRET": CONSUMER_SECRET,
        }

    def _dynamics(self) -> dict[str, str]:
        return {
            "COSELL_DYNAMICS__URL": self.dynamics_server.url,
            "COSELL_DYNAMICS__AUTHORITY": self.dynamics_server.url,
            "COSELL_DYNAMICS__TENANT_ID": self.dynamics.entra.tenant,
            "COSELL_DYNAMICS__CLIENT_ID": CLIENT_ID,
            "COSELL_DYNAMICS__CLIENT_SECRET": CLIENT_SECRET,
            **({"COSELL_DYNAMICS__CLOSED_ROWS": "true"} if self.dynamics.closed_rows_writable else {}),
        }

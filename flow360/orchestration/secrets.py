"""Airflow's connections out of Vault, and nowhere else (stack/layers/vaulted.yaml).

The provider's own backend, but for one habit: where a backend fails, Airflow asks the next one, and so would take an
old password from the environment or its metadata without a word. Here Vault's refusal is the answer.
"""

from __future__ import annotations

from airflow.providers.hashicorp.secrets.vault import VaultBackend
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied


class VaultConnections(VaultBackend):
    """Connections by the AppRole of `[secrets] backend_kwargs`."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection's URI.

        Raises:
            AirflowSecretsBackendAccessDenied: Vault is down, sealed or refuses: one line, and Airflow asks nobody else.
        """
        import hvac.exceptions
        import requests

        from flow360.clients.secrets import said_of

        try:
            return super().get_conn_value(conn_id, team_name)
        except hvac.exceptions.VaultError as error:
            # It signs in again whenever its token is over, so a 403 is about the policy or the secret.
            said = said_of(error, "get", str(error.url or f"{self.connections_path[0]}/{conn_id}"), lambda: False)
            line = f"{said} (connection {conn_id})"
        except requests.RequestException as error:
            line = f"vault does not answer: {type(error).__name__} (connection {conn_id})"
        raise AirflowSecretsBackendAccessDenied(line) from None

"""Notification blocks that Prefect lacks: a signed webhook, and every address of Apprise (e-mail).

The webhook is signed as https://www.standardwebhooks.com asks.

Three headers say which message it is and prove who sent it:

================= ==============================================================================
webhook-id        the message; the same however often it is sent, so a receiver drops repetitions
webhook-timestamp seconds since 1970 of this attempt; a receiver refuses what is minutes old
webhook-signature ``v1,`` and the HMAC-SHA256, in base64, of ``id.timestamp.body`` under the secret
================= ==============================================================================

The body is JSON: ``type`` (such as ``alarm.raised``), ``timestamp``, and ``data`` with ``subject``
and ``text``. Every language has a library that verifies it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime

import httpx
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import AppriseNotificationBlock
from pydantic import Field, HttpUrl, SecretStr, field_validator
from standardwebhooks import Webhook

__all__ = ["AppriseMessage", "SignedWebhook"]

#: Prefect's own picture of a webhook.
_LOGO = HttpUrl(
    "https://raw.githubusercontent.com/PrefectHQ/prefect/420d0d6a78bb6df1fc18bcf188fdad43c1d22ea9/assets/block-logos/webhook.png"
)


class AppriseMessage(AppriseNotificationBlock):
    """Sends messages to an address that Apprise knows, such as that of a mail server.

    Examples
    --------
    >>> mail = AppriseMessage(url="mailtos://user:password@example.com?to=shift@example.com")
    >>> mail.save("shift")  # doctest: +SKIP
    """

    _block_type_name = "Apprise Message"
    _block_type_slug = "apprise-message"
    _logo_url = _LOGO
    _documentation_url = HttpUrl("https://appriseit.com/services/")

    url: SecretStr = Field(
        title="Address", description="mailtos://user:password@host?to=…, or another of Apprise."
    )


class SignedWebhook(NotificationBlock):
    """Posts messages as JSON, with an id and a signature by which a receiver knows them.

    Examples
    --------
    >>> block = SignedWebhook(url="https://plant.example/hook", secret="whsec_" + "c2VjcmV0" * 4)
    >>> block.save("operators")  # doctest: +SKIP
    """

    _block_type_name = "Signed Webhook"
    _block_type_slug = "signed-webhook"
    _logo_url = _LOGO
    _documentation_url = HttpUrl("https://www.standardwebhooks.com/")

    url: SecretStr = Field(title="URL", description="Where messages are posted.")
    secret: SecretStr = Field(
        title="Secret", description="Base64 of 24 to 64 random bytes, with or without 'whsec_'."
    )
    timeout_s: float = Field(default=10, gt=0, title="Timeout", description="Seconds to wait.")

    @field_validator("secret")
    @classmethod
    def _is_key(cls, secret: SecretStr) -> SecretStr:
        try:
            Webhook(secret.get_secret_value())
        except Exception as error:
            raise ValueError(
                'the secret is no base64 text; make one with: python -c "import base64, secrets; '
                "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""
            ) from error
        return secret

    def deliver(self, message_id: str, kind: str, subject: str, text: str) -> None:
        """Post one message; raises where the receiver does not confirm it."""
        now = datetime.now(UTC)
        content = {
            "type": kind,
            "timestamp": now.isoformat(),
            "data": {"subject": subject, "text": text},
        }
        body = json.dumps(content, ensure_ascii=False)
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret.get_secret_value()).sign(
                message_id, now, body
            ),
        }
        url = self.url.get_secret_value()
        answer = httpx.post(url, content=body.encode(), headers=headers, timeout=self.timeout_s)
        answer.raise_for_status()

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Post a message of others, such as an automation; its content names it."""
        name = hashlib.sha256(json.dumps([subject, body]).encode()).hexdigest()[:16]
        await asyncio.to_thread(self.deliver, name, "notification", subject or "", body)

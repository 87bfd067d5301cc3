"""``/me/tokens``: API tokens, for a browser session only."""

from __future__ import annotations

from .handler import LoopatHandler
from .schemas import ApiTokenCreated, ApiTokenList, ApiTokenView, CreateToken


class TokensHandler(LoopatHandler):
    credentials = "session"

    async def post(self) -> None:
        wanted = await self.read_body(CreateToken, optional=True)
        token, secret = await self.context.tokens.create(self.caller.name, wanted.label)
        self.send_json(
            201,
            ApiTokenCreated(
                token_id=token.token_id,
                token=secret,
                label=token.label,
                created_at=token.created_at,
            ),
        )

    async def get(self) -> None:
        self.refuse_oversized()
        views = []
        for token, last_used_at in await self.context.tokens.of_owner(self.caller.name):
            used = {} if last_used_at is None else {"last_used_at": last_used_at}
            views.append(
                ApiTokenView(
                    token_id=token.token_id,
                    label=token.label,
                    created_at=token.created_at,
                    **used,
                )
            )
        self.send_json(200, ApiTokenList(tokens=views))


class TokenHandler(LoopatHandler):
    credentials = "session"

    async def delete(self, token_id: str) -> None:
        self.refuse_oversized()
        await self.context.tokens.revoke(self.caller.name, token_id)
        self.send_json(204)

"""``/me/tokens``: API tokens, for a browser session only."""

from __future__ import annotations

from .handler import LoopatHandler
from .operations import Operation, ResponseSpec, operation
from .parameters import TOKEN_ID
from .schemas import ApiTokenCreated, ApiTokenList, ApiTokenView, CreateToken

_VIEW = {"tokenId": "tok_0a1b2c3d4e5f", "label": "ci", "createdAt": "2026-01-31T12:00:00.000000Z"}


class TokensHandler(LoopatHandler):
    @operation(
        Operation(
            "createToken",
            "tokens",
            "Make an API token",
            ResponseSpec(
                201,
                "The new token; its secret is shown this once.",
                ApiTokenCreated,
                {**_VIEW, "token": "la_" + "0123456789abcdef" * 3},
            ),
            credentials="session",
            body=CreateToken,
            body_required=False,
            body_example={"label": "ci"},
            errors=("invalid_json", "invalid_parameter"),
        )
    )
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

    @operation(
        Operation(
            "listTokens",
            "tokens",
            "List your API tokens, newest first",
            ResponseSpec(200, "Your tokens.", ApiTokenList, {"tokens": [_VIEW]}),
            credentials="session",
        )
    )
    async def get(self) -> None:
        self.refuse_oversized()
        views = []
        for token, last_used_at in await self.context.tokens.of_owner(self.caller.name):
            view = ApiTokenView(
                token_id=token.token_id, label=token.label, created_at=token.created_at
            )
            if last_used_at is not None:
                view.last_used_at = last_used_at
            views.append(view)
        self.send_json(200, ApiTokenList(tokens=views))


class TokenHandler(LoopatHandler):
    @operation(
        Operation(
            "revokeToken",
            "tokens",
            "Revoke an API token",
            ResponseSpec(204, "Revoked; every open stream of it ends within a second."),
            credentials="session",
            parameters=(TOKEN_ID,),
            errors=("token_not_found",),
        )
    )
    async def delete(self, token_id: str) -> None:
        self.refuse_oversized()
        await self.context.tokens.revoke(self.caller.name, token_id)
        self.send_json(204)

"""Why an invite token does not let a node in: one class and one clear sentence for each reason.

The texts go to the terminal as they are. None of them repeats the token: it is a secret.
"""

import time


class TokenError(Exception):
    """An invite token is of no use here. `str()` is one sentence for a person, with what to do."""

    code = "token_error"
    """A stable word for the join exchange and for JSON output."""
    sentence = "the invite token cannot be used: ask a member of the mesh for a new one."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence or self.sentence)


class TokenNotRecognisedError(TokenError):
    """The text is no token at all."""

    code = "token_not_recognised"
    sentence = (
        "this is not an invite token: tokens begin with mesh1- and are shown when a node starts, "
        "or made with `mesh-llm token new`."
    )


class TokenVersionError(TokenError):
    """A token of a later (or earlier) software."""

    code = "token_version"
    sentence = (
        "the invite token is of a version that this software does not know: update mesh-llm on "
        "this machine, or make the token with the same version."
    )


class TokenTruncatedError(TokenError):
    """The end is missing."""

    code = "token_truncated"
    sentence = "the invite token is cut off: copy the whole line again (--join-file avoids this)."


class TokenMangledError(TokenError):
    """Some characters differ from what was issued."""

    code = "token_mangled"
    sentence = (
        "the invite token was changed on its way (its checksum differs): copy it again, whole."
    )


class TokenExpiredError(TokenError):
    """Its time is over."""

    code = "token_expired"

    def __init__(self, expires_s: float | None = None, now_s: float | None = None) -> None:
        """`expires_s` and `now_s` are Unix times; None when only the other side knows."""
        when = ""
        if expires_s is not None and now_s is not None:
            ended = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(expires_s))
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
            when = f" on {ended} (this machine's clock says {now})"
        super().__init__(
            f"the invite token expired{when}: ask a member for a new one (`mesh-llm token new`)."
        )


class TokenUsedUpError(TokenError):
    """As many nodes as it allows have joined by it."""

    code = "token_used_up"
    sentence = (
        "the invite token has been used as often as it allows: ask a member for a new one "
        "(`mesh-llm token new`)."
    )


class TokenRevokedError(TokenError):
    """An operator took it back."""

    code = "token_revoked"
    sentence = "the invite token has been revoked: ask a member of the mesh for a new one."


class TokenRefusedError(TokenError):
    """The mesh does not know its secret: another mesh, an old epoch, or changed limits."""

    code = "token_refused"
    sentence = (
        "the mesh does not accept this invite token (it was made before the mesh's key was rotated, "
        "or for another mesh): ask a member for a new one."
    )


class TokenClientsOnlyError(TokenError):
    """A full node came with a token for clients."""

    code = "token_clients_only"
    sentence = "the invite token is for clients only: start with --client, or ask for a full token."


class OwnTokenError(TokenError):
    """The node's own token."""

    code = "token_own"
    sentence = (
        "this invite token was issued by this very node: use it on another machine; this one is "
        "in that mesh already. (If this is another machine, its home was copied: remove its `key`.)"
    )


class NodeRevokedError(TokenError):
    """The mesh has expelled this node's id."""

    code = "node_revoked"
    sentence = (
        "the mesh has revoked this node's id: ask its operator, or join as a new node with an "
        "empty MESH_LLM_HOME."
    )


class JoinPendingError(TokenError):
    """The mesh takes new members only after an operator's approval."""

    code = "join_pending"
    sentence = (
        "the mesh takes new members by approval: a member must approve this node, which will "
        "keep asking."
    )


class JoinRejectedError(TokenError):
    """An operator of the mesh said no."""

    code = "join_rejected"
    sentence = (
        "an operator of the mesh has not let this node in: ask them, then start it again; it may ask "
        "anew in ten minutes."
    )


class JoinBusyError(TokenError):
    """The member is limiting how many join at a time."""

    code = "join_busy"
    sentence = "the member is busy with other joins: trying again in a moment."


BY_CODE: dict[str, type[TokenError]] = {
    error.code: error
    for error in (
        TokenError,
        TokenNotRecognisedError,
        TokenVersionError,
        TokenTruncatedError,
        TokenMangledError,
        TokenExpiredError,
        TokenUsedUpError,
        TokenRevokedError,
        TokenRefusedError,
        TokenClientsOnlyError,
        OwnTokenError,
        NodeRevokedError,
        JoinPendingError,
        JoinRejectedError,
        JoinBusyError,
    )
}

"""The token that a running Ray asks for, from where Ray's own programs take it: never an argument or a setting."""

from collections.abc import Mapping
from pathlib import Path

from cluster.errors import SubmissionError

HOW_TO_GIVE_IT = (
    "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it, to the token of that Ray "
    "(`ray get-auth-token` on its head node shows it)"
)


def token_headers(environment: Mapping[str, str]) -> dict[str, str]:
    """HTTP headers with the token, if there is one.

    RAY_AUTH_TOKEN, else the file at RAY_AUTH_TOKEN_PATH, else, with RAY_AUTH_MODE=token, ~/.ray/auth_token; nothing
    with RAY_AUTH_MODE=disabled. Raises SubmissionError for a file that holds no token.
    """
    mode, given = environment.get("RAY_AUTH_MODE", ""), environment.get("RAY_AUTH_TOKEN", "").strip()
    named = environment.get("RAY_AUTH_TOKEN_PATH", "")
    if mode == "disabled":
        return {}
    if not given and named:
        given = _read(Path(named).expanduser())
    elif not given and mode == "token":
        usual = Path("~/.ray/auth_token").expanduser()
        given = _read(usual) if usual.is_file() else ""
    if not given:
        return {}
    if not given.isascii() or not given.isprintable() or " " in given:
        # Its value is a secret, so the message does not show it.
        raise SubmissionError(f"the token for Ray holds characters that no HTTP header may; {HOW_TO_GIVE_IT}")
    return {"Authorization": f"Bearer {given}"}


def _read(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SubmissionError(f"the token for Ray cannot be read from {path} ({error}); {HOW_TO_GIVE_IT}") from error
    if not token:
        raise SubmissionError(f"{path} holds no token for Ray; {HOW_TO_GIVE_IT}")
    return token

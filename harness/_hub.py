"""Fetches a model folder from the Hub: weights as safetensors, configuration, tokenizer, card. No code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from breakeven.harness.errors import UserError

FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt", "README.md", "1_Pooling/*"]


def has_snapshot(hub_id: str) -> bool:
    """Whether a snapshot of the model lies in the local Hub cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def snapshot(name: str, hub_id: str, *, hint: str, say: Callable[[str], None]) -> Path:
    """The local snapshot of a Hub model, downloaded if it is not there (HF_HUB_OFFLINE forbids that).

    Raises:
        UserError: no such model, no access, or no connection.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=FILES, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass
    try:
        say(f"Fetching {hub_id} from the Hub")
        return Path(snapshot_download(hub_id, allow_patterns=FILES))
    except errors.GatedRepoError as error:
        raise UserError(
            f"model '{name}' asks for its terms to be accepted",
            hint="Accept them on its page at the Hub and log in with `hf auth login`",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"model '{name}' is not on the Hub (or is private)", hint=hint) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HFValidationError) as error:
        raise UserError(f"model '{name}' is not on this machine and cannot be fetched", hint=hint) from error
    except (OSError, errors.HfHubHTTPError) as error:
        said = str(error).splitlines()
        raise UserError(
            f"model '{name}' could not be fetched: {said[0] if said else error!r}", hint=hint
        ) from error

"""Folders that are either whole or absent, and go to the hub."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm_eagle.errors import UserError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that becomes `out` when the block ends well, and vanishes when it does not.

    Raises:
        UserError: `out` exists already or cannot be written.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"{out} exists already. Remove it, or give another folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error}") from error
    try:
        (scratch / "new").mkdir()
        yield scratch / "new"
        (scratch / "new").rename(out)
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def upload(folder: Path, repository: str, private: bool) -> str:
    """Uploads a folder to the hub, with the token that Hugging Face's tools know; the URL.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="EAGLE-3 draft"))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise UserError(f"{folder} is written, but the upload to {repository!r} failed: {error}") from error

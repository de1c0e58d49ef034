"""Files that are whole or not there.

Everything a run leaves behind is written through this module: first to a
temporary name beside the final one, then renamed. A file that exists under
its own name is therefore complete, whatever happened to the program. Nothing
here knows what the files hold.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.errors import OutputError

__all__ = ["write_json", "write_text", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file through `write`, which is given a temporary path beside `path`.

    Parameters
    ----------
    path : pathlib.Path
        Where the file is to be. Its folder must exist.
    write : callable
        Writes the whole file at the path it is given. The temporary path has
        the suffix of `path`, because plotting libraries choose a format by it.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    OutputError
        If it cannot be written: no permission, no space, no folder. Nothing is
        left under either name, and an older file under `path` is untouched.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or (str(error).splitlines() or [type(error).__name__])[0]
        raise OutputError(f"hydra.run.dir: cannot write '{path}': {reason}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write text as UTF-8 with Unix line ends, whole or not at all."""
    return write_whole(path, lambda place: place.write_bytes(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a mapping as indented JSON, whole or not at all."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

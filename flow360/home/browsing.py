"""What JupyterLab's file browser shows of the checkout: what a learner reads and writes, and not the machinery."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

# By name and not by what is shown: a file that a learner puts beside these is there. notebooks/ and labs/ are the
# originals, of which the learner has copies in work/.
MACHINERY = frozenset(
    {
        "flow360",
        "stack",
        "tests",
        "scripts",
        "solutions",
        "notebooks",
        "labs",
        "build",
        "compose.yaml",
        "course.toml",
        "pyproject.toml",
        "requirements.lock",
        "requirements-uv.lock",
        "CONTRIBUTING.md",
        "LICENSE",
        "LICENSE-TEXT.md",
    }
)


class Tidy(AsyncLargeFileManager):
    """Jupyter's own manager of files, whose listing of the checkout itself leaves out the machinery."""

    async def get(self, path: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        """Read as Jupyter's own does; what is left out of the listing can be opened by its path."""
        found = await super().get(path, *arguments, **more)
        if not path.strip("/") and found["type"] == "directory" and found["content"]:
            found["content"] = [one for one in found["content"] if one["name"] not in MACHINERY]
        return found

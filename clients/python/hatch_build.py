"""Pack the repository's examples into the distribution, for ``tailrace up --demo``."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExamplesHook(BuildHookInterface[Any]):
    """Add the examples: from the root of a checkout, or from an unpacked source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Choose the folder that exists, and its place in the archive.

        Args:
            version: ``standard`` or ``editable``; an editable install reads the checkout.
            build_data: What the builder packs beside the sources.
        """
        if self.target_name == "wheel" and version == "editable":
            return
        packed = Path(self.root, "examples")
        source = packed if packed.is_dir() else Path(self.root, "../../examples").resolve()
        target = "tailrace/examples" if self.target_name == "wheel" else "examples"
        build_data["force_include"][str(source)] = target

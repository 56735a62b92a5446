"""Code grids in a file: what a prior is trained on, encoded once.

A safetensors file, free of pickle: `codes` `[n, *grid]`, conditions beside them, and a header
with the fingerprint of the first stage that made them, so that codes of another are refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from vqvideo.data.clips import Sample

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CodeSet(Dataset[Sample]):
    """Codes of many clips.

    Attributes:
        codes: int64 `[n, *grid]`.
        codebook_size: K.
        fingerprint: of the first stage that made them; see `VQVAE.fingerprint`.
        conditions: `class_id`, `speaker` `[n]`, `actions` `[n, t]`, where known.
        names: what the numbers of `class_id` and `speaker` stand for, in their order.
    """

    codes: Tensor
    codebook_size: int
    fingerprint: str
    conditions: dict[str, Tensor] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.conditions.items():
            if len(values) != len(self.codes):
                raise ValueError(
                    f"{name} must have one entry for each of {len(self.codes)} clips, "
                    f"got {len(values)}"
                )

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> Sample:
        told = {name: values[index] for name, values in self.conditions.items()}
        return {"codes": self.codes[index], **told}

    def save(self, path: str | Path) -> None:
        """Write the file; a crash midway leaves the old one."""
        path = Path(path)
        if len(self.codes) and not 0 <= self.codes.min() <= self.codes.max() < self.codebook_size:
            raise ValueError(f"codes must lie in [0, {self.codebook_size}) to be stored")
        small = torch.uint8 if self.codebook_size <= 256 else torch.int32
        header = {
            "format_version": FORMAT_VERSION,
            "codebook_size": self.codebook_size,
            "fingerprint": self.fingerprint,
            "names": self.names,
        }
        temporary = path.with_name(f".{path.name}.tmp")
        tensors = {"codes": self.codes.to(small), **self.conditions}
        try:
            save_file(
                {name: values.contiguous() for name, values in tensors.items()},
                temporary,
                metadata={"vqvideo_codes": json.dumps(header)},
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(path: str | Path) -> CodeSet:
        """Read a file that `save` wrote.

        Raises:
            ValueError: it is another kind of file, or of a version this one cannot read.
        """
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as cause:
            raise ValueError(f"{path} is no code file, or a damaged one: {cause}") from cause
        with file:
            header = json.loads((file.metadata() or {}).get("vqvideo_codes", "{}"))
            entries = {"format_version", "codebook_size", "fingerprint"}
            is_ours = isinstance(header, dict) and set(header) - {"names"} == entries
            if (
                not is_ours
                or header["format_version"] != FORMAT_VERSION
                or "codes" not in file.keys()  # noqa: SIM118
            ):
                found = header.get("format_version") if isinstance(header, dict) else None
                raise ValueError(
                    f"{path} must be a code file of format version {FORMAT_VERSION}, "
                    f"got {found or 'no code file'}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        codes = tensors.pop("codes").long()
        return CodeSet(
            codes=codes,
            codebook_size=header["codebook_size"],
            fingerprint=header["fingerprint"],
            conditions=tensors,
            names=header.get("names", {}),
        )

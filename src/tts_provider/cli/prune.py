"""`tts-provider prune`: prepared weights that nothing with these settings uses go."""

from __future__ import annotations

from pathlib import Path

from tts_provider.config import Settings
from tts_provider.errors import StartupError


def prune_weights(settings: Settings, *, everything: bool = False) -> None:
    """Raises `StartupError` where CSM's model is not here, so that nobody knows what of it to
    keep."""
    from tts_provider.engines.csm.cpu.prepared import PreparedFolder
    from tts_provider.engines.hub.refusals import in_units
    from tts_provider.engines.kokoro.network.prepared import prune

    weights = PreparedFolder(settings.data_dir / "weights")
    freed = _tell(prune(settings.data_dir / "kokoro", everything=everything))
    if any(weights.folder.glob("*")):
        keep = set() if everything else _keys(settings)
        freed += _tell(weights.prune(keep, max_files=0))
    kept = len(list(weights.folder.glob("*.safetensors")))
    print(
        f"freed {in_units(freed)}; kept {kept} file{'' if kept == 1 else 's'} in {weights.folder}"
    )


def _tell(removed: list[tuple[Path, int]]) -> int:
    """How many bytes went."""
    from tts_provider.engines.hub.refusals import in_units

    for path, size_bytes in removed:
        print(f"removed {path}, {in_units(size_bytes)}")
    return sum(size_bytes for _, size_bytes in removed)


def _keys(settings: Settings) -> set[str]:
    """Of every precision: what the model of these settings prepares."""
    from tts_provider.engines.csm.cpu.policy import POLICIES
    from tts_provider.engines.csm.cpu.weights import prepared_key
    from tts_provider.engines.csm.files.checkpoint import open_checkpoint
    from tts_provider.engines.csm.files.locate import locate

    try:
        files = locate(settings, lambda line: None, may_download=False)
        checkpoint = open_checkpoint(files.folder, files.adapter)
    except StartupError as error:
        raise StartupError(
            f"what to keep cannot be told: {error} (tts-provider prune --all keeps nothing)"
        ) from None
    return {prepared_key(checkpoint, precision) for precision in POLICIES}

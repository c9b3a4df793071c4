"""`tts-provider prune`: prepared weights that the model of these settings does not use go."""

from __future__ import annotations

from tts_provider.config import Settings
from tts_provider.errors import StartupError


def prune_weights(settings: Settings, *, everything: bool = False) -> None:
    """Raises `StartupError` where the model is not here, so that nobody knows what to keep."""
    from tts_provider.engines.csm.cpu.prepared import PreparedFolder
    from tts_provider.engines.hub.refusals import in_units

    folder = PreparedFolder(settings.data_dir / "weights")
    keep = set() if everything else _keys(settings)
    removed = folder.prune(keep, max_files=0)
    for path, size_bytes in removed:
        print(f"removed {path}, {in_units(size_bytes)}")
    kept = len(list(folder.folder.glob("*.safetensors")))
    freed = in_units(sum(size_bytes for _, size_bytes in removed))
    print(f"freed {freed}; kept {kept} file{'' if kept == 1 else 's'} in {folder.folder}")


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

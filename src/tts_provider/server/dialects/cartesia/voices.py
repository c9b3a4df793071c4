"""The voices that Cartesia's clients request, and the speaker for each."""

from __future__ import annotations

from collections.abc import Mapping

from tts_provider.voices.aliases import MAN, WOMAN

# The ids in the code and examples of Cartesia's own package, Pipecat and LiveKit.
VOICES: Mapping[str, int] = {
    "156fb8d2-335b-4950-9cb3-a2d33befec77": WOMAN,  # Helpful Woman
    "228fca29-3a0a-435c-8728-5cb483251068": MAN,  # Kiefer
    "5ee9feff-1265-424a-9d7f-8e4d431a12c7": MAN,  # Ronald
    "694f9389-aac1-45b6-b726-9d9369183238": WOMAN,  # Sarah
    "6ccbfb76-1fc6-48f7-b71d-91ac6298247b": WOMAN,  # Tessa
    "71a7ad14-091c-4e8e-a314-022ece01c121": WOMAN,  # British Reading Lady
    "794f9389-aac1-45b6-b726-9d9369183238": WOMAN,  # Sarah, as older versions wrote her
    "79a125e8-cd45-4c13-8a67-188112f4dd22": WOMAN,  # British Lady
    "86e30c1d-714b-4074-a1f2-1cb6b552fb49": MAN,  # Carson
    "9626c31c-bec5-4cca-baa8-f8ba9e84c8bc": WOMAN,  # Jacqueline
    "a0e99841-438c-4a64-b679-501ae7d6b091": MAN,  # Barbershop Man
    "a167e0f3-df7e-4d52-a9c3-f949145efdab": MAN,  # Blake
    "c2ac25f9-ecc4-4f56-9095-651354df60c0": WOMAN,  # Commercial Lady
    "e07c00bc-4134-4eae-9ea4-1a55fb45746b": WOMAN,  # Brooke
    "f786b574-daa5-4673-aa0c-cbe3e8534c02": WOMAN,  # Katie
    "f9836c6e-a0bd-460e-9d3c-f7299fa60f94": WOMAN,  # Caroline
}

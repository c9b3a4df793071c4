"""CSM-1B: Sesame's conversational speech model, run by our own compact code."""

CSM_REPOSITORY = "sesame/csm-1b"

import sys

from tts_provider.cli import main

sys.exit(main())

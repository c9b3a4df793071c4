import sys

from tts_provider.cli.main import main

sys.exit(main())

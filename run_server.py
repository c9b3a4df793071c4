"""Start the server: `python run_server.py [--host HOST] [--port PORT] [--mode MODE] …`."""

import sys

from tts_provider.cli.main import serve

sys.exit(serve())

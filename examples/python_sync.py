"""A text to a file, and another one heard while it is made: python python_sync.py [URL]"""

import sys
from pathlib import Path

from tts_provider import RequestFailed, TTSClient

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8765"

with TTSClient(url) as client:
    Path("hello.wav").write_bytes(client.speak("Hello there.", speaker=1))
    Path("hello.mp3").write_bytes(client.speak("Hello there.", voice="nova", format="mp3"))

    heard_bytes = 0
    for pcm in client.stream("This one comes while it is made."):
        heard_bytes += len(pcm)  # 16-bit samples, 24 kHz: a player takes them here
    print(f"heard {heard_bytes / 48_000:.1f} s")

    try:
        client.speak("Hello there.", voice="nobody")
    except RequestFailed as error:
        print(f"{error.code}: {error}")

"""OpenAI's own package with another base URL: python openai_sdk.py [URL]"""

import sys

from openai import OpenAI

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8765/v1"
client = OpenAI(base_url=url, api_key="any")  # or one of the server's keys

print([model.id for model in client.models.list()])

with client.audio.speech.with_streaming_response.create(
    model="tts-1", voice="nova", input="Hello from OpenAI's package.", speed=1.1
) as reply:
    reply.stream_to_file("hello.mp3")
print("hello.mp3 is written")

#!/bin/sh
# Over HTTP, from any shell: sh curl.sh [URL]
set -eu
url=${1:-http://localhost:8765}

curl --fail --silent --show-error "$url/v1/audio/speech" --output hello.mp3 \
  --json '{"input": "Hello there.", "voice": "nova"}'

# The audio comes while it is made; --no-buffer hands it on at once.
curl --fail --silent --show-error --no-buffer "$url/v1/audio/speech" \
  --json '{"input": "This one is FLAC.", "response_format": "flac"}' > hello.flac

curl --fail --silent --show-error "$url/v1/audio/voices"
echo

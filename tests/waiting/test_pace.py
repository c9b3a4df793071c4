from __future__ import annotations

from tts_provider.waiting.pace import Pace


async def test_a_listener_hears_at_its_own_speed():
    now_s = 100.0
    pace = Pace(lambda: now_s)
    assert pace.ahead_s < 0
    pace.send(2.0)
    assert pace.ahead_s == 2
    now_s = 101.0
    pace.send(3.0)
    assert pace.ahead_s == 4
    await pace.wait(4.0)
    now_s = 110.0
    assert pace.ahead_s == -5
    pace.send(1.0)  # it begins when it comes
    assert pace.ahead_s == 1

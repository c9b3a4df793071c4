"""Kernels in Triton for what PyTorch takes many small ones for: the draw of a code, the gate, and
RoPE with what it leaves in the cache.

They are used where they can be had and say, on this very device, what PyTorch says; else PyTorch
does it. Triton comes with PyTorch's builds for CUDA on Linux, and wants a C compiler.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from tts_provider.engines.csm.sampling import BOOK_SHIFT, FRAME_SHIFT, MIX_1, MIX_2, STEP
from tts_provider.engines.csm.torch import language
from tts_provider.engines.csm.torch.language import Places
from tts_provider.engines.csm.torch.sampling import NoiseDraws, candidates, noise, signed, silu_gate

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

log = logging.getLogger(__name__)

_GATE_BLOCK = 1024


def why_not(device: torch.device) -> str | None:
    """None where the kernels work on `device`; else why they are not used."""
    if triton is None:
        return "Triton is not installed"
    try:
        if (wrong := _compare(device)) is not None:
            return f"{wrong} otherwise than PyTorch"
    except Exception as error:  # noqa: BLE001 - a compiler's, a driver's, of any kind
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def _compare(device: torch.device) -> str | None:
    """What the kernels do otherwise than PyTorch, if anything."""
    random = torch.Generator().manual_seed(0)
    rows, codes = 16, 2048
    logits = (2 * torch.randn((rows, codes), generator=random)).to(device)
    keys = torch.arange(rows, device=device) * 0x1234567812345
    top_k = torch.tensor([1, 3, 50, 64], device=device).repeat(rows // 4)
    inverses = torch.full((rows, 2), 1 / 0.9, device=device)
    allowed = candidates(top_k, 64)
    plain = NoiseDraws(noise(keys, keys % 99, 2, codes), (allowed, allowed), inverses)
    ours = KernelDraws(keys, keys % 99, (top_k, top_k), inverses)
    for book in (0, 1):
        same = plain.pick(book, logits)[0] == ours.pick(book, logits)[0]
        if int(same.sum()) < rows - 1:  # the last bit of a logarithm may decide one of them
            return "the kernel draws"
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn((3, 2 * _GATE_BLOCK + 64), generator=random).to(device, dtype)
        if not torch.allclose(gate(x).float(), silu_gate(x).float(), rtol=2e-2, atol=1e-3):
            return "the kernel gates"
        if not _turns_alike(dtype, device, random):
            return "the kernel turns"
    return None


def _turns_alike(dtype: torch.dtype, device: torch.device, random: torch.Generator) -> bool:
    """Whether RoPE and the cache are PyTorch's."""
    tokens, heads, kv_heads, size, positions = 6, 8, 2, 64, 5
    qkv = torch.randn((tokens, heads + 2 * kv_heads, size), generator=random).to(device, dtype)
    angles = torch.randn((tokens, heads + 2 * kv_heads, size // 2), generator=random)
    rotations = torch.polar(torch.ones_like(angles), angles).to(device)
    numbers = torch.arange(tokens, device=device)
    for each in (rotations, rotations[:1]):
        places = Places(tokens - numbers, numbers % positions, each)
        # Keys of other numbers are beside those of this layer, as in the backbone's cache.
        caches = torch.zeros((2, tokens + 1, 2, kv_heads, positions, size), device=device)
        plain, ours = caches.to(dtype)
        queries = language.turn(qkv.clone(), places, plain), turn(qkv.clone(), places, ours)
        for one, other in (queries, (plain, ours)):
            rtol = 1e-2 if dtype == torch.bfloat16 else 1e-5
            if not torch.allclose(one.float(), other.float(), rtol=rtol, atol=1e-5):
                return False
    return True


@dataclass(frozen=True)
class KernelDraws:
    """As `NoiseDraws`, a kernel a code, whose noise is made where it is needed."""

    keys: Tensor  # int64 [B]
    frames: Tensor  # int64 [B]
    top_ks: tuple[Tensor, Tensor]  # int64 [B] each, of code 0 and of the others
    inverse_temperatures: Tensor  # float32 [B, 2]

    def pick(self, book: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        rows, codes = logits.shape
        code = torch.empty(rows, dtype=torch.int64, device=logits.device)
        best = torch.empty(rows, dtype=torch.float32, device=logits.device)
        kind = min(book, 1)
        _draw[(rows,)](
            *(logits.contiguous(), self.keys.contiguous(), self.frames.contiguous()),
            *(self.top_ks[kind].contiguous(), self.inverse_temperatures[:, kind].contiguous()),
            *(code, best, codes, (book << BOOK_SHIFT) + 1),
            BLOCK=triton.next_power_of_2(codes),
            STEP=signed(STEP),
            MIX_1=signed(MIX_1),
            MIX_2=signed(MIX_2),
            FRAME_SHIFT=FRAME_SHIFT,
        )
        return code, best


def gate(gate_up: Tensor) -> Tensor:
    """silu(gate) · up, of [N, 2 · mlp] the halves → [N, mlp]."""
    rows, mlp = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty((rows, mlp), dtype=gate_up.dtype, device=gate_up.device)
    _gate[(rows, triton.cdiv(mlp, _GATE_BLOCK))](gate_up, out, mlp, BLOCK=_GATE_BLOCK)
    return out


def turn(qkv: Tensor, places: Places, cache: Tensor) -> Tensor:
    """As `language.turn`, queries turned where they are."""
    qkv = qkv.contiguous()
    tokens, all_heads, size = qkv.shape
    kv_heads = cache.shape[2]
    heads = all_heads - 2 * kv_heads
    rows, positions, rotations = places.rows, places.positions, torch.view_as_real(places.rotations)
    _turn[(tokens, all_heads)](
        *(qkv, rotations, cache, rows, positions, heads, kv_heads, size),
        *(rotations.stride(0) if len(rotations) > 1 else 0, rotations.stride(1)),
        *(rows.stride(0), positions.stride(0), *cache.stride()[:4]),
        BLOCK=triton.next_power_of_2(size // 2),
        num_warps=1,
    )
    return qkv[:, :heads]


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _draw(  # type: ignore[no-untyped-def]
        logits,
        keys,
        frames,
        top_ks,
        inverses,
        chosen,
        bests,
        count,
        book,
        BLOCK: tl.constexpr,  # noqa: N803
        STEP: tl.constexpr,  # noqa: N803
        MIX_1: tl.constexpr,  # noqa: N803
        MIX_2: tl.constexpr,  # noqa: N803
        FRAME_SHIFT: tl.constexpr,  # noqa: N803
    ):
        """A row's code, as engines/csm/sampling.py defines it.

        The best score of all wins if its logit is among the k largest. If not, neither are those
        that are no larger, and the best of the others is next: one round or two, as a rule, where
        sorting would be dozens.
        """
        row = tl.program_id(0)
        codes = tl.arange(0, BLOCK)
        inside = codes < count
        x = tl.load(logits + row * count + codes, mask=inside, other=-float("inf")).to(tl.float32)
        is_nan = x != x
        has_nan = tl.sum(is_nan.to(tl.int32), 0) > 0
        x = tl.where(is_nan, -float("inf"), x)
        best = tl.max(x, 0)

        number = (tl.load(frames + row).to(tl.int64) << FRAME_SHIFT) + book
        z = tl.load(keys + row) + (codes.to(tl.int64) + number) * STEP
        # As if z were unsigned: what is shifted in are zeros.
        z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * MIX_1
        z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * MIX_2
        uniform = (((z >> 40) & 0xFFFFFF) | 1).to(tl.float32) * (1.0 / 16777216.0)
        noise = -tl.log(-tl.log(uniform))

        k = tl.maximum(tl.load(top_ks + row), 1)
        score = (x - best) * tl.load(inverses + row)
        score = tl.where(k > 1, score + noise, score)  # greedy needs no round but one
        # Above what is not allowed, whatever it is: each round takes one that is, and so ends.
        score = tl.where(score > -3.0e38, score, -3.0e38)
        score = tl.where(inside, score, -float("inf"))
        allowed = inside
        code = tl.argmax(score, 0)
        value = tl.max(tl.where(codes == code, x, -float("inf")), 0)
        ahead = inside & ((x > value) | ((x == value) & (codes < code)))
        while tl.sum(ahead.to(tl.int32), 0) >= k:
            allowed = allowed & ahead
            code = tl.argmax(tl.where(allowed, score, -float("inf")), 0)
            value = tl.max(tl.where(codes == code, x, -float("inf")), 0)
            ahead = inside & ((x > value) | ((x == value) & (codes < code)))
        tl.store(chosen + row, code.to(tl.int64))
        tl.store(bests + row, tl.where(has_nan, float("nan"), best))

    @triton.jit  # type: ignore[untyped-decorator]
    def _gate(x, out, mlp, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
        row = tl.program_id(0).to(tl.int64)
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = columns < mlp
        left = tl.load(x + row * 2 * mlp + columns, mask=inside, other=0.0)
        right = tl.load(x + row * 2 * mlp + mlp + columns, mask=inside, other=0.0)
        wide = left.to(tl.float32)
        # PyTorch rounds between its two kernels, and so does this.
        gated = (wide / (1.0 + tl.exp(-wide))).to(left.dtype)
        product = (gated.to(tl.float32) * right.to(tl.float32)).to(left.dtype)
        tl.store(out + row * mlp + columns, product, mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _turn(  # type: ignore[no-untyped-def]
        qkv,
        rotations,
        cache,
        rows,
        positions,
        heads,
        kv_heads,
        size,
        rotation_token_stride,
        rotation_head_stride,
        rows_stride,
        positions_stride,
        row_stride,
        part_stride,
        head_stride,
        position_stride,
        BLOCK: tl.constexpr,  # noqa: N803
    ):
        """A token's head: neighbors are a pair, which is turned as a complex number."""
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        pairs = tl.arange(0, BLOCK)
        inside = pairs < size // 2
        source = qkv + (token * tl.num_programs(1) + head) * size + 2 * pairs
        left = tl.load(source, mask=inside, other=0.0)
        right = tl.load(source + 1, mask=inside, other=0.0)
        by = rotations + token * rotation_token_stride + head * rotation_head_stride + 2 * pairs
        cosine = tl.load(by, mask=inside, other=0.0)
        sine = tl.load(by + 1, mask=inside, other=0.0)
        x, y = left.to(tl.float32), right.to(tl.float32)
        turned_x = (x * cosine - y * sine).to(left.dtype)
        turned_y = (x * sine + y * cosine).to(left.dtype)
        if head < heads:
            tl.store(source, turned_x, mask=inside)
            tl.store(source + 1, turned_y, mask=inside)
        else:
            row = tl.load(rows + token * rows_stride)
            position = tl.load(positions + token * positions_stride)
            number = head - heads  # keys first, then values
            target = cache + row * row_stride + position * position_stride + 2 * pairs
            target += (number // kv_heads) * part_stride + (number % kv_heads) * head_stride
            tl.store(target, turned_x, mask=inside)
            tl.store(target + 1, turned_y, mask=inside)

"""Kokoro's graph, cut in three so that speech can be heard before all of its sentence is made.

    encoder    phonemes, style, speed → features of each frame, and how long phonemes last
    harmonics  pitch → the spectrum of a voice without a mouth
    generator  features and harmonics → samples; any stretch of the frames

The first two are an eighth of the time, and are computed once for a sentence. Places are found by
what is computed there, because exports name their tensors differently. The generator's instance
norms look at all frames at once, so that a stretch would sound unlike the whole: each one's mean
and variance becomes an input, taken instead where `is_given` says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx
from onnx import TensorProto, helper

from tts_provider.engines.kokoro import KOKORO_REPOSITORY
from tts_provider.engines.kokoro.network.names import (
    AUDIO,
    DURATIONS,
    FEATURES,
    HARMONICS,
    IS_GIVEN,
    PITCH,
    SPEED,
    STYLE,
    TOKENS,
    mean_of,
    statistics_names,
    used,
    variance_of,
)
from tts_provider.errors import StartupError

_INT64, _FLOAT, _BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL


@dataclass(frozen=True)
class Parts:
    """Three models, serialized."""

    encoder: bytes
    """tokens (1, L) int64, style (1, 256), speed (1,) → features (1, C, N F), pitch (1, 2 F),
    durations (1, L)."""
    harmonics: bytes
    """pitch (1, 2 F) → harmonics (1, B, 120 F + 1)."""
    generator: bytes
    """features, harmonics, style, is_given () bool, means and variances → audio (600 F), and the
    means and variances that were used."""
    norms: int


_Found = TypeVar("_Found")


class _Unknown(Exception):
    """A place that is not there."""


def cut(model: bytes) -> Parts:
    """Cut the graph. Raises `StartupError` if it is not Kokoro's."""
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as error:  # noqa: BLE001 - protobuf raises errors of its own
        raise StartupError(f"this file cannot be read as an ONNX model: {error}") from None
    try:
        places = _Places(proto.graph)
        return Parts(
            encoder=_encoder(proto, places),
            harmonics=_harmonics(proto, places),
            generator=_generator(proto, places),
            norms=len(places.norms),
        )
    except _Unknown as error:
        raise StartupError(
            f"this ONNX file is not a graph of Kokoro-82M that this version knows: {error}; take "
            f"onnx/model_quantized.onnx or onnx/model.onnx of {KOKORO_REPOSITORY}"
        ) from None


@dataclass(frozen=True)
class _Norm:
    """mean = mean over time of `source`; variance = mean over time of (source - mean)²."""

    source: str
    axes: str
    mean: str
    variance: str
    nodes: tuple[onnx.NodeProto, ...]
    """Those that compute both; `Sub`, which others use too, is not among them."""


class _Places:
    """Where Kokoro's parts meet, by the tensors' names in this graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Raises `_Unknown`."""
        self.made = {name: node for node in graph.node for name in node.output if name}
        self.constants = {tensor.name for tensor in graph.initializer}
        self.users = defaultdict[str, list[onnx.NodeProto]](list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.tokens, self.style, self.speed = _inputs(graph)
        self.audio = _first((each.name for each in graph.output), "it has an output")
        clip = _only(graph, "Clip", "the durations of phonemes are clipped")
        self.durations = clip.output[0]
        stft = _only(graph, "STFT", "the harmonics are analyzed")
        below = self._descendants(stft.output[0])
        self.harmonics = _first(
            (n for n in graph.node if n.op_type == "Concat" and below.issuperset(n.input)),
            "magnitude and phase of the harmonics are joined",
        ).output[0]
        joined = _first(
            (n for n in graph.node if n.op_type == "Concat" and self._is_aligned(n)),
            "frames, pitch and energy are joined",
        )
        aligned = next(name for name in joined.input if self._is_matmul(name))
        curves = [self._curve(name) for name in joined.input if name != aligned]
        above = self._ancestors(stft.input[0])
        self.pitch = _first((c for c in curves if c in above), "the pitch makes the harmonics")
        self.features = self._find_features(graph, aligned)
        self.norms = self._find_norms(graph)

    def _is_matmul(self, name: str) -> bool:
        return name in self.made and self.made[name].op_type in ("MatMul", "FusedMatMul")

    def _is_aligned(self, node: onnx.NodeProto) -> bool:
        return len(node.input) == 3 and sum(map(self._is_matmul, node.input)) == 1

    def _curve(self, name: str) -> str:
        """The (1, 2 F) curve that a convolution of it came from."""
        waiting, seen = [name], {name}
        while waiting:
            node = self.made.get(waiting.pop(0))
            if node is None:
                continue
            if node.op_type == "Unsqueeze":
                return str(node.input[0])
            fresh = [each for each in node.input if each and each not in seen]
            seen.update(fresh)
            waiting += fresh
        raise _Unknown("the curves of pitch and energy were not found")

    def _find_features(self, graph: onnx.GraphProto, aligned: str) -> str:
        """What is made of the frames alone and meets the harmonics first."""
        of_harmonics = self._descendants(self.harmonics)
        of_frames = self._descendants(aligned) - of_harmonics
        return _first(
            (
                str(name)
                for node in graph.node
                if not of_harmonics.isdisjoint(node.input)
                for name in node.input
                if name in of_frames
            ),
            "the frames meet the harmonics",
        )

    def _find_norms(self, graph: onnx.GraphProto) -> list[_Norm]:
        generator = self._ancestors(self.audio, {self.features, self.harmonics})
        found = []
        for node in graph.node:
            if node.op_type != "ReduceMean" or node.output[0] not in generator:
                continue
            square = self.made.get(node.input[0])
            if square is None or square.op_type not in ("Mul", "Pow"):
                continue
            centered = self.made.get(square.input[0])
            if centered is None or centered.op_type != "Sub":
                continue
            mean = self.made.get(centered.input[1])
            if mean is None or mean.op_type != "ReduceMean" or len(node.input) != 2:
                continue
            found.append(
                _Norm(
                    source=mean.input[0],
                    axes=mean.input[1],
                    mean=mean.output[0],
                    variance=node.output[0],
                    nodes=(mean, square, node),
                )
            )
        if not found:
            raise _Unknown("the generator has no instance norms")
        return found

    def _descendants(self, name: str) -> set[str]:
        return _reach(name, lambda one: [o for n in self.users[one] for o in n.output])

    def _ancestors(self, name: str, border: Iterable[str] = ()) -> set[str]:
        stop = frozenset(border)

        def above(one: str) -> list[str]:
            node = None if one in stop else self.made.get(one)
            return [] if node is None else [each for each in node.input if each]

        return _reach(name, above)


def _reach(name: str, step: Callable[[str], Iterable[str]]) -> set[str]:
    seen, waiting = {name}, [name]
    while waiting:
        fresh = [one for one in step(waiting.pop()) if one not in seen]
        seen.update(fresh)
        waiting += fresh
    return seen


def _inputs(graph: onnx.GraphProto) -> tuple[str, str, str]:
    """The names of the tokens, the style and the speed."""
    kinds = {
        (each.type.tensor_type.elem_type, len(each.type.tensor_type.shape.dim)): each.name
        for each in graph.input
    }
    try:
        return kinds[_INT64, 2], kinds[_FLOAT, 2], kinds[_FLOAT, 1]
    except KeyError:
        names = ", ".join(each.name for each in graph.input) or "none"
        raise _Unknown(
            f"its inputs are {names}, and not tokens (1, L) of int64, a style (1, 256) and a "
            "speed (1,) of float32"
        ) from None


def _only(graph: onnx.GraphProto, operator: str, where: str) -> onnx.NodeProto:
    found: list[onnx.NodeProto] = [node for node in graph.node if node.op_type == operator]
    if len(found) != 1:
        raise _Unknown(f"it has {len(found)} operators {operator}, not the one where {where}")
    return found[0]


def _first(found: Iterable[_Found], where: str) -> _Found:
    for each in found:
        return each
    raise _Unknown(f"nowhere is it that {where}")


# The parts


def _encoder(proto: onnx.ModelProto, at: _Places) -> bytes:
    inputs = {at.tokens: TOKENS, at.style: STYLE, at.speed: SPEED}
    outputs = {
        at.features: FEATURES,
        at.pitch: PITCH,
        at.durations: DURATIONS,
    }
    return _part(proto, _nodes_between(proto.graph, at, inputs, outputs), inputs, outputs)


def _harmonics(proto: onnx.ModelProto, at: _Places) -> bytes:
    inputs, outputs = {at.pitch: PITCH}, {at.harmonics: HARMONICS}
    return _part(proto, _nodes_between(proto.graph, at, inputs, outputs), inputs, outputs)


def _generator(proto: onnx.ModelProto, at: _Places) -> bytes:
    inputs = {at.features: FEATURES, at.harmonics: HARMONICS, at.style: STYLE}
    outputs = {at.audio: AUDIO}
    nodes = _nodes_between(proto.graph, at, inputs, outputs)
    begins = {id(norm.nodes[0]): number for number, norm in enumerate(at.norms)}
    replaced = {id(node) for norm in at.norms for node in norm.nodes}
    edited = list[onnx.NodeProto]()
    for node in nodes:
        if id(node) in begins:
            number = begins[id(node)]
            edited.append(_choice(at.norms[number], number))
        elif id(node) not in replaced:
            edited.append(node)
    given = {name: name for name in (IS_GIVEN, *statistics_names(len(at.norms)))}
    for number, norm in enumerate(at.norms):
        outputs[norm.mean] = used(mean_of(number))
        outputs[norm.variance] = used(variance_of(number))
    return _part(proto, edited, {**inputs, **given}, outputs)


def _choice(norm: _Norm, number: int) -> onnx.NodeProto:
    """Mean and variance, the given ones or else the frames' own."""

    def branch(name: str, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> Any:
        values = [helper.make_tensor_value_info(each, _FLOAT, None) for each in outputs]
        return helper.make_graph(nodes, name, [], values)

    names = [f"{norm.mean}_given", f"{norm.variance}_given"]
    sources = [mean_of(number), variance_of(number)]
    given = [
        helper.make_node("Identity", [source], [name])
        for source, name in zip(sources, names, strict=True)
    ]
    mean, centered, square, variance = (
        f"{norm.mean}_{part}" for part in ("own", "centered", "square", "variance")
    )
    own = [
        helper.make_node("ReduceMean", [norm.source, norm.axes], [mean], keepdims=1),
        helper.make_node("Sub", [norm.source, mean], [centered]),
        helper.make_node("Mul", [centered, centered], [square]),
        helper.make_node("ReduceMean", [square, norm.axes], [variance], keepdims=1),
    ]
    made: onnx.NodeProto = helper.make_node(
        "If",
        [IS_GIVEN],
        [norm.mean, norm.variance],
        then_branch=branch("given", given, names),
        else_branch=branch("own", own, [mean, variance]),
    )
    return made


def _nodes_between(
    graph: onnx.GraphProto, at: _Places, inputs: Iterable[str], outputs: Iterable[str]
) -> list[onnx.NodeProto]:
    """Those that make the outputs of the inputs, in the graph's order. Raises `_Unknown` where more
    than the inputs is needed."""
    known, needed, waiting = {*inputs, *at.constants, ""}, set[int](), list(outputs)
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        node = at.made.get(name)
        if node is None:
            raise _Unknown(f"its parts cannot be separated: one needs the input {name!r}")
        needed.add(id(node))
        waiting += node.input
    return [node for node in graph.node if id(node) in needed]


def _part(
    proto: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> bytes:
    """A model of these nodes; its inputs and outputs have other names than in the whole."""
    names = {**inputs, **outputs}
    renamed = [_renamed(node, names) for node in nodes]
    wanted = set(_names(renamed))
    graph = helper.make_graph(
        renamed,
        "kokoro",
        [helper.make_tensor_value_info(name, _type_of(name), None) for name in inputs.values()],
        [helper.make_tensor_value_info(name, _FLOAT, None) for name in outputs.values()],
        [tensor for tensor in proto.graph.initializer if tensor.name in wanted],
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    made: bytes = model.SerializeToString()
    return made


def _type_of(name: str) -> int:
    return {TOKENS: _INT64, IS_GIVEN: _BOOL}.get(name, _FLOAT)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    for attribute in copy.attribute:
        if attribute.HasField("g"):
            inner = [_renamed(each, names) for each in attribute.g.node]
            del attribute.g.node[:]
            attribute.g.node.extend(inner)
    return copy


def _names(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Of every tensor that the nodes take, those within a branch too."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _names(attribute.g.node)

"""Small checkpoints with the real structure, written by transformers in every published layout."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lazy_import import lazy_import

from .small_codec import make_small_mimi

safetensors = lazy_import("safetensors.torch")
torch = lazy_import("torch")
transformers = lazy_import("transformers")

ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
}
BACKBONE_ROPE = ROPE | {
    "original_max_position_embeddings": 1024,
    "low_freq_factor": 0.125,
    "high_freq_factor": 0.5,
}
DEPTH_ROPE = ROPE | {
    "original_max_position_embeddings": 16,
    "low_freq_factor": 0.001953125,
    "high_freq_factor": 0.0078125,
}


def small_csm(seed: int = 0) -> transformers.CsmForConditionalGeneration:
    """A few narrow layers, all 32 codebooks, and Mimi's real shape made narrow."""
    torch.manual_seed(seed)
    codec = make_small_mimi(seed, codebook_size=2048)
    config = transformers.CsmConfig(
        text_vocab_size=128_256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rope_parameters=BACKBONE_ROPE,
        depth_decoder_config={
            "backbone_hidden_size": 64,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "rope_parameters": DEPTH_ROPE,
        },
        codec_config=codec.config.to_dict(),
    )
    model = transformers.CsmForConditionalGeneration(config).eval().float()
    model.codec_model.load_state_dict(codec.state_dict())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("codec_model."):
                continue
            if parameter.dim() > 1:  # far from uniform logits, so that argmax has no near ties
                parameter.normal_(0, 0.6 if "embed" in name or "head" in name else 0.12)
            else:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
        # transformers lets the three special codes be sampled, we mask them: never the best here.
        model.lm_head.weight[2048:] = 0
        model.depth_decoder.codebooks_head.weight[:, :, 2048:] = 0
    return model


def save_transformers_layout(model: transformers.CsmForConditionalGeneration, folder: Path) -> Path:
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    return folder


def original_tensors(model: transformers.CsmForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The same numbers under the original layout's names, RoPE rows interleaved."""
    state = model.state_dict()
    out = {
        "text_embeddings.weight": state["embed_text_tokens.weight"],
        "audio_embeddings.weight": state["backbone_model.embed_tokens.embed_audio_tokens.weight"],
        "projection.weight": state["depth_decoder.model.inputs_embeds_projector.weight"],
        "codebook0_head.weight": state["lm_head.weight"],
        "audio_head": state["depth_decoder.codebooks_head.weight"],
        "backbone.norm.scale": state["backbone_model.norm.weight"],
        "decoder.norm.scale": state["depth_decoder.model.norm.weight"],
    }
    names = {
        "self_attn.q_proj.weight": "attn.q_proj.weight",
        "self_attn.k_proj.weight": "attn.k_proj.weight",
        "self_attn.v_proj.weight": "attn.v_proj.weight",
        "self_attn.o_proj.weight": "attn.output_proj.weight",
        "mlp.gate_proj.weight": "mlp.w1.weight",
        "mlp.down_proj.weight": "mlp.w2.weight",
        "mlp.up_proj.weight": "mlp.w3.weight",
        "input_layernorm.weight": "sa_norm.scale",
        "post_attention_layernorm.weight": "mlp_norm.scale",
    }
    for ours, theirs, head_size in (
        ("backbone_model", "backbone", model.config.head_dim),
        ("depth_decoder.model", "decoder", model.config.depth_decoder_config.head_dim),
    ):
        for name, tensor in state.items():
            if not name.startswith(f"{ours}.layers."):
                continue
            number, rest = name.removeprefix(f"{ours}.layers.").split(".", 1)
            if "q_proj" in rest or "k_proj" in rest:
                halves = tensor.reshape(-1, 2, head_size // 2, tensor.shape[1])
                tensor = halves.transpose(1, 2).reshape(tensor.shape)
            out[f"{theirs}.layers.{number}.{names[rest]}"] = tensor
    return {name: tensor.clone().contiguous() for name, tensor in out.items()}


def save_original_layout(
    model: transformers.CsmForConditionalGeneration, folder: Path, *, pickle: bool
) -> Path:
    """`model.safetensors` or `ckpt.pt`; our `config.json` says the small dimensions."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tensors = original_tensors(model)
    if pickle:
        torch.save(tensors, folder / "ckpt.pt")
    else:
        safetensors.save_file(tensors, folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    return folder


def write_tokenizer(path: Path) -> None:
    """A byte-level tokenizer with Llama 3's special ids: every byte is a token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))

"""Settings that some families have alone, by their GGUF keys: of latent attention, scans, delta-nets and so on."""

from __future__ import annotations

OF_FAMILIES: dict[str, tuple[str, str, str]] = {
    "attention.q_lora_rank": ("PF215", "rank of the latent of queries", "q_lora_rank"),
    "attention.kv_lora_rank": ("PF215", "rank of the latent of keys and values", "kv_lora_rank"),
    "attention.key_length_mla": ("PF215", "head size of keys, out of the latent", "qk_nope_head_dim + qk_rope_head_dim"),
    "attention.value_length_mla": ("PF215", "head size of values, out of the latent", "v_head_dim"),
    "attention.key_length_swa": ("PF215", "head size of keys in layers with a window", "head_dim"),
    "attention.value_length_swa": ("PF215", "head size of values in layers with a window", "head_dim"),
    "attention.shared_kv_layers": ("PF215", "layers that share keys and values", "num_kv_shared_layers"),
    "embedding_length_per_layer_input": ("PF215", "width of the embeddings of every layer", "hidden_size_per_layer_input"),
    "rope.dimension_count_swa": ("PF215", "rotary dimensions in layers with a window", "rope_parameters.sliding_attention"),
    "rope.scaling.finetuned": ("PF215", "rotary positions at all", "position_embedding_type"),
    "attention.recurrent_layers": ("PF215", "layers that keep a state", "layer_types"),
    "expert_group_count": ("PF215", "groups of experts", "n_group"),
    "expert_group_used_count": ("PF215", "groups of experts used a token", "topk_group"),
    "expert_shared_feed_forward_length": ("PF215", "width of the shared expert", "shared_expert_intermediate_size"),
    "interleave_moe_layer_step": ("PF215", "which layers have experts", "interleave_moe_layer_step"),
    "leading_dense_block_count": ("PF215", "dense layers before those with experts", "first_k_dense_replace"),
    "ssm.conv_kernel": ("PF215", "width of the convolution", "conv_kernel"),
    "ssm.inner_size": ("PF215", "inner width of the state's layers", "num_heads x head_dim"),
    "ssm.state_size": ("PF215", "size of the state", "state_size"),
    "ssm.time_step_rank": ("PF215", "heads of the state", "num_heads"),
    "ssm.group_count": ("PF215", "groups of the state", "n_groups"),
    "kda.head_dim": ("PF215", "head size of delta attention", "linear_head_dim"),
    "shortconv.l_cache": ("PF215", "width of the short convolution", "conv_L_cache"),
    "xielu.alpha_n": ("PF215", "slope of xIELU below zero", "mlp.act_fn.alpha_n"),
    "xielu.alpha_p": ("PF215", "slope of xIELU above zero", "mlp.act_fn.alpha_p"),
    "xielu.beta": ("PF215", "linear part of xIELU", "mlp.act_fn.beta"),
    "xielu.eps": ("PF215", "where xIELU begins to bend", "mlp.act_fn.eps"),
}
"""GGUF key: code, name, field of config.json or tensor of the checkpoint."""

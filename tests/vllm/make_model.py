"""Makes a tiny model that vLLM can serve on two cores, with its tokenizer: make_model.py FOLDER.

The weights are random, with one seed, so that nothing is downloaded and each run has the same text. What they are shaped
for is that the text has what real text has:

* Almost all tokens are words with a space before them. A tokenizer gives those back as they were, which it does for the
  text of a trained model, but not for random pieces of words. The few that begin without a space make texts that it
  reads in other tokens.
* Three characters have no token of their own: the first byte of each is followed by the others. So a stream may
  break between the tokens of one character.
* One byte is never a part of a character, so that some texts have U+FFFD.
* Attention and the place of a token count for much in what follows, so that text does not soon go in a circle.

It runs with the Python of vLLM, which has all it needs: numpy, safetensors and tokenizers.
"""

import json
import pathlib
import sys

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SEED = 19
LAYERS, HIDDEN, HEADS, HEAD_SIZE, INNER = 2, 64, 2, 32, 128
CONTEXT = 2048
END, USER, ASSISTANT = SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>")
SPLIT_CHARACTERS = ("é", "€", "🌊")
STRAY_BYTE = 0xFF
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# What a byte-pair tokenizer learned from the documents of this repository. It is not learned anew, so that the model stays
# the same when they change.
MERGES = pathlib.Path(__file__).with_name("merges.txt")


def visible(byte):
    """How a byte-level vocabulary writes this byte: control characters, the space and a few more have a stand-in."""
    as_they_are = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in as_they_are:
        return chr(byte)
    return chr(0x100 + [other for other in range(0x100) if other not in as_they_are].index(byte))


def make_tokenizer(folder):
    merges = [tuple(line.split(" ")) for line in MERGES.read_text(encoding="utf-8").splitlines()]
    texts = [*SPECIAL, *sorted(map(visible, range(0x100))), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({text: token for token, text in enumerate(texts)}, merges))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def chains(vocabulary):
    """For each character without a token: the tokens of its bytes."""
    return [[vocabulary[visible(byte)] for byte in character.encode()] for character in SPLIT_CHARACTERS]


def liking(vocabulary):
    """How easily each token is chosen: the scale of its row in the output's matrix."""
    scale = numpy.full(len(vocabulary), 0.4, dtype=numpy.float32)
    space = visible(ord(" "))
    for text, token in vocabulary.items():
        if text.startswith(space) and text.isascii() is False and text[1:].isalpha():
            scale[token] = 1.0
    for byte in range(0x80, 0x100):
        scale[vocabulary[visible(byte)]] = 0.0
    for first, *_ in chains(vocabulary):
        scale[first] = 1.1
    scale[vocabulary[visible(STRAY_BYTE)]] = 0.9
    scale[vocabulary[END]] = 0.9
    for special in (USER, ASSISTANT):
        scale[vocabulary[special]] = 0.0
    return scale


def make_weights(vocabulary):
    random = numpy.random.default_rng(SEED)

    def matrix(rows, columns, scale=1.0):
        return (random.standard_normal((rows, columns)) * scale / numpy.sqrt(columns)).astype(numpy.float32)

    size = len(vocabulary)
    embedding = random.standard_normal((size, HIDDEN)).astype(numpy.float32)
    output = random.standard_normal((size, HIDDEN)).astype(numpy.float32) * liking(vocabulary)[:, None]
    weights = {"model.norm.weight": numpy.ones(HIDDEN, numpy.float32)}
    links = [link for chain in chains(vocabulary) for link in zip(chain, chain[1:])]
    lanes = range(HIDDEN - len(links), HIDDEN)  # of the hidden state: what says the next byte of a character
    embedding[:, lanes] = output[:, lanes] = 0
    for lane, (before, after) in zip(lanes, links):
        embedding[before, lane] = 100
        output[after, lane] = 100
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        width = HEADS * HEAD_SIZE
        into = {
            "self_attn.q_proj": matrix(width, HIDDEN, 1.5),
            "self_attn.k_proj": matrix(width, HIDDEN, 1.5),
            "self_attn.v_proj": matrix(width, HIDDEN, 2),
            "mlp.gate_proj": matrix(INNER, HIDDEN, 2),
            "mlp.up_proj": matrix(INNER, HIDDEN, 2),
        }
        out_of = {"self_attn.o_proj": matrix(HIDDEN, width, 2), "mlp.down_proj": matrix(HIDDEN, INNER, 2)}
        for part, weight in into.items():
            weight[:, lanes] = 0
            weights[f"{name}{part}.weight"] = weight
        for part, weight in out_of.items():
            weight[lanes, :] = 0
            weights[f"{name}{part}.weight"] = weight
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{name}{norm}.weight"] = numpy.ones(HIDDEN, numpy.float32)
    return {**weights, "model.embed_tokens.weight": embedding, "lm_head.weight": output}


def make_config(vocabulary):
    end = vocabulary[END]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": end,
        "torch_dtype": "float32",
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder).get_vocab()
    (folder / "config.json").write_text(json.dumps(make_config(vocabulary)))
    save_file(make_weights(vocabulary), folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()

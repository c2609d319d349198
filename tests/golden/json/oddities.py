#!/usr/bin/env python3
"""What Python's json module, which most model servers read their requests with, makes of odd bodies.

Writes oddities.txt: one body a line, as hex; what json.loads() says of it; what the gateway must do. `--check`: the file
says what this Python says. The rule that the unit test holds the gateway to: a body is either read as Python reads it,
or refused. None that Python reads may pass by unread.

    python: error | other (read, but no object) | MODEL STREAM, the model's bytes as hex ("-": no string, "none": missing)
    gateway: read | refused
"""

import json
import os
import sys

PLAIN = '{"model":"m","prompt":"p","stream":true}'


def bodies():
    """(name, bytes, what the gateway does)"""
    yield "plain", PLAIN.encode(), "read"
    yield "empty object", b"{}", "read"
    for word in ("NaN", "Infinity", "-Infinity"):
        yield word, PLAIN.replace("true", f"true,\"temperature\":{word}").encode(), "read"
        yield word + " deep", PLAIN.replace("true", f"true,\"x\":[[{{\"y\":[1,{word}]}}]]").encode(), "read"
        yield word + " as model", PLAIN.replace('"m"', word).encode(), "refused"
        yield word + " as stream", PLAIN.replace("true", word).encode(), "read"
        yield word + " as max_tokens", PLAIN.replace("true", f"true,\"max_tokens\":{word}").encode(), "read"
        yield word + " alone", word.encode(), "refused"
    for word in ("nan", "NAN", "+Infinity", "-NaN", "Inf", "infinity", "NaNx", "-infinity", "undefined", "None", "True"):
        yield word, PLAIN.replace("true", f"true,\"temperature\":{word}").encode(), "refused"
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"):
        yield encoding, PLAIN.encode(encoding), "refused"
        yield encoding + " other letters", PLAIN.replace('"m"', '"\u4e2d\u6587"').encode(encoding), "refused"
        yield encoding + " space before", (" \n" + PLAIN).encode(encoding), "refused"
    for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"),
                           ("utf-32-le", b"\xff\xfe\0\0"), ("utf-32-be", b"\0\0\xfe\xff")):
        yield encoding + " with mark", mark + PLAIN.encode(encoding), "refused"
    yield "utf-8 with mark", b"\xef\xbb\xbf" + PLAIN.encode(), "read"
    yield "two marks", b"\xef\xbb\xbf\xef\xbb\xbf" + PLAIN.encode(), "refused"
    yield "mark behind space", b" \xef\xbb\xbf" + PLAIN.encode(), "refused"
    yield "utf-7", b"+AHs-" + PLAIN[1:].encode(), "refused"
    yield "latin-1", PLAIN.replace('"m"', '"\xe9"').encode("latin-1"), "refused"
    yield "raw surrogate in the model", PLAIN.encode().replace(b'"m"', b'"\xed\xa0\x80"'), "refused"
    yield "raw surrogate in the prompt", PLAIN.encode().replace(b'"p"', b'"\xed\xa0\x80"'), "refused"
    yield "overlong quote", PLAIN.encode().replace(b'"p"', b'"\xc0\xa2"'), "refused"
    yield "lone surrogate in the model", PLAIN.replace('"m"', '"\\ud800"').encode(), "refused"
    yield "lone surrogate in the prompt", PLAIN.replace('"p"', '"\\ud800"').encode(), "read"
    yield "lone surrogate in a key", PLAIN.replace("true", 'true,"\\udc00":1').encode(), "refused"
    yield "surrogates in the wrong order", PLAIN.replace('"m"', '"\\udc00\\ud800"').encode(), "refused"
    yield "pair of surrogates", PLAIN.replace('"m"', '"\\ud83d\\ude00"').encode(), "read"
    yield "escaped key", PLAIN.replace('"model"', '"\\u006dod\\u0065l"').encode(), "read"
    yield "escaped stream", PLAIN.replace('"stream"', '"\\u0073tream"').encode(), "read"
    yield "escaped model", PLAIN.replace('"m"', '"\\u006d\\/\\n"').encode(), "read"
    yield "NUL in the model", PLAIN.replace('"m"', '"m\\u0000x"').encode(), "read"
    yield "model twice", PLAIN.replace('"prompt"', '"model":"second","prompt"').encode(), "refused"
    yield "model twice by escape", PLAIN.replace('"prompt"', '"mod\\u0065l":"second","prompt"').encode(), "refused"
    yield "model twice, null last", PLAIN.replace('"prompt"', '"model":null,"prompt"').encode(), "refused"
    yield "stream twice", PLAIN.replace('"prompt"', '"stream":false,"prompt"').encode(), "refused"
    yield "prompt twice", PLAIN.replace('"prompt"', '"prompt":"first","prompt"').encode(), "read"
    yield "model in another case", PLAIN.replace('"model"', '"Model"').encode(), "read"
    yield "model with a NUL behind", PLAIN.replace('"model"', '"model\\u0000"').encode(), "read"
    yield "model deeper", PLAIN.replace('"model":"m"', '"x":{"model":"m"}').encode(), "read"
    yield "model is null", PLAIN.replace('"m"', "null").encode(), "read"
    for value in ("1", "true", "[]", "{}", '["m"]'):
        yield f"model is {value}", PLAIN.replace('"m"', value).encode(), "refused"
    for number in ("1e999", "-1e999", "1E400", "0.0000000000000000000000001", "9" * 400, "-0", "-0.0", "1.5e+3",
                   "123456789012345678901234567890"):
        yield f"number {number[:30]}", PLAIN.replace("true", f"true,\"x\":{number}").encode(), "read"
    for number in ("01", "+1", ".5", "1.", "1e", "0x10", "1_000", "--1", "1e+", "\u0661"):
        yield f"number {number}", PLAIN.replace("true", f"true,\"x\":{number}").encode(), "refused"
    for depth, verdict in ((100, "read"), (500, "read"), (600, "refused"), (200000, "refused")):
        yield f"depth {depth}", PLAIN.replace("true", "true,\"x\":" + "[" * depth + "]" * depth).encode(), verdict
    yield "tab in a string", PLAIN.replace('"p"', '"a\tb"').encode(), "refused"
    yield "line end in a string", PLAIN.replace('"p"', '"a\nb"').encode(), "refused"
    yield "DEL in a string", PLAIN.replace('"p"', '"a\x7fb"').encode(), "read"
    yield "line separator in a string", PLAIN.replace('"p"', '"a\u2028b"').encode(), "read"
    for name, space in (("tab", "\t"), ("line ends", "\r\n"), ("many", " " * 5000)):
        yield f"white space: {name}", (space + PLAIN.replace(":", f"{space}:{space}") + space).encode(), "read"
    for name, space in (("form feed", "\f"), ("vertical tab", "\v"), ("no-break", "\u00a0"), ("NUL", "\0")):
        yield f"no white space: {name} before", (space + PLAIN).encode(), "refused"
        yield f"no white space: {name} inside", PLAIN.replace(":", f":{space}", 1).encode(), "refused"
        yield f"no white space: {name} behind", (PLAIN + space).encode(), "refused"
    yield "comment", PLAIN.replace('"prompt"', '/* x */"prompt"').encode(), "refused"
    yield "trailing comma", PLAIN.replace("}", ",}").encode(), "refused"
    yield "second object", (PLAIN + PLAIN).encode(), "refused"
    yield "lines of objects", (PLAIN + "\n" + PLAIN).encode(), "refused"
    yield "guard in front", (")]}',\n" + PLAIN).encode(), "refused"
    yield "single quotes", PLAIN.replace('"', "'").encode(), "refused"
    yield "bare keys", PLAIN.replace('"model"', "model").encode(), "refused"
    yield "array", f"[{PLAIN}]".encode(), "refused"
    yield "string", json.dumps(PLAIN).encode(), "refused"
    yield "null", b"null", "refused"
    yield "cut", PLAIN[:-1].encode(), "refused"
    yield "cut in a string", PLAIN[:12].encode(), "refused"
    yield "empty", b"", "refused"
    yield "white space alone", b" \n\t", "refused"
    yield "form", b"model=m&prompt=p", "refused"
    yield "gzip", bytes.fromhex("1f8b0800000000000003ab56ca2d4a4e55b2524a55d2512a28cacd2f01719432b300"), "refused"


def python_says(body):
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "error"
    if not isinstance(value, dict):
        return "other"
    model = value.get("model")
    if isinstance(model, str):
        model = model.encode("utf-8", "surrogatepass").hex()
    else:
        model = "none" if model is None else "-"
    stream = value.get("stream")
    return f"{model} {'true' if stream is True else 'false' if stream is False or stream is None else '-'}"


def main():
    text = "# Written by oddities.py: name, body as hex, what Python says, what the gateway does; with tabs between.\n"
    for name, body, verdict in bodies():
        # Runs of one byte are long only to be long: "5b*200000".
        text += f"{ascii(name)[1:-1]}\t{shortened(body)}\t{python_says(body)}\t{verdict}\n"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "oddities.txt")
    if sys.argv[1:] == ["--check"]:
        with open(path, encoding="ascii") as recorded:
            old = recorded.read().splitlines()
        different = [(a, b) for a, b in zip(old, text.splitlines()) if a != b]
        for was, now in different:
            print(f"recorded {was[:200]}\nnow      {now[:200]}")
        return 1 if different or len(old) != len(text.splitlines()) else 0
    with open(path, "w", encoding="ascii") as out:
        out.write(text)
    return 0


def shortened(body):
    """Hex, with runs of more than 64 equal bytes as BYTE*COUNT between commas."""
    pieces, plain, at = [], bytearray(), 0
    while at < len(body):
        end = at
        while end < len(body) and body[end] == body[at]:
            end += 1
        if end - at > 64:
            if plain:
                pieces.append(plain.hex())
                plain = bytearray()
            pieces.append(f"{body[at]:02x}*{end - at}")
        else:
            plain += body[at:end]
        at = end
    if plain:
        pieces.append(plain.hex())
    return ",".join(pieces)


if __name__ == "__main__":
    sys.exit(main())

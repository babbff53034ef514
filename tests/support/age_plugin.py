"""An age plug-in for tests: speaks the protocol of https://c2sp.org/age-plugin in full, and hides a file key behind a byte.

Called as age-plugin-bkptest. With --keys it prints a recipient and an identity."""
import base64
import sys

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
MASK = 0x5A


def polymod(values):
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            check ^= generator if top >> bit & 1 else 0
    return check


def bech32(prefix, data):
    bits = "".join(f"{byte:08b}" for byte in data)
    values = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    spread = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = polymod(spread + values + [0] * 6) ^ 1
    values += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(ALPHABET[value] for value in values)


def send(*words, body=b""):
    text = base64.b64encode(body).decode().rstrip("=")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    # The last line is shorter than 64; it may be empty.
    if not lines or len(lines[-1]) == 64:
        lines.append("")
    sys.stdout.write("-> " + " ".join(words) + "\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def receive():
    words = sys.stdin.readline().rstrip("\n").split(" ")[1:]
    text = ""
    while True:
        line = sys.stdin.readline().rstrip("\n")
        text += line
        if len(line) < 64:
            return words, base64.b64decode(text + "=" * (-len(text) % 4))


def phase_one():
    while True:
        words, body = receive()
        if words[0] == "done":
            return
        yield words, body


def masked(data):
    return bytes(byte ^ MASK for byte in data)


if sys.argv[1] == "--keys":
    print(bech32("age1bkptest", b"public"))
    print(bech32("age-plugin-bkptest-", b"private").upper())
elif sys.argv[1] == "--age-plugin=recipient-v1":
    keys = [body for words, body in phase_one() if words[0] == "wrap-file-key"]
    for number, key in enumerate(keys):
        send("recipient-stanza", str(number), "bkptest", body=masked(key))
        receive()
    send("done")
elif sys.argv[1] == "--age-plugin=identity-v1":
    stanzas = [(words[1], body) for words, body in phase_one() if words[0] == "recipient-stanza" and words[2] == "bkptest"]
    for number, body in dict(stanzas).items():
        send("file-key", number, body=masked(body))
        receive()
    send("done")

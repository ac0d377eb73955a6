"""Makes records, writes and reads them as JSON, groups, sorts and joins them. Prints a digest."""

import hashlib
import json


def numbers(seed):
    """A linear congruential generator: the same numbers with every version of Python."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 33


def record(number, random):
    name = "".join("abcdefghijklmnop"[next(random) % 16] for _ in range(4 + next(random) % 12))
    return {
        "id": number,
        "name": name,
        "tags": ["tag%d" % (next(random) % 50) for _ in range(next(random) % 6)],
        "address": {"street": "%s street %d" % (name[:5], next(random) % 300), "floor": None},
        "amounts": [next(random) % 10000 for _ in range(next(random) % 8)],
    }


def main():
    random = numbers(1)
    digest = hashlib.sha256()
    by_tag = {}
    for part in range(6):
        text = json.dumps([record(n, random) for n in range(part * 4000, part * 4000 + 4000)])
        digest.update(text.encode())
        for one in json.loads(text):
            for tag in one["tags"]:
                by_tag.setdefault(tag, []).append((one["name"], sum(one["amounts"])))
    for tag in sorted(by_tag):
        rows = sorted(by_tag[tag], key=lambda row: (row[1], row[0]))
        joined = ";".join("%s=%d" % row for row in rows)
        words = {}
        for word in joined.replace("=", ";").split(";"):
            words[word] = words.get(word, 0) + 1
        digest.update(joined.encode())
        print(tag, len(rows), len(words), rows[len(rows) // 2][1])
    print(digest.hexdigest())


main()

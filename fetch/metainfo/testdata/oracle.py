"""Says, a line of JSON each, how libtorrent reads the .torrent files and magnet links named on standard input."""
import json
import sys

import libtorrent as lt

LIMITS = {"max_buffer_size": 1 << 28, "max_pieces": 1 << 24, "max_decode_tokens": 1 << 26}


def torrent(path):
    t = lt.torrent_info(path, LIMITS)
    f = t.files()
    return {
        "name": t.name(),
        "hash": str(t.info_hashes().v1),
        "hash_v2": str(t.info_hashes().v2) if t.info_hashes().has_v2() else "",
        "piece_length": t.piece_length(),
        "pieces": t.num_pieces(),
        "length": t.total_size(),
        "private": t.priv(),
        "trackers": sorted(tr.url for tr in t.trackers()),
        "files": [
            {
                "path": f.file_path(i),
                "length": f.file_size(i),
                "offset": f.file_offset(i),
                "padding": bool(f.file_flags(i) & lt.file_flags_t.flag_pad_file),
                "link": bool(f.file_flags(i) & lt.file_flags_t.flag_symlink),
            }
            for i in range(f.num_files())
        ],
    }


def magnet(uri):
    p = lt.parse_magnet_uri(uri)
    return {
        "name": p.name,
        "hash": str(p.info_hashes.v1),
        "trackers": sorted(p.trackers),
        "peers": [f"{host}:{port}" for host, port in p.peers],
    }


for line in sys.stdin.buffer:
    what = json.loads(line)
    try:
        answer = magnet(what) if what.lower().startswith("magnet:") else torrent(what)
        answer["ok"] = True
    except Exception as e:
        answer = {"ok": False, "error": str(e)}
    sys.stdout.buffer.write(json.dumps(answer).encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.flush()

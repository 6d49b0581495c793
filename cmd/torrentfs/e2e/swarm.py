"""Drives libtorrent for the end-to-end tests: swarm.py create|seed OPTIONS, with OPTIONS as JSON.

create  makes a .torrent of `path` at `out` and prints {"hash": v1 info-hash}
seed    seeds `torrent` from `folder`, prints {"port": N} once it listens, then answers each line on standard
        input with one line of statistics, and ends with its standard input
fetch   downloads `torrent` into `folder` from the peer at `peer`, and ends when it has all
"""

import json
import os
import sys
import threading
import time

import libtorrent as lt


def create(path, out, piece_length=0, trackers=None, v1_only=True, info=None):
    files = lt.file_storage()
    lt.add_files(files, path)
    torrent = lt.create_torrent(
        files, piece_length, lt.create_torrent.v1_only if v1_only else 0
    )
    for tier, url in enumerate(trackers or []):
        torrent.add_tracker(url, tier)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    tree = torrent.generate()
    for key, value in (info or {}).items():
        tree[b"info"][key.encode()] = value
    encoded = lt.bencode(tree)
    with open(out, "wb") as f:
        f.write(encoded)
    print(json.dumps({"hash": str(lt.torrent_info(encoded).info_hashes().v1)}))


def alerts(session):
    """Gives what libtorrent has to say since the last time. Its wait_for_alert isn't used: see nodes.py."""
    time.sleep(0.02)
    return session.pop_alerts()


def report(session):
    """Logs what libtorrent has to say, and ends the process when it can't read what it seeds."""
    while True:
        for alert in alerts(session):
            print(alert.message(), file=sys.stderr, flush=True)
            if isinstance(alert, (lt.file_error_alert, lt.torrent_error_alert)):
                os._exit(1)


def new_session(port=0, settings=None):
    return lt.session(
        {
            "listen_interfaces": "127.0.0.1:%d" % port,
            "alert_mask": lt.alert.category_t.status_notification
            | lt.alert.category_t.error_notification,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            **(settings or {}),
        }
    )


def seed(torrent, folder, port=0, upload_limit=0, settings=None):
    session = new_session(port, settings)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    # seed_mode trusts the files instead of hashing them first: these are the originals.
    params.flags |= lt.torrent_flags.seed_mode
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if upload_limit:
        params.upload_limit = upload_limit
    listening = False
    while not listening:
        for alert in alerts(session):
            if isinstance(alert, lt.listen_failed_alert):
                sys.exit(alert.message())
            listening |= isinstance(alert, lt.listen_succeeded_alert)
    handle = session.add_torrent(params)
    print(json.dumps({"port": session.listen_port()}), flush=True)
    threading.Thread(target=report, args=(session,), daemon=True).start()
    for _ in sys.stdin:
        status = handle.status()
        print(
            json.dumps({"uploaded": status.total_payload_upload, "peers": status.num_peers}),
            flush=True,
        )


def fetch(torrent, folder, peer, settings=None):
    session = new_session(settings=settings)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(params)
    threading.Thread(target=report, args=(session,), daemon=True).start()
    while not handle.status().is_seeding:
        handle.connect_peer((peer[0], peer[1]))
        time.sleep(0.2)


{"create": create, "seed": seed, "fetch": fetch}[sys.argv[1]](**json.loads(sys.argv[2]))

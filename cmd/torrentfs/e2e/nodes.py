"""Runs libtorrent clients for the end-to-end tests of discovery: nodes.py CLIENTS, with CLIENTS as a JSON list, each

    {"settings": {...}, "torrents": [{"file" or "magnet": ..., "folder": ..., "mode": "seed" or "upload" or "", "peers": [...],
      "upload_limit": bytes a second}], "choosy": true or false}

Of the ways to find peers, those alone are on that the settings turn on. Prints the clients' listening ports as a JSON
list, then answers each line on standard input with a JSON list of statistics, and ends with its standard input.
"""

import json
import sys
import threading
import time

import libtorrent as lt

QUIET = {
    "alert_mask": lt.alert.category_t.all_categories
    & ~lt.alert.category_t.stats_notification
    & ~lt.alert.category_t.session_log_notification
    & ~lt.alert.category_t.torrent_log_notification
    & ~lt.alert.category_t.peer_log_notification
    & ~lt.alert.category_t.picker_log_notification
    & ~lt.alert.category_t.dht_log_notification
    & ~lt.alert.category_t.block_progress_notification
    & ~lt.alert.category_t.piece_progress_notification,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    # A client that wants nothing stays connected to seeders.
    "close_redundant_connections": False,
    # On loopback all nodes of the DHT look like one.
    "dht_announce_interval": 2,
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_prefer_verified_node_ids": False,
    "dht_enforce_node_id": False,
    "dht_ignore_dark_internet": False,
    "dht_bootstrap_nodes": "",
}


def alerts(session):
    """Gives what libtorrent has to say since the last time. Its wait_for_alert isn't used: what that returns may be moved
    while Python looks at it, which crashes now and then."""
    time.sleep(0.02)
    return session.pop_alerts()


def client(settings, torrents=(), choosy=False):
    session = lt.session({**QUIET, **settings})
    if choosy:  # else it serves all peers at private addresses, whatever its slots
        local = session.get_peer_class(session.local_peer_class_id)
        local["ignore_unchoke_slots"] = False
        session.set_peer_class(session.local_peer_class_id, local)
    listening = False
    while not listening:
        for alert in alerts(session):
            if isinstance(alert, lt.listen_failed_alert):
                sys.exit(alert.message())
            listening |= isinstance(alert, lt.listen_succeeded_alert)
    return session, [add(session, **torrent) for torrent in torrents]


def add(session, folder, file=None, magnet=None, mode="", peers=(), upload_limit=0):
    params = lt.parse_magnet_uri(magnet) if magnet else lt.add_torrent_params()
    if file:
        params.ti = lt.torrent_info(file)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if upload_limit:  # that of a session does not hold for private addresses
        params.upload_limit = upload_limit
    if mode == "seed":
        params.flags |= lt.torrent_flags.seed_mode
    if mode == "upload":
        params.flags |= lt.torrent_flags.upload_mode
    handle = session.add_torrent(params)
    for peer in peers:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    return handle


def report(session):
    """Logs what libtorrent has to say."""
    while True:
        for alert in alerts(session):
            print(alert.message(), file=sys.stderr, flush=True)


def describe(session, handles):
    return {
        "nodes": session.status().dht_nodes,
        "peers": [
            "%s:%d" % p.ip
            for h in handles
            for p in h.get_peer_info()
            if not p.flags & (lt.peer_info.connecting | lt.peer_info.handshake)
        ],
        "uploaded": sum(h.status().total_payload_upload for h in handles),
        "done": sum(h.status().total_done for h in handles),
    }


clients = [client(**options) for options in json.loads(sys.argv[1])]
print(json.dumps([session.listen_port() for session, _ in clients]), flush=True)
for session, _ in clients:
    threading.Thread(target=report, args=(session,), daemon=True).start()
for _ in sys.stdin:
    print(json.dumps([describe(*c) for c in clients]), flush=True)

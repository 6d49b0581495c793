# Seeds one torrent from several libtorrent sessions, each a peer of its own, over TCP alone.
# One JSON object comes on standard input, one with the ports goes to standard output; then each line
# that comes asks for the payload bytes sent so far. The end of standard input ends the seeders.
import json, sys
import libtorrent as lt

cfg = json.loads(sys.stdin.readline())
sessions = []
for address, send_buffer in zip(cfg["addresses"], cfg["send_buffers"]):
    ses = lt.session({
        "listen_interfaces": address + ":0",
        "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        "enable_incoming_utp": False, "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True, "announce_to_all_trackers": True,
        "unchoke_slots_limit": -1, "connections_limit": 500,
        "aio_threads": 2, "hashing_threads": 1,
        "send_socket_buffer_size": send_buffer,
        "alert_mask": lt.alert.category_t.tracker_notification | lt.alert.category_t.error_notification,
    })
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(cfg["torrent"])
    params.save_path = cfg["data"]
    params.trackers = cfg["trackers"]
    # Not seed_mode: that hashes every piece once when it is first asked for, in each session, on the reader's processors.
    params.have_pieces = [True] * params.ti.num_pieces()
    params.flags = lt.torrent_flags.override_trackers
    sessions.append((ses, ses.add_torrent(params)))


def wait(ses, kind):
    while True:
        ses.wait_for_alert(10000)
        for alert in ses.pop_alerts():
            if isinstance(alert, kind):
                return alert
            if isinstance(alert, (lt.tracker_error_alert, lt.listen_failed_alert)):
                sys.exit("seeder: " + alert.message())


if cfg["trackers"]:
    for ses, _ in sessions:
        wait(ses, lt.tracker_reply_alert)
print(json.dumps([ses.listen_port() for ses, _ in sessions]), flush=True)

for _ in sys.stdin:
    sent = 0
    for ses, _ in sessions:
        ses.post_session_stats()
        sent += wait(ses, lt.session_stats_alert).values["net.sent_payload_bytes"]
    print(sent, flush=True)

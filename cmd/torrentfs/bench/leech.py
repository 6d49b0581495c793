# Downloads what one peer has of a torrent, again and again, with a few libtorrent sessions, while told to.
# One JSON object comes on standard input; then each line that comes says "on", "off" or "got", and is answered with the
# bytes got so far. The end of standard input ends it all.
import json, os, sys, threading, time
import libtorrent as lt

cfg = json.loads(sys.stdin.readline())
host, port = cfg["peer"].rsplit(":", 1)
on, got = threading.Event(), [0] * cfg["leechers"]


def leech(i):
    ses = lt.session({
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        "enable_incoming_utp": False, "enable_outgoing_utp": False, "alert_mask": 0,
    })
    while True:
        on.wait()
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(cfg["torrent"])
        params.trackers, params.flags = [], lt.torrent_flags.override_trackers
        params.save_path = os.path.join(cfg["data"], str(i))
        handle, before, done = ses.add_torrent(params), got[i], 0
        while on.is_set() and done < cfg["bytes"]:
            handle.connect_peer((host, int(port)))
            time.sleep(0.05)
            done = handle.status().total_done
            got[i] = before + done
        ses.remove_torrent(handle, lt.session.delete_files)


for i in range(cfg["leechers"]):
    threading.Thread(target=leech, args=(i,), daemon=True).start()
print(0, flush=True)
for line in sys.stdin:
    if line.strip() == "on":
        on.set()
    if line.strip() == "off":
        on.clear()
    print(sum(got), flush=True)
os._exit(0)

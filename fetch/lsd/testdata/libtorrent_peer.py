# A libtorrent peer that knows no way to find others but local service discovery, and prints whom it finds.
import sys, threading
import libtorrent as lt

listen, info_hash = sys.argv[1:]
ses = lt.session({
    "listen_interfaces": listen, "enable_lsd": True, "enable_dht": False, "enable_upnp": False, "enable_natpmp": False,
    "alert_mask": lt.alert.category_t.all_categories,
})
params = lt.parse_magnet_uri("magnet:?xt=urn:btih:" + info_hash)
params.save_path = "/tmp"
ses.add_torrent(params)

done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.wait(0.05): # wait_for_alert crashes now and then
    for a in ses.pop_alerts():
        if a.what() in ("lsd_peer", "lsd_error", "listen_failed"):
            print(a.what(), a.message(), flush=True)

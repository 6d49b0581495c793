# A network of libtorrent nodes on loopback addresses, the first of which seeds a torrent. Prints where the seeder is,
# then the peers that the last node finds for the info-hashes read, as long as it runs.
import os, sys, tempfile, threading, time
import libtorrent as lt

bootstrap, count = sys.argv[1], int(sys.argv[2])

def session(ip):
    return lt.session({
        "listen_interfaces": ip + ":0", "enable_dht": True, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "dht_bootstrap_nodes": bootstrap, "dht_announce_interval": 2,
        # on loopback all nodes look like one
        "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False, "dht_prefer_verified_node_ids": False,
        "dht_enforce_node_id": False, "dht_ignore_dark_internet": False,
        "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.dht_operation_notification,
    })

sessions = [session("127.0.0.%d" % (20 + i)) for i in range(count)]

tmp = tempfile.TemporaryDirectory()
name = os.path.join(tmp.name, "file")
with open(name, "wb") as f:
    f.write(os.urandom(1000))
files = lt.file_storage()
lt.add_files(files, name)
torrent = lt.create_torrent(files)
lt.set_piece_hashes(torrent, tmp.name)
info = lt.torrent_info(lt.bencode(torrent.generate()))
params = lt.add_torrent_params()
params.ti, params.save_path = info, tmp.name
sessions[0].add_torrent(params)
while not sessions[0].listen_port():
    time.sleep(0.01)
print("seeder 127.0.0.20:%d %s" % (sessions[0].listen_port(), info.info_hash()), flush=True)

wanted = set()

def report():
    while True:
        for h in list(wanted):
            sessions[-1].dht_get_peers(lt.sha1_hash(bytes.fromhex(h)))  # says nothing when it finds nothing
        time.sleep(0.5) # wait_for_alert crashes now and then
        for a in sessions[-1].pop_alerts():
            if a.what() == "dht_get_peers_reply":
                print("peers", a.info_hash, *["%s:%d" % p for p in a.peers()], flush=True)

threading.Thread(target=report, daemon=True).start()
for line in sys.stdin:
    wanted.add(line.strip())
tmp.cleanup()
os._exit(0)

# Downloads a torrent in order with libtorrent, to disk, and prints how that went as one JSON object.
# The time begins when the torrent is added, so the start of Python is not libtorrent's loss.
import json, resource, sys, time
import libtorrent as lt

cfg = json.loads(sys.stdin.readline())
ses = lt.session({
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False,  # the seeders have none: no time lost on it
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.piece_progress_notification,
})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(cfg["torrent"])
params.save_path = cfg["data"]
params.flags = lt.torrent_flags.sequential_download


def cpu():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


began, cpu_before, first, finished = time.monotonic(), cpu(), None, False
handle = ses.add_torrent(params)
while not finished and time.monotonic() - began < cfg["limit"]:
    ses.wait_for_alert(100)
    for alert in ses.pop_alerts():
        if isinstance(alert, lt.piece_finished_alert) and alert.piece_index == 0:
            first = time.monotonic() - began
        finished = finished or isinstance(alert, lt.torrent_finished_alert)
took, cpu_after = time.monotonic() - began, cpu()
done = handle.status().total_wanted_done
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
print(json.dumps({"seconds": took, "bytes": done, "first": first or 0, "cpu": cpu_after - cpu_before, "peak": peak}), flush=True)
